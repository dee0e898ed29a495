"""One-second bars: the one reducer that makes every bar, live, from a CSV and in a replay.

A bar covers [start, end) of event time, labelled by its start. `reduce_trades` makes partial bars of any piece of the
tape; `merge` and `combine` join partial bars of the same second. Both are associative and commutative: volume and
notional are exact integers (`decimals`), open and close carry the order key of their trade (event_ts, offset, index),
the rest are minima, maxima and sums. So any cutting and any order of the pieces gives the same bar.

Rules of this file
- Nothing loops over trades, except over those whose decimals have more than 15 digits.
- One rule set, `RULES`: every condition counts. A size of 0 is a price update: it moves prices, adds no trade.
- `state` and `late` are not known here: partial bars are OPEN with 0 late records; `bar_window` gives both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from marketfeed.domain.decimals import (
    POWERS,
    UNITS_MAX,
    WIDE,
    ObjectArray,
    exact,
    product_sums,
    rescale,
    scales,
    sum_exactly,
    sums,
    units_at,
)
from marketfeed.domain.trades import NANOS, BoolArray, Float64Array, Int64Array

OPEN, CLOSED, REVISED, FINAL = 0, 1, 2, 3
STATE_NAMES = ("OPEN", "CLOSED", "REVISED", "FINAL")
# Id of the condition rule set that made the bar, stored with it.
RULES = "all-trades-v1"

IntpArray = npt.NDArray[np.intp]
Int8Array = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class BarColumns:
    """Bars as equally long arrays, sorted by (symbol_id, start_s), each pair once.

    symbol_id                        int64, id of the caller's SymbolTable (or of the store)
    start_s                          int64, Unix SECONDS, start of the bar; the interval is the caller's
    open, high, low, close           float64
    open_ts, open_offset, open_index int64, order key of the first trade: event_ts (Unix ns), log offset, place in it
    close_ts, close_offset, close_index  the same of the last trade
    volume                           object (Python int), units of 10^-size_scale
    notional                         object (Python int), units of 10^-(price_scale + size_scale)
    price_scale, size_scale          int64, the finest scale among the bar's trades
    trades                           int64, trades with a size
    first_offset, last_offset        int64, range of the log that holds its trades
    late                             int64, late records merged since it closed = revision
    incomplete                       bool, a known gap touches it
    state                            int8, OPEN | CLOSED | REVISED | FINAL
    changed_offset                   int64, offset of the record that last changed the bar (FINAL is no change)
    """

    symbol_id: Int64Array
    start_s: Int64Array
    open: Float64Array
    high: Float64Array
    low: Float64Array
    close: Float64Array
    open_ts: Int64Array
    open_offset: Int64Array
    open_index: Int64Array
    close_ts: Int64Array
    close_offset: Int64Array
    close_index: Int64Array
    volume: ObjectArray
    notional: ObjectArray
    price_scale: Int64Array
    size_scale: Int64Array
    trades: Int64Array
    first_offset: Int64Array
    last_offset: Int64Array
    late: Int64Array
    incomplete: BoolArray
    state: Int8Array
    changed_offset: Int64Array

    def __len__(self) -> int:
        return len(self.start_s)

    def take(self, chosen: IntpArray | BoolArray | slice) -> BarColumns:
        """The chosen rows: a mask, a slice or positions in rising order."""
        return BarColumns(**{name: getattr(self, name)[chosen] for name in COLUMNS})

    def vwap(self) -> Float64Array:
        """Volume-weighted average price of each bar, float64, correctly rounded; NaN where the volume is 0."""
        weights = rescale(self.volume, self.price_scale)
        return np.array([n / w if w else np.nan for n, w in zip(self.notional, weights, strict=True)], np.float64)


COLUMNS: tuple[str, ...] = tuple(f.name for f in fields(BarColumns))
DTYPES: dict[str, Any] = {
    name: (
        np.float64 if name in {"open", "high", "low", "close"}
        else object if name in {"volume", "notional"}
        else np.bool_ if name == "incomplete"
        else np.int8 if name == "state"
        else np.int64
    )
    for name in COLUMNS
}  # fmt: skip


def no_bars() -> BarColumns:
    """No bar."""
    return BarColumns(**{name: np.empty(0, DTYPES[name]) for name in COLUMNS})


def stack(parts: Sequence[BarColumns]) -> BarColumns:
    """All rows of all parts, in the order given: not sorted, keys may repeat; `combine` makes bars of it."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return no_bars()
    return BarColumns(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in COLUMNS})


def merge(a: BarColumns, b: BarColumns) -> BarColumns:
    """The bars of both sides, those of the same (symbol_id, start_s) made one. Associative and commutative.

    Sums: volume, notional (at the finer scale), trades, late. Maxima: high, scales, last_offset, state,
    changed_offset. Minima: low, first_offset. Or: incomplete. Open and close by their order keys.
    """
    return combine(stack((a, b)))


