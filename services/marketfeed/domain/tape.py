"""What a reader of the log is told: the trades that count, and everything else that changes what it knows.

The events of one partition, in the order of its records, are made by `domain/ownership.py`. Symbols are ids of the
reading process' `SymbolTable`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from marketfeed.domain.trades import Conditions, Float64Array, Int64Array, UInt32Array

_COLUMNS = ("symbol_id", "event_ts", "price", "size", "offset", "index", "condition_index")


@dataclass(frozen=True, slots=True, eq=False)
class TapeTrades:
    """Trades that count, of one or more neighbouring records, in the order of the log. Columns are equally long.

    first_offset, last_offset  the first and last record with a counted trade in here
    symbol_id                  int64
    event_ts                   int64, Unix nanoseconds
    price, size                float64; size 0 is a price update
    offset, index              int64; the record, and the trade's position in it: unique within the partition
    condition_sets, condition_index   dictionary and uint32 positions in it
    received_ts, append_ts     the newest of the records: arrival at ingest, LogAppendTime (Unix nanoseconds)
    oldest_append_ts           none of the records was appended before it; 0 when that is not known
    """

    partition: int
    first_offset: int
    last_offset: int
    symbol_id: Int64Array
    event_ts: Int64Array
    price: Float64Array
    size: Float64Array
    offset: Int64Array
    index: Int64Array
    condition_sets: tuple[Conditions, ...]
    condition_index: UInt32Array
    received_ts: int
    append_ts: int
    oldest_append_ts: int = 0

    def __len__(self) -> int:
        return len(self.event_ts)

    def take(self, chosen: slice | npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> TapeTrades:
        """Some of these trades, in their order; the stamps and the offset range stay those of all."""
        columns = {name: getattr(self, name)[chosen] for name in _COLUMNS}
        return replace(self, **columns)


@dataclass(frozen=True, slots=True, eq=False)
class TapeWatermark:
    """The watermark of `symbol_id` (int64, only those for which it rises) is now `event_ts`."""

    partition: int
    offset: int
    symbol_id: Int64Array
    event_ts: int


@dataclass(frozen=True, slots=True, eq=False)
class TapeGap:
    """Trades of `symbol_id` stamped from `from_ts` to `to_ts` may be missing. See `log.Gap`."""

    partition: int
    offset: int
    symbol_id: Int64Array
    from_ts: int
    to_ts: int
    reason: str
    dropped: int


@dataclass(frozen=True, slots=True, eq=False)
class TapeStatus:
    """Trading status of `symbol_id` from `event_ts` on. See `log.Status`."""

    partition: int
    offset: int
    symbol_id: Int64Array
    status: str
    event_ts: int
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class TapeOwner:
    """`epoch` has become the owner of `symbol_id` (int64)."""

    partition: int
    offset: int
    epoch: int
    symbol_id: Int64Array


TapeEvent = TapeTrades | TapeWatermark | TapeGap | TapeStatus | TapeOwner
