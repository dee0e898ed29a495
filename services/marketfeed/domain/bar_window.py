"""The bars that can still change, kept up to date from the tape: states, revisions, gaps, lateness.

Every column of every bar is a pure function of the log's prefix. How events are cut into calls of `apply`, when rows
are stored, evicted and loaded again, and where a process is restarted, change nothing.

Rules of this file (times are event time; `wm` is the symbol's watermark)
1. A bar is OPEN until wm >= end + 1 s, then CLOSED; the watermark record that closed it is its last change.
2. A record that holds a trade of a bar that is not OPEN is late: it adds 1 to the bar's `late` (revision) and makes it
   REVISED, or creates it so.
3. A bar is FINAL when wm >= end + 15 min. Nothing changes it then: such trades come back as `late_after_final`, and a
   gap passes it by. FINAL follows from wm alone and is no change of the bar.
4. A bar is `incomplete` if a gap touches [start, end): from the gap's record on, or from its creation if that is later.

How a writer of storage uses it (one transaction per flush, with the readers' positions)
- at start `load` every stored row that is OPEN and all rows from some second on, `load_watermarks`, `load_gaps`;
- per poll `apply(events)`;
- per flush: `needed()` names bars of which storage may hold an earlier part; read those rows and pass them AS STORED
  to `apply_older` (the window merges them; keys without a row are left out); then write `changed()`, and for each
  `StoredGap` run: UPDATE bar_1s SET incomplete = true, changed_offset = gap.offset WHERE symbol_id = s AND
  start >= from_s AND start < until_s AND NOT incomplete; BEFORE upserting `changed()`;
- after the commit `evict()`. If the commit fails, load a new window from storage.
Stored rows of evicted bars stay CLOSED or REVISED. FINAL is written when convenient by one range update per symbol:
UPDATE bar_1s SET state = FINAL WHERE symbol_id = s AND start < final_before(s) AND state <> FINAL. A reader may
derive it from the watermark instead: both agree.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from marketfeed.domain.bar_rows import BarRows
from marketfeed.domain.bars import CLOSED, FINAL, OPEN, REVISED, BarColumns, no_bars, reduce_trades, segment_starts
from marketfeed.domain.tape import TapeEvent, TapeGap, TapeTrades, TapeWatermark
from marketfeed.domain.trades import NANOS, BoolArray, Float64Array, Int64Array

CLOSE_AFTER_S = 1
LATENESS_S = 15 * 60
# No second is below this one: a window that was given no stored rows holds all bars there are.
BEGINNING_S = -(2**40)


@dataclass(frozen=True, slots=True, eq=False)
class TradeRows:
    """Trades as equally long columns, as in `TapeTrades`; they may come from several partitions."""

    symbol_id: Int64Array
    event_ts: Int64Array
    price: Float64Array
    size: Float64Array
    offset: Int64Array
    index: Int64Array

    def __len__(self) -> int:
        return len(self.event_ts)

    def take(self, chosen: BoolArray) -> TradeRows:
        """The rows where the mask is true."""
        return _rows_of(*(getattr(self, name)[chosen] for name in TradeRows.__slots__))


@dataclass(frozen=True, slots=True)
class StoredGap:
    """Stored bars of `symbol_id` with from_s <= start < until_s are incomplete as of record `offset`."""

    symbol_id: int
    from_s: int
    until_s: int
    offset: int


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """What one `apply` did beside changing bars.

    trades            how many trades it counted
    partials          those trades as partial bars, one BarColumns per stretch of the tape: what each bar gained
    late_after_final  trades refused by rule 3
    gaps              what storage must mark, see the module's text
    """

    trades: int
    partials: tuple[BarColumns, ...]
    late_after_final: TradeRows
    gaps: tuple[StoredGap, ...]


class BarWindow:
    """One-second bars of all symbols of a process. `keep_s`: how far below the newest watermark bars are held."""

    def __init__(self, keep_s: int = 120) -> None:
        self.keep_s = keep_s
        self._rows = BarRows()
        self._open: Int64Array = np.empty(0, np.int64)
        self._watermark: Int64Array = np.zeros(64, np.int64)
        self._reached_s: Int64Array = np.zeros(64, np.int64)
        self._held_from_s = BEGINNING_S
        self._gaps: dict[int, list[TapeGap]] = {}

    def __len__(self) -> int:
        """Bars held."""
        return len(self._rows)

    @property
    def held_from_s(self) -> int:
        """All bars that start at or after this second are held, and all OPEN ones."""
        return self._held_from_s

    def watermark(self, symbol_id: int) -> int:
        """The symbol's watermark (Unix ns), 0 when there is none."""
        return int(self._watermark[symbol_id]) if symbol_id < len(self._watermark) else 0

    def final_before(self, symbol_id: int) -> int:
        """Bars of the symbol that start before this second are FINAL."""
        return self.watermark(symbol_id) // NANOS - LATENESS_S

    def load(self, bars: BarColumns, held_from_s: int) -> None:
        """Take in stored rows: all that are OPEN and all that start at or after `held_from_s`; once, at the start."""
        slots = self._rows.add(bars)
        self._held_from_s = held_from_s
        self._open = slots[bars.state == OPEN]

    def load_watermarks(self, symbol_id: Int64Array, event_ts: Int64Array) -> None:
        """Take in the watermarks (int64, Unix ns) that held at the stored position."""
        self._know(symbol_id)
        np.maximum.at(self._watermark, symbol_id, event_ts)
        np.floor_divide(self._watermark, NANOS, out=self._reached_s)

    def load_gaps(self, gaps: Iterable[TapeGap]) -> None:
        """Take in the gaps read before the stored position, in the order of the log.

        Those that end more than 15 min below the watermarks of their symbols may be left out.
        """
        for gap in gaps:
            self._keep_gap(gap)

    def apply(self, events: Sequence[TapeEvent]) -> Changes:
        """Let events happen: those of a partition in the order of its log; partitions may be mixed in any way.

        Costs per trade a sort and a few passes, per bar touched one dictionary look-up and the merge of one row.
        """
        partials: list[BarColumns] = []
        refused: list[TradeRows] = []
        gaps: list[StoredGap] = []
        counted = 0
        for trades, controls in _stretches(events):
            if trades:
                rows = self._refuse_final(_joined(trades), refused)
                counted += len(rows)
                partials.append(self._take_trades(rows))
            for control in controls:
                if isinstance(control, TapeWatermark):
                    self._raise_watermark(control)
                else:
                    gaps.extend(self._take_gap(control))
        return Changes(counted, tuple(partials), _joined(refused), tuple(gaps))

    def needed(self) -> tuple[Int64Array, Int64Array]:
        """(symbol_id, start_s) of bars of which storage may hold an earlier part; see `apply_older`."""
        slots = np.flatnonzero(self._rows.needed)
        return self._rows.column("symbol_id")[slots], self._rows.column("start_s")[slots]

    def apply_older(self, stored: BarColumns) -> None:
        """Merge the stored rows of all `needed` bars, exactly as stored; a needed bar without a row is new.

        Raises ValueError if a row was not needed: it would be counted twice.
        """
        slots = self._rows.find(stored.symbol_id, stored.start_s)
        if not (slots >= 0).all() or not self._rows.needed[slots].all():
            raise ValueError("a stored bar was handed in that the window does not need")
        self._rows.merge(slots, stored)
        complete = np.flatnonzero(self._rows.needed)
        self._rows.needed[complete] = False
        for slot in complete.tolist():
            self._mend_incomplete(slot)

    def changed(self) -> BarColumns:
        """The bars changed since the last call, whole and in their present state, to be written over the stored ones.

        Raises ValueError while bars are `needed`.
        """
        if self._rows.needed.any():
            raise ValueError("the stored parts of older bars must be applied first")
        slots = np.flatnonzero(self._rows.dirty)
        self._rows.dirty[slots] = False
        return self._with_final(self._rows.take(slots))

    def held(self, symbol_id: int | None = None) -> BarColumns:
        """A copy of all bars in memory, or of one symbol's, in their present state. Costs a pass over all of them."""
        chosen = self._rows.live
        if symbol_id is not None:
            chosen = chosen & (self._rows.column("symbol_id") == symbol_id)
        return self._with_final(self._rows.take(np.flatnonzero(chosen)))

    def evict(self, before_s: int | None = None) -> int:
        """Forget bars below a second, by default `keep_s` below the newest watermark; how many were forgotten.

        OPEN bars and those changed since the last `changed()` stay. Call it after a commit.
        """
        floor_s = int(self._reached_s.max()) - self.keep_s if before_s is None else before_s
        self._held_from_s = max(self._held_from_s, floor_s)
        rows = self._rows
        old = rows.live & ~rows.dirty & (rows.column("start_s") < self._held_from_s) & (rows.column("state") != OPEN)
        slots = np.flatnonzero(old)
        rows.free(slots)
        for symbol_id, gaps in list(self._gaps.items()):
            final_before = self.final_before(symbol_id)
            self._gaps[symbol_id] = [g for g in gaps if g.to_ts // NANOS >= final_before]
            if not self._gaps[symbol_id]:
                del self._gaps[symbol_id]
        return len(slots)

    def _refuse_final(self, rows: TradeRows, refused: list[TradeRows]) -> TradeRows:
        """Rule 3: the trades that may count."""
        self._know(rows.symbol_id)
        if rows.event_ts.min() >= (int(self._reached_s.max()) - LATENESS_S) * NANOS:
            return rows
        final = rows.event_ts // NANOS < self._reached_s[rows.symbol_id] - LATENESS_S
        if not final.any():
            return rows
        refused.append(rows.take(final))
        return rows.take(~final)

    def _take_trades(self, rows: TradeRows) -> BarColumns:
        """Rules 1 and 2 for trades between two controls; returns them as partial bars."""
        if not len(rows):
            return no_bars()
        bars = reduce_trades(rows.symbol_id, rows.event_ts, rows.price, rows.size, rows.offset, rows.index)
        closed = bars.start_s < self._reached_s[bars.symbol_id] - CLOSE_AFTER_S
        if closed.any():
            bars = self._count_late(bars, closed, rows)
        slots = self._rows.find(bars.symbol_id, bars.start_s)
        known, new = np.flatnonzero(slots >= 0), np.flatnonzero(slots < 0)
        if len(known):
            self._rows.merge(slots[known], bars if not len(new) else bars.take(known))
        if len(new):
            slots[new] = self._add(bars.take(new), closed[new])
        self._rows.dirty[slots] = True
        return bars

    def _add(self, bars: BarColumns, closed: BoolArray) -> Int64Array:
        """Put in bars that are not held, each either new or needed; their slots."""
        needed = closed & (bars.start_s < self._held_from_s)
        if self._gaps:
            touched = [
                not need and self._first_gap(symbol, start) is not None
                for symbol, start, need in zip(
                    bars.symbol_id.tolist(), bars.start_s.tolist(), needed.tolist(), strict=True
                )
            ]
            bars = replace(bars, incomplete=np.array(touched, np.bool_))
        slots = self._rows.add(bars)
        self._rows.needed[slots] = needed
        self._open = np.concatenate([self._open, slots[~closed]])
        return slots

    def _count_late(self, bars: BarColumns, closed: BoolArray, rows: TradeRows) -> BarColumns:
        """Rule 2: REVISED, with the number of different records in each bar that is no longer OPEN."""
        second = rows.event_ts // NANOS
        is_late = second < self._reached_s[rows.symbol_id] - CLOSE_AFTER_S
        symbol_id, second, offset = rows.symbol_id[is_late], second[is_late], rows.offset[is_late]
        order = np.lexsort((offset, second, symbol_id))
        symbol_id, second, offset = symbol_id[order], second[order], offset[order]
        records = segment_starts(symbol_id, second, offset)
        late = np.zeros(len(bars), np.int64)
        # Both sides are sorted by (symbol_id, start_s), so the runs of records are the closed bars in their order.
        runs = segment_starts(symbol_id[records], second[records])
        late[closed] = np.diff(np.append(runs, len(records)))
        return replace(bars, late=late, state=np.where(closed, REVISED, OPEN).astype(np.int8))

    def _raise_watermark(self, event: TapeWatermark) -> None:
        """Rule 1."""
        self._know(event.symbol_id)
        self._watermark[event.symbol_id] = np.maximum(self._watermark[event.symbol_id], event.event_ts)
        self._reached_s[event.symbol_id] = self._watermark[event.symbol_id] // NANOS
        cells = self._rows
        reached_s = self._reached_s[cells.column("symbol_id")[self._open]]
        closes = cells.column("start_s")[self._open] < reached_s - CLOSE_AFTER_S
        if closes.any():
            slots = self._open[closes]
            self._open = self._open[~closes]
            cells.column("state")[slots] = CLOSED
            cells.column("changed_offset")[slots] = event.offset
            cells.dirty[slots] = True

    def _take_gap(self, gap: TapeGap) -> Iterator[StoredGap]:
        """Rule 4 for bars that exist: those held are marked, for the others storage is told."""
        self._know(gap.symbol_id)
        self._keep_gap(gap)
        from_s, until_s = gap.from_ts // NANOS, gap.to_ts // NANOS + 1
        rows = self._rows
        start_s, symbol_id = rows.column("start_s"), rows.column("symbol_id")
        near = rows.live & ~rows.needed & (start_s >= from_s) & (start_s < until_s)
        slots = np.flatnonzero(near)
        slots = slots[np.isin(symbol_id[slots], gap.symbol_id)]
        slots = slots[start_s[slots] >= self._reached_s[symbol_id[slots]] - LATENESS_S]
        slots = slots[rows.column("incomplete")[slots] == 0]
        rows.column("incomplete")[slots] = 1
        rows.column("changed_offset")[slots] = gap.offset
        rows.dirty[slots] = True
        for one in gap.symbol_id.tolist():
            first_s, end_s = max(from_s, self.final_before(one)), min(until_s, self._held_from_s)
            if first_s < end_s:
                yield StoredGap(one, first_s, end_s, gap.offset)

    def _keep_gap(self, gap: TapeGap) -> None:
        """Remember a gap for bars that are created later."""
        for symbol_id in gap.symbol_id.tolist():
            self._gaps.setdefault(symbol_id, []).append(gap)

    def _first_gap(self, symbol_id: int, start_s: int) -> int | None:
        """Offset of the first known gap that touches a bar."""
        for gap in self._gaps.get(symbol_id, ()):
            if gap.from_ts // NANOS <= start_s <= gap.to_ts // NANOS:
                return gap.offset
        return None

    def _mend_incomplete(self, slot: int) -> None:
        """Rule 4 for a bar that storage held an earlier part of while the gap was read."""
        rows = self._rows
        if rows.column("incomplete")[slot]:
            return
        offset = self._first_gap(int(rows.column("symbol_id")[slot]), int(rows.column("start_s")[slot]))
        if offset is not None:
            rows.column("incomplete")[slot] = 1
            rows.column("changed_offset")[slot] = max(offset, int(rows.column("changed_offset")[slot]))

    def _with_final(self, bars: BarColumns) -> BarColumns:
        """The bars with FINAL where the watermark says so."""
        self._know(bars.symbol_id)
        final = bars.start_s < self._reached_s[bars.symbol_id] - LATENESS_S
        return replace(bars, state=np.where(final, FINAL, bars.state).astype(np.int8)) if final.any() else bars

    def _know(self, symbol_id: Int64Array) -> None:
        """Make the columns by symbol long enough."""
        missing = int(symbol_id.max(initial=0)) + 1 - len(self._watermark)
        if missing > 0:
            more = np.zeros(missing + len(self._watermark), np.int64)
            self._watermark = np.concatenate([self._watermark, more])
            self._reached_s = np.concatenate([self._reached_s, more])


def _stretches(events: Sequence[TapeEvent]) -> Iterator[tuple[list[TapeTrades], list[TapeWatermark | TapeGap]]]:
    """Trades up to the next control of each partition, then those controls, and so on.

    A symbol lives in one partition, so only the order within a partition matters; taking all partitions' trades at
    once makes the stretches long.
    """
    queues: dict[int, deque[TapeTrades | TapeWatermark | TapeGap]] = {}
    for event in events:
        if isinstance(event, TapeTrades | TapeWatermark | TapeGap):
            queues.setdefault(event.partition, deque()).append(event)
    while queues:
        trades: list[TapeTrades] = []
        controls: list[TapeWatermark | TapeGap] = []
        for partition, queue in list(queues.items()):
            while queue and isinstance(event := queue[0], TapeTrades):
                trades.append(event)
                queue.popleft()
            while queue and not isinstance(event := queue[0], TapeTrades):
                controls.append(event)
                queue.popleft()
            if not queue:
                del queues[partition]
        yield trades, controls


def _joined(parts: Sequence[TapeTrades] | Sequence[TradeRows]) -> TradeRows:
    """The six columns of all parts in the order given."""
    if not parts:
        none = np.empty(0, np.int64)
        return TradeRows(none, none, np.empty(0), np.empty(0), none, none)
    if len(parts) == 1:
        return _rows_of(*(getattr(parts[0], name) for name in TradeRows.__slots__))
    return _rows_of(*(np.concatenate([getattr(p, name) for p in parts]) for name in TradeRows.__slots__))


def _rows_of(*columns: npt.NDArray[np.generic]) -> TradeRows:
    return TradeRows(**dict(zip(TradeRows.__slots__, columns, strict=True)))  # type: ignore[arg-type]