def combine(rows: BarColumns) -> BarColumns:
    """`merge` of any number of rows in any order: one bar for each (symbol_id, start_s) among them."""
    if not len(rows):
        return rows
    order = np.lexsort((rows.start_s, rows.symbol_id))
    symbol_id, start_s = rows.symbol_id[order], rows.start_s[order]
    starts = segment_starts(symbol_id, start_s)
    if len(starts) == len(order):
        return rows.take(order)
    first = np.lexsort((rows.open_index, rows.open_offset, rows.open_ts, rows.start_s, rows.symbol_id))[starts]
    stops = np.append(starts[1:], len(order)) - 1
    last = np.lexsort((rows.close_index, rows.close_offset, rows.close_ts, rows.start_s, rows.symbol_id))[stops]
    price_scale = np.maximum.reduceat(rows.price_scale[order], starts)
    size_scale = np.maximum.reduceat(rows.size_scale[order], starts)
    counts = np.diff(np.append(starts, len(order)))
    finer_size = np.repeat(size_scale, counts) - rows.size_scale[order]
    finer_price = np.repeat(price_scale, counts) - rows.price_scale[order]
    return BarColumns(
        symbol_id=symbol_id[starts],
        start_s=start_s[starts],
        open=rows.open[first],
        high=np.maximum.reduceat(rows.high[order], starts),
        low=np.minimum.reduceat(rows.low[order], starts),
        close=rows.close[last],
        open_ts=rows.open_ts[first],
        open_offset=rows.open_offset[first],
        open_index=rows.open_index[first],
        close_ts=rows.close_ts[last],
        close_offset=rows.close_offset[last],
        close_index=rows.close_index[last],
        volume=np.add.reduceat(rescale(rows.volume[order], finer_size), starts),
        notional=np.add.reduceat(rescale(rows.notional[order], finer_size + finer_price), starts),
        price_scale=price_scale,
        size_scale=size_scale,
        trades=np.add.reduceat(rows.trades[order], starts),
        first_offset=np.minimum.reduceat(rows.first_offset[order], starts),
        last_offset=np.maximum.reduceat(rows.last_offset[order], starts),
        late=np.add.reduceat(rows.late[order], starts),
        incomplete=np.logical_or.reduceat(rows.incomplete[order], starts),
        state=np.maximum.reduceat(rows.state[order], starts),
        changed_offset=np.maximum.reduceat(rows.changed_offset[order], starts),
    )


