"""Bars in every column are a function of the log's prefix: not of flushes, evictions, restarts or their order."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain.bar_window import LATENESS_S, BarWindow, Changes, StoredGap
from marketfeed.domain.bars import CLOSED, COLUMNS, DTYPES, FINAL, OPEN, REVISED, BarColumns
from marketfeed.domain.tape import TapeEvent, TapeGap, TapeTrades, TapeWatermark
from marketfeed.domain.trades import NANOS

T0 = 1_700_000_000
PARTITIONS = 2
SYMBOLS = 4  # symbol s lives in partition s % PARTITIONS

Row = dict[str, Any]


def trades(partition: int, offset: int, tape: list[tuple[int, float, float, float]]) -> TapeTrades:
    """One record: (symbol_id, seconds since T0, price, size) each."""
    symbol_id, at, price, size = (list(column) for column in zip(*tape, strict=True))
    count = len(tape)
    return TapeTrades(
        partition, offset, offset,
        np.array(symbol_id, np.int64), np.array([T0 * NANOS + int(a * NANOS) for a in at], np.int64),
        np.array(price, np.float64), np.array(size, np.float64),
        np.full(count, offset, np.int64), np.arange(count, dtype=np.int64),
        (None,), np.zeros(count, np.uint32), 0, 0,
    )  # fmt: skip


def watermark(partition: int, offset: int, at: float, symbols: list[int]) -> TapeWatermark:
    return TapeWatermark(partition, offset, np.array(symbols, np.int64), T0 * NANOS + int(at * NANOS))


def gap(partition: int, offset: int, start: float, stop: float, symbols: list[int]) -> TapeGap:
    ids = np.array(symbols, np.int64)
    return TapeGap(partition, offset, ids, T0 * NANOS + int(start * NANOS), T0 * NANOS + int(stop * NANOS), "test", 0)


def rows_of(bars: BarColumns) -> dict[tuple[int, int], Row]:
    """Bars by key, as plain values."""
    columns = {name: getattr(bars, name).tolist() for name in COLUMNS}
    return {
        (columns["symbol_id"][i], columns["start_s"][i]): {name: columns[name][i] for name in COLUMNS}
        for i in range(len(bars))
    }


def bars_of(rows: list[Row]) -> BarColumns:
    return BarColumns(**{name: np.array([row[name] for row in rows], DTYPES[name]) for name in COLUMNS})


@dataclass
class Plain:
    """The rules again, one trade at a time: what the window is compared with."""

    bars: dict[tuple[int, int], Row] = field(default_factory=dict)
    places: dict[tuple[int, int], set[int]] = field(default_factory=dict)
    reached: dict[int, int] = field(default_factory=dict)
    gaps: list[TapeGap] = field(default_factory=list)
    refused: int = 0

    def happen(self, event: TapeEvent) -> None:
        if isinstance(event, TapeTrades):
            for i in range(len(event)):
                self._trade(event, i)
        elif isinstance(event, TapeWatermark):
            for symbol in event.symbol_id.tolist():
                self.reached[symbol] = max(self.reached.get(symbol, 0), event.event_ts)
                for (owner, start), bar in self.bars.items():
                    if owner == symbol and bar["state"] == OPEN and self._passed(symbol, start + 2):
                        bar.update(state=CLOSED, changed_offset=event.offset)
        elif isinstance(event, TapeGap):
            self.gaps.append(event)
            for (symbol, start), bar in self.bars.items():
                final = self._passed(symbol, start + 1 + LATENESS_S)
                if _touches(event, symbol, start) and not bar["incomplete"] and not final:
                    bar.update(incomplete=True, changed_offset=event.offset)

    def result(self) -> dict[tuple[int, int], Row]:
        return {
            (symbol, start): {**bar, "state": FINAL if self._passed(symbol, start + 1 + LATENESS_S) else bar["state"]}
            for (symbol, start), bar in sorted(self.bars.items())
        }

    def _passed(self, symbol: int, second: int) -> bool:
        return self.reached.get(symbol, 0) >= second * NANOS

    def _trade(self, event: TapeTrades, i: int) -> None:
        symbol, ts, offset = int(event.symbol_id[i]), int(event.event_ts[i]), event.first_offset
        price, size, start = float(event.price[i]), float(event.size[i]), ts // NANOS
        if self._passed(symbol, start + 1 + LATENESS_S):
            self.refused += 1
            return
        key = (symbol, start)
        bar = self.bars.get(key)
        if bar is None:
            touched = any(_touches(g, symbol, start) for g in self.gaps)
            bar = self.bars[key] = dict.fromkeys(COLUMNS, 0) | {
                "symbol_id": symbol, "start_s": start, "open": price, "close": price, "high": price, "low": price,
                "open_ts": ts, "open_offset": offset, "open_index": i, "close_ts": ts, "close_offset": offset,
                "close_index": i, "first_offset": offset, "incomplete": touched, "state": OPEN,
            }  # fmt: skip
            self.places[key] = set()
        place = (ts, offset, i)
        if place < (bar["open_ts"], bar["open_offset"], bar["open_index"]):
            bar.update(open=price, open_ts=ts, open_offset=offset, open_index=i)
        if place > (bar["close_ts"], bar["close_offset"], bar["close_index"]):
            bar.update(close=price, close_ts=ts, close_offset=offset, close_index=i)
        bar["high"], bar["low"] = max(bar["high"], price), min(bar["low"], price)
        # All prices of these tests are halves and all sizes whole: the sums are kept as (sum, finest scale).
        bar["size_scale"] = 0
        scale = max(bar["price_scale"], 0 if price == int(price) else 1)
        bar["notional"] = bar["notional"] * 10 ** (scale - bar["price_scale"]) + round(price * 10**scale) * int(size)
        bar["price_scale"] = scale
        bar["volume"] += int(size)
        bar["trades"] += size != 0
        bar["last_offset"] = bar["changed_offset"] = offset
        if self._passed(symbol, start + 2):
            bar["state"] = REVISED
            if offset not in self.places[key]:
                bar["late"] += 1
        self.places[key].add(offset)


def _touches(event: TapeGap, symbol: int, start: int) -> bool:
    return symbol in event.symbol_id and event.from_ts < (start + 1) * NANOS and event.to_ts >= start * NANOS


class Storage:
    """A writer as the module's text describes it, with rows in a dictionary."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, int], Row] = {}
        self.gaps: list[TapeGap] = []
        self.pending: list[TapeGap] = []
        self.unmarked: list[StoredGap] = []
        self.window = BarWindow(keep_s=2)
        self.refused = 0

    def apply(self, events: list[TapeEvent]) -> Changes:
        changes = self.window.apply(events)
        self.refused += len(changes.late_after_final)
        self.pending.extend(e for e in events if isinstance(e, TapeGap))
        self.unmarked.extend(changes.gaps)
        return changes

    def flush(self, evict_to: int | None) -> None:
        for mark in self.unmarked:
            for (symbol, start), row in self.rows.items():
                if symbol == mark.symbol_id and mark.from_s <= start < mark.until_s and not row["incomplete"]:
                    row.update(incomplete=True, changed_offset=mark.offset)
        self.unmarked = []
        needed = zip(*(column.tolist() for column in self.window.needed()), strict=True)
        self.window.apply_older(bars_of([self.rows[key] for key in sorted(needed) if key in self.rows]))
        self.rows.update(rows_of(self.window.changed()))
        self.gaps, self.pending = [*self.gaps, *self.pending], []
        self.window.evict(evict_to)

    def restart(self, held_from_s: int) -> None:
        """A new process at the stored position."""
        window = BarWindow(keep_s=2)
        kept = [r for _, r in sorted(self.rows.items()) if r["state"] == OPEN or r["start_s"] >= held_from_s]
        window.load(bars_of(kept), held_from_s)
        known = range(SYMBOLS)
        window.load_watermarks(np.array(known, np.int64), np.array([self.window.watermark(s) for s in known], np.int64))
        window.load_gaps(self.gaps)
        self.window = window

    def result(self) -> dict[tuple[int, int], Row]:
        for (symbol, start), row in self.rows.items():
            if start < self.window.final_before(symbol):
                row["state"] = FINAL
        return dict(sorted(self.rows.items()))


