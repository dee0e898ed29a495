"""Planted errors are found, named and placed; what is right is not accused."""

from dataclasses import fields, replace

import numpy as np
import pytest

from marketfeed.domain.bars import BarColumns, reduce_trades
from marketfeed.domain.manifest import Manifest, ManifestSeconds
from marketfeed.domain.second_cells import Cells
from marketfeed.domain.tape import TapeGap
from marketfeed.domain.trades import NANOS, SymbolTable
from marketfeed.verify.comparison import (
    Comparison,
    Seconds,
    compare_bars,
    compare_cells,
    compare_quotes,
    compare_seconds,
    last_prices,
    seconds_of_bars,
    seconds_of_manifest,
)

START_S = 1_767_366_000
# symbol id, second after the start, price, size; the order is that of the log.
Trade = tuple[int, float, float, float]
TRADES: list[Trade] = [
    (0, 0.1, 10.25, 3.0), (0, 0.2, 10.5, 7.0), (1, 0.3, 99.0, 0.5), (0, 1.5, 10.125, 1.0),
    (1, 2.0, 98.75, 0.125), (1, 2.1, 98.5, 0.0), (0, 3.9, 11.0, 100.0), (0, 2.0, 10.0, 5.0),
]  # fmt: skip


def bars_of(trades: list[Trade]) -> BarColumns:
    columns = list(zip(*trades, strict=True))
    ts = np.array([int(START_S * NANOS + round(at * 1e9)) for at in columns[1]], np.int64)
    offset = np.arange(len(trades), dtype=np.int64)
    return reduce_trades(
        np.array(columns[0], np.int64), ts, np.array(columns[2], np.float64), np.array(columns[3], np.float64),
        offset, np.zeros(len(trades), np.int64),
    )  # fmt: skip


def seconds_of(trades: list[Trade]) -> Seconds:
    bars = bars_of(trades)
    keys = [(symbol, START_S + int(at)) for symbol, at, _, _ in trades]
    rows = [keys.count(key) for key in zip(bars.symbol_id.tolist(), bars.start_s.tolist(), strict=True)]
    return seconds_of_bars(bars, np.array(rows, np.int64))


def gap(symbol_id: int, from_s: float, to_s: float) -> TapeGap:
    ids = np.array([symbol_id], np.int64)
    return TapeGap(0, 0, ids, int((START_S + from_s) * NANOS), int((START_S + to_s) * NANOS), "restart", 0)


def told(comparison: Comparison) -> list[tuple[str, int, int]]:
    return [(f.kind, f.symbol_id, f.start_s - START_S) for f in comparison.findings]


def test_equal_things_are_equal() -> None:
    """Nothing found, every cell looked at."""
    comparison = compare_seconds("x", seconds_of(TRADES), seconds_of(TRADES))
    assert comparison.equal
    assert comparison.cells == 6


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        (TRADES[1:], [("missing", 0, 0)]),
        ([t for t in TRADES if t[1] != 1.5], [("missing", 0, 1)]),
        ([*TRADES, TRADES[0]], [("double", 0, 0)]),
        ([*TRADES, (1, 5.0, 99.0, 1.0)], [("double", 1, 5)]),
        ([(0, 0.1, 10.25, 4.0), *TRADES[1:]], [("different", 0, 0)]),
        ([(0, 0.1, 10.26, 3.0), *TRADES[1:]], [("different", 0, 0)]),
        # One trade lost and another doubled: the numbers agree, the sums do not.
        ([TRADES[0], TRADES[0], *TRADES[2:]], [("different", 0, 0)]),
        # A price update doubled: no trade more, one row more.
        ([*TRADES, TRADES[5]], [("double", 1, 2)]),
        # A late trade put into the second in which it came.
        ([*TRADES[:-1], (0, 4.0, 10.0, 5.0)], [("missing", 0, 2), ("double", 0, 4)]),
        ([], [("missing", s, t) for s, t in ((0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 2))]),
    ],
)
def test_a_planted_error_is_found_in_its_cell(kept: list[Trade], expected: list[tuple[str, int, int]]) -> None:
    """Missing, double, different, late: each named, each where it is, nothing else."""
    found = seconds_of(kept) if kept else seconds_of(TRADES).since(2**40)
    assert told(compare_seconds("x", seconds_of(TRADES), found)) == expected


def test_inside_a_gap_trades_may_be_missing_and_nothing_else() -> None:
    """A gap is no licence: not for doubles, not for other prices, not for its neighbours."""
    sent = seconds_of(TRADES)
    short = seconds_of(TRADES[1:])
    forgiven = compare_seconds("x", sent, short, [gap(0, 0.0, 0.5)])
    assert (forgiven.equal, forgiven.in_gaps) == (True, 1)
    whole_cell = [t for t in TRADES if t[1] != 1.5]
    assert compare_seconds("x", sent, seconds_of(whole_cell), [gap(0, 1.2, 1.4)]).equal
    assert told(compare_seconds("x", sent, short, [gap(1, 0.0, 9.0)])) == [("missing", 0, 0)]
    assert told(compare_seconds("x", sent, short, [gap(0, 1.0, 9.0)])) == [("missing", 0, 0)]
    double = seconds_of([*TRADES, TRADES[0]])
    assert told(compare_seconds("x", sent, double, [gap(0, 0.0, 0.5)])) == [("double", 0, 0)]
    dearer = seconds_of([(0, 0.1, 10.75, 1.0), *TRADES[2:]])
    assert told(compare_seconds("x", sent, dearer, [gap(0, 0.0, 0.5)])) == [("different", 0, 0)]
    invented = seconds_of([*TRADES, (0, 7.0, 10.0, 1.0)])
    assert told(compare_seconds("x", sent, invented, [gap(0, 0.0, 9.0)])) == [("double", 0, 7)]