def segment_starts(*keys: npt.NDArray[Any]) -> IntpArray:
    """Where runs of equal keys begin in columns sorted by them; the first is 0. Empty for empty columns."""
    differs = np.zeros(len(keys[0]), np.bool_)
    differs[:1] = True
    for key in keys:
        differs[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(differs)


def reduce_trades(
    symbol_id: Int64Array,
    event_ts: Int64Array,
    price: Float64Array,
    size: Float64Array,
    offset: Int64Array,
    index: Int64Array,
    interval_s: int = 1,
) -> BarColumns:
    """Partial bars of these trades: OPEN, complete, no late record, `changed_offset` = `last_offset`.

    symbol_id, event_ts (Unix ns), offset (in the symbol's partition), index (place in its record): int64; price, size:
    finite float64. Rows stand in the order of the log per symbol: (offset, index) rises; symbols may be mixed.
    A bar starts at a whole multiple of `interval_s` since the Unix epoch.
    """
    if not len(event_ts):
        return no_bars()
    order = log_order(symbol_id, event_ts)
    symbol_id, event_ts, offset, index = symbol_id[order], event_ts[order], offset[order], index[order]
    second = event_ts // (interval_s * NANOS)
    starts = segment_starts(symbol_id, second)
    return _reduce_sorted(symbol_id, event_ts, price[order], size[order], offset, index, second * interval_s, starts)


def log_order(symbol_id: Int64Array, event_ts: Int64Array) -> IntpArray:
    """The order by (symbol_id, event_ts) that keeps the order of equal ones.

    Key and position are packed into one int64 when they fit (they do for live data: 30 bits a second of stamps), as
    sorting plain values is twice as fast as sorting positions by them.
    """
    rows = len(event_ts)
    since = event_ts - event_ts.min()
    ts_bits = int(since.max()).bit_length()
    row_bits = rows.bit_length()
    lowest_id = int(symbol_id.min())
    id_bits = (int(symbol_id.max()) - lowest_id).bit_length()
    if ts_bits + row_bits + id_bits > 63:
        return np.lexsort((event_ts, symbol_id))
    keys = (((symbol_id - lowest_id) << ts_bits | since) << row_bits) | np.arange(rows)
    keys.sort()
    return np.asarray(keys & ((1 << row_bits) - 1), np.intp)


def _reduce_sorted(
    symbol_id: Int64Array,
    event_ts: Int64Array,
    price: Float64Array,
    size: Float64Array,
    offset: Int64Array,
    index: Int64Array,
    start_s: Int64Array,
    starts: IntpArray,
) -> BarColumns:
    """Partial bars of trades sorted by (symbol_id, event_ts, log order), one per segment."""
    stops = np.append(starts[1:], len(event_ts)) - 1
    volume, notional, price_scale, size_scale = _amounts(price, size, starts)
    last_offset = np.maximum.reduceat(offset, starts)
    bars = len(starts)
    return BarColumns(
        symbol_id=symbol_id[starts],
        start_s=start_s[starts],
        # Adding 0.0 makes a negative zero a positive one, so that equal prices are equal bytes.
        open=price[starts] + 0.0,
        high=np.maximum.reduceat(price, starts) + 0.0,
        low=np.minimum.reduceat(price, starts) + 0.0,
        close=price[stops] + 0.0,
        open_ts=event_ts[starts],
        open_offset=offset[starts],
        open_index=index[starts],
        close_ts=event_ts[stops],
        close_offset=offset[stops],
        close_index=index[stops],
        volume=volume,
        notional=notional,
        price_scale=price_scale,
        size_scale=size_scale,
        trades=np.add.reduceat((size != 0).astype(np.int64), starts),
        first_offset=np.minimum.reduceat(offset, starts),
        last_offset=last_offset,
        late=np.zeros(bars, np.int64),
        incomplete=np.zeros(bars, np.bool_),
        state=np.zeros(bars, np.int8),
        changed_offset=last_offset.copy(),
    )


def _amounts(
    price: Float64Array, size: Float64Array, starts: IntpArray
) -> tuple[ObjectArray, ObjectArray, Int64Array, Int64Array]:
    """Exact volume and notional of each segment with their price and size scales."""
    price_scales, size_scales = scales(price), scales(size)
    # WIDE is -1: it never raises the maximum; the segments that hold one are mended below.
    price_scale = np.maximum(np.maximum.reduceat(price_scales, starts), 0)
    size_scale = np.maximum(np.maximum.reduceat(size_scales, starts), 0)
    wide = (price_scales == WIDE) | (size_scales == WIDE)
    plain_price, plain_size = _without(price, wide), _without(size, wide)
    price_powers, size_powers = _per_row(price_scale, starts, price), _per_row(size_scale, starts, size)
    if _exceeds(plain_price, price_scale) or _exceeds(plain_size, size_scale):
        wide |= np.abs(plain_price) * price_powers >= UNITS_MAX
        wide |= np.abs(plain_size) * size_powers >= UNITS_MAX
        plain_price, plain_size = _without(plain_price, wide), _without(plain_size, wide)
    price_units, size_units = units_at(plain_price, price_powers), units_at(plain_size, size_powers)
    volume, notional = sums(size_units, starts), product_sums(price_units, size_units, starts)
    if wide.any():
        _add_wide(price, size, np.flatnonzero(wide), starts, volume, notional, price_scale, size_scale)
    return volume, notional, price_scale, size_scale


def _add_wide(
    price: Float64Array,
    size: Float64Array,
    wide: IntpArray,
    starts: IntpArray,
    volume: ObjectArray,
    notional: ObjectArray,
    price_scale: Int64Array,
    size_scale: Int64Array,
) -> None:
    """Add the rows that the fast path left out to their segments, one by one, in Python integers."""
    for row in wide.tolist():
        bar = int(np.searchsorted(starts, row, "right")) - 1
        (p, p_scale), (s, s_scale) = exact(price[row]), exact(size[row])
        volume[bar], finer = sum_exactly([(volume[bar], int(size_scale[bar])), (s, s_scale)])
        # The product's scale is brought to the sum of both columns' new scales, which is at least its own.
        coarser = max(int(price_scale[bar]), p_scale)
        places = coarser + finer
        notional[bar] = (
            notional[bar] * 10 ** (places - int(price_scale[bar]) - int(size_scale[bar]))
            + p * s * 10 ** (places - p_scale - s_scale)
        )  # fmt: skip
        price_scale[bar], size_scale[bar] = coarser, finer


def _without(values: Float64Array, left_out: BoolArray) -> Float64Array:
    """The values with 0 in place of those left out."""
    return np.where(left_out, 0.0, values) if left_out.any() else values


def _per_row(scale: Int64Array, starts: IntpArray, values: Float64Array) -> Float64Array:
    """10^scale of each row's segment (a single value where all segments agree)."""
    if (scale == scale[0]).all():
        return POWERS[scale[:1]]
    return np.repeat(POWERS[scale], np.diff(np.append(starts, len(values))))


def _exceeds(values: Float64Array, scale: Int64Array) -> bool:
    """Whether a value could have more than 15 digits at the greatest of the scales."""
    return bool(float(np.abs(values).max()) * POWERS[int(scale.max())] >= UNITS_MAX)
