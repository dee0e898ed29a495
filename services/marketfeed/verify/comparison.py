"""Compares what was sent with what was kept, per symbol and second: missing, double or different. Pure.

Every source is brought to `Seconds`, sorted columns over (symbol, second), and two of them are joined by that key.
Values must be equal exactly: prices as float64, volume and notional as integers in lowest common terms.

Inside a marked gap trades may be missing, and only that: a second there must not hold more than was sent, nor a price
outside of what was sent. Its first and last price may be others, as the trades that made them may be the missing ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from marketfeed.domain.bars import FINAL, BarColumns
from marketfeed.domain.decimals import ObjectArray, rescale
from marketfeed.domain.manifest import Manifest
from marketfeed.domain.second_cells import Cells
from marketfeed.domain.tape import TapeGap
from marketfeed.domain.trades import NANOS, BoolArray, Float64Array, Int64Array, SymbolTable

IntpArray = npt.NDArray[np.intp]

MISSING, DOUBLE, DIFFERENT = "missing", "double", "different"

_SECOND_BITS = 40
# Columns of a stored bar that must equal those of the bar rebuilt from the log. State and the offset of the last
# change are compared apart: they move on with watermarks while one is looking.
_BAR_COLUMNS = (
    "open", "high", "low", "close", "trades", "open_ts", "open_offset", "open_index", "close_ts", "close_offset",
    "close_index", "first_offset", "last_offset", "late", "incomplete",
)  # fmt: skip
_MOVING_COLUMNS = ("state", "changed_offset")


@dataclass(frozen=True, slots=True, eq=False)
class Seconds:
    """One row per symbol and second, sorted by both; symbol ids are those of the comparison.

    open … close      float64
    trades            int64, trades of size above 0
    rows              int64, trades and price updates; None where the source does not count them
    volume, notional  object (int), units of 10^-size_scale and of 10^-(price_scale + size_scale)
    """

    symbol_id: Int64Array
    start_s: Int64Array
    open: Float64Array
    high: Float64Array
    low: Float64Array
    close: Float64Array
    trades: Int64Array
    rows: Int64Array | None
    volume: ObjectArray
    notional: ObjectArray
    price_scale: Int64Array
    size_scale: Int64Array

    def __len__(self) -> int:
        return len(self.start_s)

    def keys(self) -> Int64Array:
        """(symbol, second) as one number, rising."""
        return keys_of(self.symbol_id, self.start_s)

    def since(self, from_s: int) -> Seconds:
        """The rows of seconds from `from_s` on."""
        chosen = self.start_s >= from_s
        columns: dict[str, Any] = {}
        for field in fields(self):
            column = getattr(self, field.name)
            columns[field.name] = None if column is None else column[chosen]
        return Seconds(**columns)


@dataclass(frozen=True, slots=True)
class Finding:
    """A cell that is not as it should be."""

    kind: str
    symbol_id: int
    start_s: int
    detail: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison found. `cells` were looked at; `in_gaps` of them are short of something inside a gap.

    covered      cells that gaps touch, short or not
    sent, lost   trades (with price updates, where they are counted) that were sent, and that gaps lack of them
    lost_max     the share of `sent` that may be lost: a gap is an excuse for little, not for everything
    """

    name: str
    cells: int
    in_gaps: int
    missing: int
    double: int
    different: int
    findings: tuple[Finding, ...]
    covered: int = 0
    sent: int = 0
    lost: int = 0
    lost_max: float = 1.0

    @property
    def too_much_lost(self) -> bool:
        """Whether more is missing inside gaps than may be."""
        return self.lost > self.lost_max * self.sent

    @property
    def equal(self) -> bool:
        """Whether nothing was found, and gaps did not have to excuse too much."""
        return not (self.missing or self.double or self.different or self.too_much_lost)


