"""The hot cache's arrays of seconds: cells <-> byte ranges of hourly strings.

`mf:{feed}:sec:{symbol}:{YYYYMMDDHH}` holds 3,600 closes, little-endian float64; `mf:{feed}:sec_ts:…` beside it the
stamp of each close, little-endian int64 Unix nanoseconds. 0 (Redis' own padding) means no trade in that second.
Neighbouring seconds of one hour are written as one range: the cost is per command, not per byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np

from marketfeed.domain.second_cells import Cells
from marketfeed.domain.trades import Float64Array, Int64Array

CELL_BYTES = 8
HOUR_S = 3600
_CLOSES = np.dtype("<f8")
_STAMPS = np.dtype("<i8")


@lru_cache(maxsize=128)
def hour_name(hour: int) -> str:
    """`YYYYMMDDHH` of an hour counted from the Unix epoch, UTC."""
    return datetime.fromtimestamp(hour * HOUR_S, UTC).strftime("%Y%m%d%H")


def closes_key(feed: str, symbol: str, hour: int) -> str:
    """Key of a symbol's closes of an hour."""
    return f"mf:{feed}:sec:{symbol}:{hour_name(hour)}"


def stamps_key(feed: str, symbol: str, hour: int) -> str:
    """Key of the stamps beside them."""
    return f"mf:{feed}:sec_ts:{symbol}:{hour_name(hour)}"


def runs(cells: Cells) -> Iterator[tuple[int, int, int, bytes, bytes]]:
    """Runs of neighbouring cells within an hour: (symbol_id, hour, byte offset, closes, stamps)."""
    if not len(cells):
        return
    hour, place = np.divmod(cells.second, HOUR_S)
    breaks = np.flatnonzero((np.diff(cells.symbol_id) != 0) | (np.diff(cells.second) != 1) | (np.diff(hour) != 0))
    starts = np.concatenate([[0], breaks + 1])
    stops = np.append(breaks + 1, len(cells)) * CELL_BYTES
    closes = cells.close.astype(_CLOSES).tobytes()
    stamps = cells.event_ts.astype(_STAMPS).tobytes()
    columns = (cells.symbol_id[starts], hour[starts], place[starts] * CELL_BYTES, starts * CELL_BYTES, stops)
    for symbol_id, in_hour, offset, start, stop in zip(*(column.tolist() for column in columns), strict=True):
        yield symbol_id, in_hour, offset, closes[start:stop], stamps[start:stop]


def read_hour(closes: bytes | None, stamps: bytes | None) -> tuple[Float64Array, Int64Array]:
    """(closes, stamps) of the 3,600 seconds of an hour; 0 where there is none. Missing keys and tails are zeros."""
    return _whole(closes, _CLOSES).astype(np.float64), _whole(stamps, _STAMPS).astype(np.int64)


def hours_of(from_s: int, to_s: int) -> Iterable[int]:
    """The hours that [from_s, to_s) touches."""
    return range(from_s // HOUR_S, -(-to_s // HOUR_S))


def _whole(data: bytes | None, dtype: np.dtype[np.generic]) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
    cells = np.zeros(HOUR_S, dtype)
    held = np.frombuffer(data or b"", dtype, min(len(data or b"") // CELL_BYTES, HOUR_S))
    cells[: len(held)] = held
    return cells