STEPS = st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, float(LATENESS_S), LATENESS_S + 3.0])
LAGS = [-0.5, 0.0, 0.0, 0.5, 1.0, 2.5, 4.0, 8.0, LATENESS_S - 1.0, LATENESS_S + 2.0]


@st.composite
def logs(draw: st.DrawFn) -> list[TapeEvent]:
    """Events of two partitions, each in the order of its offsets, mixed."""
    events: list[TapeEvent] = []
    now = 0.0
    for offset in range(draw(st.integers(2, 25))):
        partition = draw(st.integers(0, PARTITIONS - 1))
        own = list(range(partition, SYMBOLS, PARTITIONS))
        kind = draw(st.sampled_from("tttttwwwg"))
        if kind == "w":
            now += draw(STEPS)
            events.append(watermark(partition, offset, now, draw(st.sampled_from([own, own[:1]]))))
        elif kind == "g":
            start = now - draw(st.sampled_from(LAGS))
            events.append(gap(partition, offset, start, start + draw(STEPS), own))
        else:
            stamps = st.sampled_from([now - lag for lag in LAGS])
            prices = st.sampled_from([0.5, 1.0, 1.5, 2.0, 4.5])
            trade = st.tuples(st.sampled_from(own), stamps, prices, st.integers(0, 3))
            events.append(trades(partition, offset, draw(st.lists(trade, min_size=1, max_size=4))))
    return events