class Findings:
    """Collects findings: all are counted, the first few kept."""

    def __init__(self, kept_max: int) -> None:
        self._kept_max = kept_max
        self.kept: list[Finding] = []
        self.count = {MISSING: 0, DOUBLE: 0, DIFFERENT: 0}

    def add(self, kind: str, symbol_id: int, start_s: int, detail: str) -> None:
        """One more."""
        self.count[kind] += 1
        if len(self.kept) < self._kept_max:
            self.kept.append(Finding(kind, symbol_id, start_s, detail))

    def done(self, name: str, cells: int, in_gaps: int = 0) -> Comparison:
        """The comparison that found this."""
        counts = (self.count[MISSING], self.count[DOUBLE], self.count[DIFFERENT])
        return Comparison(name, cells, in_gaps, *counts, tuple(self.kept))


def keys_of(symbol_id: Int64Array, start_s: Int64Array) -> Int64Array:
    """(symbol, second) as one number; sorts as the pair does."""
    return symbol_id << _SECOND_BITS | start_s


def seconds_of_manifest(manifest: Manifest, symbols: SymbolTable) -> Seconds:
    """What was sent, with the ids of `symbols`."""
    sent = manifest.seconds
    ids = symbols.ids(manifest.symbols)
    price_scale = np.array(manifest.price_scale, np.int64)[sent.symbol]
    size_scale = np.array(manifest.size_scale, np.int64)[sent.symbol]
    symbol_id = ids[sent.symbol]
    order = np.lexsort((sent.start_s, symbol_id))
    unit = 10.0**price_scale
    # Both are exact in float64, so the quotient is the float that reads the decimal's text.
    prices = {name: (getattr(sent, name) / unit)[order] for name in ("open", "high", "low", "close")}
    return Seconds(
        symbol_id=symbol_id[order],
        start_s=sent.start_s[order],
        **prices,
        trades=sent.trades[order],
        rows=(sent.trades + sent.updates)[order],
        volume=sent.volume[order].astype(object),
        notional=sent.notional[order].astype(object),
        price_scale=price_scale[order],
        size_scale=size_scale[order],
    )


def seconds_of_bars(bars: BarColumns, rows: Int64Array | None = None) -> Seconds:
    """What bars hold; `rows` beside them if they were counted."""
    return Seconds(
        bars.symbol_id, bars.start_s, bars.open, bars.high, bars.low, bars.close, bars.trades, rows,
        bars.volume, bars.notional, bars.price_scale, bars.size_scale,
    )  # fmt: skip