def test_gaps_excuse_only_a_share_of_what_was_sent() -> None:
    """A gap over everything must not hide that everything is missing."""
    sent, none = seconds_of(TRADES), seconds_of(TRADES).since(2**40)
    everything = [gap(0, 0.0, 9.0), gap(1, 0.0, 9.0)]
    empty = compare_seconds("x", sent, none, everything, lost_max=0.5)
    assert (empty.covered, empty.sent, empty.lost) == (6, 8, 8)
    assert empty.too_much_lost
    assert not empty.equal
    one = compare_seconds("x", sent, seconds_of(TRADES[1:]), everything, lost_max=0.5)
    assert (one.covered, one.lost, one.equal) == (6, 1, True)
    assert not compare_seconds("x", sent, seconds_of(TRADES[1:]), everything, lost_max=0.0).equal
    assert compare_seconds("x", sent, sent, everything, lost_max=0.0).equal


def test_all_findings_are_counted_and_some_are_listed() -> None:
    """A broken run must not print a million lines."""
    comparison = compare_seconds("x", seconds_of(TRADES), seconds_of(TRADES).since(2**40), (), 2)
    assert (comparison.missing, len(comparison.findings)) == (6, 2)


def test_a_manifest_and_bars_of_the_same_trades_are_equal_at_different_scales() -> None:
    """10.5 is 105 at one decimal and 1050 at two: compared in common terms."""
    columns = {
        "symbol": [0], "start_s": [START_S], "trades": [2], "updates": [0], "volume": [10_000_000],
        "notional": [10_425_000_000], "open": [1025], "high": [1050], "low": [1025], "close": [1050],
    }  # fmt: skip
    rows = ManifestSeconds(**{name: np.array(value, np.int64) for name, value in columns.items()})
    manifest = Manifest(1, 2, 3.0, True, 0, ("A", "B"), (2, 2), (6, 0), (), rows)
    symbols = SymbolTable(["A", "B"])
    sent = seconds_of_manifest(manifest, symbols)
    kept = seconds_of(TRADES[:2])
    comparison = compare_seconds("x", sent, kept)
    assert comparison.equal, comparison.findings


@pytest.mark.parametrize("column", [f.name for f in fields(BarColumns) if f.name not in ("symbol_id", "start_s")])
def test_every_column_of_a_stored_bar_counts(column: str) -> None:
    """One wrong value in any column is found."""
    rebuilt = bars_of(TRADES)
    changed = getattr(rebuilt, column).copy()
    changed[2] = not changed[2] if column == "incomplete" else changed[2] + 1
    stored = replace(rebuilt, **{column: changed})
    settled = np.ones(len(rebuilt), np.bool_)
    assert compare_bars("x", rebuilt, rebuilt, settled, 9).equal
    if column in ("price_scale", "size_scale"):
        assert not compare_bars("x", rebuilt, stored, settled, 9).equal
        return
    assert len(compare_bars("x", rebuilt, stored, settled, 9).findings) == 1


def test_bars_that_moved_on_are_not_held_to_their_old_state() -> None:
    """A watermark may have closed a bar after the position that was rebuilt; its trades still count."""
    rebuilt = bars_of(TRADES)
    stored = replace(rebuilt, state=rebuilt.state + 1, changed_offset=rebuilt.changed_offset + 9)
    assert compare_bars("x", rebuilt, stored, np.zeros(len(rebuilt), np.bool_), 9).equal
    assert compare_bars("x", rebuilt, stored, np.ones(len(rebuilt), np.bool_), 9).different == len(rebuilt)
    shorter = compare_bars("x", rebuilt, rebuilt.take(slice(1, None)), np.ones(len(rebuilt) - 1, np.bool_), 9)
    assert told(shorter) == [("missing", 0, 0)]


def test_cells_and_quotes_of_the_cache() -> None:
    """A missing, another and a surplus close; an old last price."""
    bars = bars_of(TRADES)
    cells = Cells(bars.symbol_id, bars.start_s, bars.close.copy(), bars.close_ts)
    assert compare_cells("x", bars, cells, 9).equal
    cells.close[1] += 0.01
    assert told(compare_cells("x", bars, cells, 9)) == [("different", 0, 1)]
    others = np.array([0, 2, 3, 4, 5])
    columns = (bars.symbol_id, bars.start_s, bars.close, bars.close_ts)
    some = Cells(*(column[others] for column in columns))
    assert told(compare_cells("x", bars.take(slice(0, 5)), some, 9)) == [("missing", 0, 1), ("double", 1, 2)]
    quotes = last_prices(bars)
    assert {symbol_id: price for symbol_id, (price, _) in quotes.items()} == {0: 11.0, 1: 98.5}
    assert compare_quotes("x", bars, quotes, 9).equal
    assert compare_quotes("x", bars, {0: quotes[0]}, 9).missing == 1
    assert compare_quotes("x", bars, {**quotes, 1: (98.75, quotes[1][1])}, 9).different == 1
    assert compare_quotes("x", bars, {**quotes, 2: (1.0, START_S * NANOS)}, 9).double == 1
