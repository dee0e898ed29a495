"""Which partition of the log a symbol lives in: Kafka's Java murmur2 over its UTF-8 name, modulo the partition count.

The rule is part of the log's format: every writer, in any language, must place a symbol alike, since ownership and
order are per partition. It equals the Java client's default for a keyed record and librdkafka's partitioner `murmur2`.
The number of partitions of a feed never changes, so an answer holds for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from marketfeed.domain.trades import Int64Array

_SEED = 0x9747B28C
_MULTIPLIER = 0x5BD1E995
_WORD = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Kafka's `Utils.murmur2` as an unsigned 32-bit number (Java prints it signed)."""
    length = len(data)
    h = _SEED ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * _MULTIPLIER & _WORD
        k = (k ^ k >> 24) * _MULTIPLIER & _WORD
        h = h * _MULTIPLIER & _WORD ^ k
    if whole < length:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _WORD
    h = (h ^ h >> 13) * _MULTIPLIER & _WORD
    return h ^ h >> 15


@lru_cache(maxsize=1 << 16)
def partition_of(symbol: str, partitions: int) -> int:
    """The partition, 0 to partitions - 1, that holds everything said about `symbol`."""
    return (murmur2(symbol.encode()) & 0x7FFFFFFF) % partitions


def partitions_of(symbols: Sequence[str], partitions: int) -> Int64Array:
    """The partitions of several symbols, int64, in their order."""
    return np.fromiter((partition_of(s, partitions) for s in symbols), np.int64, len(symbols))


def by_partition(symbols: Sequence[str], partitions: int) -> dict[int, tuple[str, ...]]:
    """The symbols of each partition that has any, in the order given."""
    found: dict[int, list[str]] = {}
    for symbol in symbols:
        found.setdefault(partition_of(symbol, partitions), []).append(symbol)
    return {partition: tuple(names) for partition, names in sorted(found.items())}