def gap_cells(gaps: Iterable[TapeGap], seconds: Seconds) -> BoolArray:
    """Which of the seconds a gap touches."""
    touched = np.zeros(len(seconds), np.bool_)
    for gap in gaps:
        inside = (seconds.start_s >= gap.from_ts // NANOS) & (seconds.start_s <= gap.to_ts // NANOS)
        touched |= inside & np.isin(seconds.symbol_id, gap.symbol_id)
    return touched


def compare_seconds(
    name: str,
    sent: Seconds,
    kept: Seconds,
    gaps: Sequence[TapeGap] = (),
    findings_max: int = 20,
    lost_max: float = 1.0,
) -> Comparison:
    """Cell by cell: `kept` must equal `sent`, inside gaps it must not exceed it.

    `lost_max`: the share of the trades sent that may be missing inside gaps.
    """
    found = Findings(findings_max)
    in_both, sent_at, kept_at = np.intersect1d(sent.keys(), kept.keys(), assume_unique=True, return_indices=True)
    lost = np.setdiff1d(np.arange(len(sent)), sent_at)
    forgiven = gap_cells(gaps, sent)
    for at in lost[~forgiven[lost]].tolist():
        found.add(MISSING, int(sent.symbol_id[at]), int(sent.start_s[at]), f"all {int(sent.trades[at])} trades")
    for at in np.setdiff1d(np.arange(len(kept)), kept_at).tolist():
        detail = f"{int(kept.trades[at])} trades where none was sent"
        found.add(DOUBLE, int(kept.symbol_id[at]), int(kept.start_s[at]), detail)
    short = _compare_joined(sent, kept, sent_at, kept_at, forgiven[sent_at], found)
    cells = len(sent) + len(kept) - len(in_both)
    done = found.done(name, cells, int(forgiven[lost].sum()) + short)
    counted = sent.rows is not None and kept.rows is not None
    sent_rows, kept_rows = (sent.rows, kept.rows) if counted else (sent.trades, kept.trades)
    assert sent_rows is not None
    assert kept_rows is not None
    lacking = sent_rows.copy()
    lacking[sent_at] -= kept_rows[kept_at]
    return replace(
        done,
        covered=int(forgiven.sum()),
        sent=int(sent_rows.sum()),
        lost=int(lacking[forgiven & (lacking > 0)].sum()),
        lost_max=lost_max,
    )


def _compare_joined(
    sent: Seconds, kept: Seconds, sent_at: IntpArray, kept_at: IntpArray, forgiven: BoolArray, found: Findings
) -> int:
    """The cells that both have; returns how many are short inside a gap, as they may be."""
    counts = _counts(sent, kept, sent_at, kept_at)
    prices = [(n, getattr(sent, n)[sent_at], getattr(kept, n)[kept_at]) for n in ("open", "high", "low", "close")]
    fewer = np.logical_or.reduce([b < a for _, a, b in counts])
    more = np.logical_or.reduce([b > a for _, a, b in counts])
    unequal = fewer | more | np.logical_or.reduce([a != b for _, a, b in prices])
    (_, _, _), (_, sent_high, kept_high), (_, sent_low, kept_low), _ = prices
    outside = (kept_high > sent_high) | (kept_low < sent_low)
    # The number of trades decides between missing and double; sums that differ at equal numbers are other trades.
    counted = [(a, b) for name, a, b in counts if name in ("trades", "rows")]
    is_missing = np.logical_or.reduce([b < a for a, b in counted])
    is_double = np.logical_or.reduce([b > a for a, b in counted])
    excused = forgiven & ~more & ~outside
    for at in np.flatnonzero(unequal & ~excused).tolist():
        kind = DOUBLE if is_double[at] else MISSING if is_missing[at] and not forgiven[at] else DIFFERENT
        differing = [f"{n} {b[at]} not {a[at]}" for n, a, b in (*counts, *prices) if a[at] != b[at]]
        place = int(sent_at[at])
        found.add(kind, int(sent.symbol_id[place]), int(sent.start_s[place]), ", ".join(differing))
    return int((unequal & excused).sum())


def _counts(
    sent: Seconds, kept: Seconds, sent_at: IntpArray, kept_at: IntpArray
) -> list[tuple[str, npt.NDArray[Any], npt.NDArray[Any]]]:
    """The columns that only grow with trades, sums at a common scale."""
    price = np.maximum(sent.price_scale[sent_at], kept.price_scale[kept_at])
    size = np.maximum(sent.size_scale[sent_at], kept.size_scale[kept_at])
    counts: list[tuple[str, npt.NDArray[Any], npt.NDArray[Any]]] = [
        ("trades", sent.trades[sent_at], kept.trades[kept_at])
    ]
    if sent.rows is not None and kept.rows is not None:
        counts.append(("rows", sent.rows[sent_at], kept.rows[kept_at]))
    for name, common in (("volume", size), ("notional", price + size)):
        scaled = []
        for side, at in ((sent, sent_at), (kept, kept_at)):
            own = side.size_scale[at] + (side.price_scale[at] if name == "notional" else 0)
            scaled.append(rescale(getattr(side, name)[at], common - own))
        counts.append((name, scaled[0], scaled[1]))
    return counts


def compare_bars(
    name: str, rebuilt: BarColumns, stored: BarColumns, settled: BoolArray, findings_max: int
) -> Comparison:
    """Stored bars against those rebuilt from the log, all columns.

    `settled`: which stored bars have not changed since the position that was rebuilt; only theirs are compared in
    state and last change. A stored state is one step behind FINAL as long as its writer likes.
    """
    found = Findings(findings_max)
    expected, given = keys_of(rebuilt.symbol_id, rebuilt.start_s), keys_of(stored.symbol_id, stored.start_s)
    in_both, expected_at, given_at = np.intersect1d(expected, given, assume_unique=True, return_indices=True)
    for at in np.setdiff1d(np.arange(len(rebuilt)), expected_at).tolist():
        found.add(MISSING, int(rebuilt.symbol_id[at]), int(rebuilt.start_s[at]), "the whole bar")
    for at in np.setdiff1d(np.arange(len(stored)), given_at).tolist():
        found.add(DOUBLE, int(stored.symbol_id[at]), int(stored.start_s[at]), "a bar that the log does not make")
    left, right = rebuilt.take(expected_at), stored.take(given_at)
    whole = np.arange(len(in_both))
    sums = _counts(seconds_of_bars(left), seconds_of_bars(right), whole, whole)[1:]
    pairs = [(n, getattr(left, n), getattr(right, n)) for n in _BAR_COLUMNS] + sums
    differs = {n: np.asarray(a != b, np.bool_) for n, a, b in pairs}
    final = (left.state == FINAL) | (right.state == FINAL)
    for column in _MOVING_COLUMNS:
        unequal = getattr(left, column) != getattr(right, column)
        differs[column] = unequal & settled[given_at] & (~final if column == "state" else True)
        pairs.append((column, getattr(left, column), getattr(right, column)))
    for at in np.flatnonzero(np.logical_or.reduce(list(differs.values()))).tolist():
        detail = ", ".join(f"{n} {b[at]} not {a[at]}" for n, a, b in pairs if differs[n][at])
        kind = _kind(int(left.trades[at]), int(right.trades[at]))
        found.add(kind, int(left.symbol_id[at]), int(left.start_s[at]), detail)
    return found.done(name, len(rebuilt) + len(stored) - len(in_both))


def _kind(expected: int, given: int) -> str:
    return MISSING if given < expected else DOUBLE if given > expected else DIFFERENT


def compare_cells(name: str, rebuilt: BarColumns, cached: Cells, findings_max: int) -> Comparison:
    """The cache's closes and stamps against the bars of the log."""
    found = Findings(findings_max)
    expected, given = keys_of(rebuilt.symbol_id, rebuilt.start_s), keys_of(cached.symbol_id, cached.second)
    in_both, expected_at, given_at = np.intersect1d(expected, given, assume_unique=True, return_indices=True)
    for at in np.setdiff1d(np.arange(len(rebuilt)), expected_at).tolist():
        found.add(MISSING, int(rebuilt.symbol_id[at]), int(rebuilt.start_s[at]), "no close in the cache")
    for at in np.setdiff1d(np.arange(len(cached)), given_at).tolist():
        found.add(DOUBLE, int(cached.symbol_id[at]), int(cached.second[at]), "a close that the log does not make")
    close, stamp = rebuilt.close[expected_at], rebuilt.close_ts[expected_at]
    unequal = (close != cached.close[given_at]) | (stamp != cached.event_ts[given_at])
    for at in np.flatnonzero(unequal).tolist():
        place = int(given_at[at])
        detail = f"close {cached.close[place]} at {cached.event_ts[place]} not {close[at]} at {stamp[at]}"
        found.add(DIFFERENT, int(cached.symbol_id[place]), int(cached.second[place]), detail)
    return found.done(name, len(rebuilt) + len(cached) - len(in_both))


def last_prices(bars: BarColumns) -> dict[int, tuple[float, int]]:
    """Symbol id -> price and stamp of its newest trade: the close of its last bar (bars are sorted)."""
    return {
        symbol_id: (close, stamp)
        for symbol_id, close, stamp in zip(
            bars.symbol_id.tolist(), bars.close.tolist(), bars.close_ts.tolist(), strict=True
        )
    }


def compare_quotes(
    name: str, rebuilt: BarColumns, quotes: dict[int, tuple[float, int]], findings_max: int
) -> Comparison:
    """The cache's last prices (symbol id -> price, stamp) against those of the log."""
    found = Findings(findings_max)
    expected = last_prices(rebuilt)
    for symbol_id, (price, stamp) in expected.items():
        second = stamp // NANOS
        if symbol_id not in quotes:
            found.add(MISSING, symbol_id, second, "no quote in the cache")
        elif quotes[symbol_id] != (price, stamp):
            given, given_stamp = quotes[symbol_id]
            found.add(DIFFERENT, symbol_id, second, f"price {given} at {given_stamp} not {price} at {stamp}")
    for symbol_id in quotes.keys() - expected.keys():
        found.add(DOUBLE, symbol_id, quotes[symbol_id][1] // NANOS, "a quote that the log does not make")
    return found.done(name, len(expected.keys() | quotes.keys()))