@settings(max_examples=30, deadline=None)
@given(logs())
def test_the_window_follows_its_rules(events: list[TapeEvent]) -> None:
    """Every column equals the rules applied one trade at a time."""
    plain, window = Plain(), BarWindow()
    for event in events:
        plain.happen(event)
    changes = window.apply(events)
    assert rows_of(window.held()) == plain.result()
    assert len(changes.late_after_final) == plain.refused
    assert changes.trades + plain.refused == sum(len(e) for e in events if isinstance(e, TapeTrades))


@settings(max_examples=30, deadline=None)
@given(logs(), st.data())
def test_cuts_flushes_evictions_and_restarts_change_nothing(events: list[TapeEvent], data: st.DataObject) -> None:
    """What is stored at the end equals one uninterrupted pass, in every column."""
    whole = BarWindow()
    whole.apply(events)
    storage = Storage()
    rest = list(events)
    while rest:
        count = data.draw(st.integers(1, len(rest)), label="events in this call")
        storage.apply(rest[:count])
        rest = rest[count:]
        if data.draw(st.booleans(), label="flush") or not rest:
            storage.flush(data.draw(st.sampled_from([None, T0 - 5, T0 + 1, T0 + 3, T0 + 5]), label="evict to"))
            if data.draw(st.booleans(), label="restart"):
                storage.restart(data.draw(st.sampled_from([T0 - 1000, T0, T0 + 2, T0 + 4, T0 + 2000]), label="from"))
    assert storage.result() == rows_of(whole.held())


@settings(max_examples=15, deadline=None)
@given(logs())
def test_partitions_may_be_read_in_any_order(events: list[TapeEvent]) -> None:
    """Reading one partition after the other gives the bars of the mixed reading."""
    one, other = BarWindow(), BarWindow()
    one.apply(events)
    for partition in range(PARTITIONS):
        other.apply([e for e in events if e.partition == partition])
    assert rows_of(one.held()) == rows_of(other.held())


def test_a_bar_closes_one_second_after_its_end_and_late_records_revise_it() -> None:
    """OPEN, CLOSED at end + 1 s, then one revision per late record, however many trades it holds."""
    window = BarWindow()
    window.apply([trades(0, 0, [(0, 0.2, 10.0, 1.0)]), watermark(0, 1, 1.999, [0])])
    assert window.changed().state.tolist() == [OPEN]
    window.apply([watermark(0, 2, 2.0, [0])])
    closed = window.changed()
    assert (closed.state.tolist(), closed.late.tolist(), closed.changed_offset.tolist()) == ([CLOSED], [0], [2])
    window.apply([trades(0, 3, [(0, 0.1, 9.0, 1.0), (0, 0.3, 11.0, 1.0)]), trades(0, 4, [(0, 0.9, 10.5, 1.0)])])
    revised = window.changed()
    assert (revised.state.tolist(), revised.late.tolist(), revised.volume.tolist()) == ([REVISED], [2], [4])
    assert (revised.open[0], revised.high[0], revised.low[0], revised.close[0]) == (9.0, 11.0, 9.0, 10.5)
    assert len(window.changed()) == 0


def test_trades_of_final_bars_come_back() -> None:
    """15 minutes after its end a bar takes nothing in any more."""
    window = BarWindow()
    window.apply([trades(0, 0, [(0, 0.0, 10.0, 1.0)]), watermark(0, 1, 1.0 + LATENESS_S, [0])])
    changes = window.apply([trades(0, 2, [(0, 0.5, 99.0, 7.0), (0, 1.0, 11.0, 1.0)])])
    assert (changes.trades, changes.late_after_final.price.tolist()) == (1, [99.0])
    assert window.held().state.tolist() == [FINAL, REVISED]
    assert window.final_before(0) == T0 + 1


def test_an_older_bar_must_be_joined_with_its_stored_part_first() -> None:
    """Nothing is written over a stored bar that the window does not know."""
    window = BarWindow()
    window.apply([trades(0, 0, [(0, 0.0, 10.0, 1.0)]), watermark(0, 1, 10.0, [0])])
    stored = window.changed()
    assert window.evict(T0 + 5) == 1
    window.apply([trades(0, 2, [(0, 0.5, 12.0, 2.0)])])
    assert [column.tolist() for column in window.needed()] == [[0], [T0]]
    with pytest.raises(ValueError, match="must be applied first"):
        window.changed()
    window.apply_older(stored)
    merged = window.changed()
    assert (merged.open[0], merged.close[0], merged.volume[0], merged.late[0]) == (10.0, 12.0, 3, 1)
    with pytest.raises(ValueError, match="does not need"):
        window.apply_older(replace(stored, start_s=stored.start_s + 1))


def test_one_symbols_bars_can_be_looked_at() -> None:
    """held(symbol) copies that symbol's bars only; changes of the window leave the copy alone."""
    window = BarWindow()
    window.apply([trades(0, 0, [(0, 0.0, 10.0, 1.0), (2, 0.0, 5.0, 1.0)])])
    seen = window.held(2)
    window.apply([trades(0, 1, [(2, 0.1, 6.0, 1.0)])])
    assert (seen.symbol_id.tolist(), seen.close.tolist(), len(window)) == ([2], [5.0], 2)
