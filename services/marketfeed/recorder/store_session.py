"""One stay at the store's position: what is loaded from PostgreSQL, kept in memory, and written flush by flush.

A session begins with everything read back at the checkpoint and ends with any error: whatever was in memory is thrown
away, and the next session begins at what is stored. So there is one path for a start, a crash, a server that was away
and another writer, and it is taken often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import monotonic, time_ns

import numpy as np

from marketfeed.adapters.postgres import (
    Advance,
    Buckets,
    GapRow,
    PostgresStore,
    Progress,
    QuarantineRow,
    StoredBars,
    StoredState,
    StoreTransaction,
    StoreWriter,
    TradeRows,
)
from marketfeed.domain.bar_window import BarWindow, StoredGap
from marketfeed.domain.bar_window import TradeRows as LateRows
from marketfeed.domain.bars import CLOSED, BarColumns
from marketfeed.domain.errors import MalformedRecord
from marketfeed.domain.partitions import partition_of
from marketfeed.domain.position import Position
from marketfeed.domain.rollup import INTERVALS
from marketfeed.domain.rollups_due import COARSER, RollupsDue
from marketfeed.domain.sessions import DAY_S, Calendar
from marketfeed.domain.tape import TapeGap, TapeTrades, TapeWatermark
from marketfeed.domain.trades import NANOS, Int64Array, SymbolTable
from marketfeed.recorder import metrics
from marketfeed.recorder.log_tail import LogTail, Taken
from marketfeed.recorder.settings import RecorderSettings
from marketfeed.runtime.logs import get_logger

BUCKETS_PER_FLUSH = 2_000
QUARANTINE_PER_FLUSH = 1_000
# Seconds read at the start of a symbol without a watermark: more than trades may be late by.
UNMARKED_ROWS_MAX = 2_000

log = get_logger("recorder.store")


class StoreIds:
    """The store's ids beside the session's own, both ways, and each symbol's partition."""

    def __init__(self, symbols: SymbolTable, partitions: int) -> None:
        self._symbols = symbols
        self._partitions = partitions
        self.stored: Int64Array = np.empty(0, np.int64)
        self.partition: Int64Array = np.empty(0, np.int64)
        self.by_name: dict[str, int] = {}
        self._own: dict[int, int] = {}

    async def learn(self, writer: StoreWriter) -> None:
        """Give every symbol of the session an id in the store."""
        names = self._symbols.names()[len(self.stored) :]
        if not names:
            return
        found = await writer.symbol_ids(names)
        self._own.update(zip(found, range(len(self.stored), len(self.stored) + len(names)), strict=True))
        self.by_name.update(zip(names, found, strict=True))
        self.stored = np.concatenate([self.stored, np.array(found, np.int64)])
        partitions = [partition_of(name, self._partitions) for name in names]
        self.partition = np.concatenate([self.partition, np.array(partitions, np.int64)])

    def own(self, stored: Int64Array) -> Int64Array:
        """The session's ids of the store's."""
        return np.fromiter(map(self._own.__getitem__, stored.tolist()), np.int64, len(stored))


@dataclass(slots=True)
class Pending:
    """What was read and not written yet, beside the bars."""

    trades: int = 0
    gaps: list[TapeGap] = field(default_factory=list)
    stored_gaps: list[StoredGap] = field(default_factory=list)
    late: list[LateRows] = field(default_factory=list)
    malformed: list[MalformedRecord] = field(default_factory=list)
    raw: list[TapeTrades] = field(default_factory=list)
    days: set[int] = field(default_factory=set)
    records: int = 0


class StoreSession:
    """Bars, books and pending rows as of `position`, the stored one."""

    def __init__(
        self, settings: RecorderSettings, calendar: Calendar, store: PostgresStore, writer: StoreWriter, tail: LogTail
    ) -> None:
        self._settings = settings
        self._calendar = calendar
        self._store = store
        self._writer = writer
        self._tail = tail
        self._scales: dict[int, tuple[int, int]] = {}
        self._next_roll = dict.fromkeys(COARSER, 0.0)
        self.pending = Pending()
        self.window = BarWindow(settings.window_s)
        self.position = Position("", {})
        self.published = Position("", {})
        self.bars_written = 0
        # Closed and revised bars of the last flush, with names, for whoever publishes them.
        self.closed: BarColumns | None = None
        # Watermarks in whole seconds by the session's symbol ids.
        self._reached: Int64Array = np.zeros(0, np.int64)

    async def load(self, topic_id: str, partitions: int) -> None:
        """Read everything at the checkpoint and start the tail there. Raises Unavailable, LogReplaced."""
        if await self._writer.begin_log(topic_id, partitions, time_ns()):
            log.warning("the log was replaced: owners are void, reading from offset 0", topic_id=topic_id)
        state = await self._store.read_state(self._settings.feed)
        self.position = state.position
        append_ts = {partition: row.append_ts for partition, row in state.rows.items()}
        await self._tail.start(topic_id, state.partitions, append_ts)
        self._ids = StoreIds(self._tail.symbols, partitions)
        known = [row.symbol for row in await self._store.symbols(self._settings.feed)]
        self._tail.symbols.ids(known)
        await self._ids.learn(self._writer)
        self._due = RollupsDue(self._calendar, lambda ids: self._ids.partition[ids])
        await self._load_bars(state)

    async def _load_bars(self, state: StoredState) -> None:
        count = len(self._ids.stored)
        names = self._tail.symbols.names()
        watermarks = np.array(
            [self._tail.readers[p].watermark(n) for n, p in zip(names, self._ids.partition.tolist(), strict=True)],
            np.int64,
        )
        reached_s = self._reached = watermarks // NANOS
        self.window.load_watermarks(np.arange(count), watermarks)
        self._due.load_watermarks(reached_s)
        held_from_s = int(reached_s.max(initial=0)) - self._settings.window_s
        # OPEN bars start less than two seconds below their symbol's watermark. Without one all live bars of this log
        # are OPEN, those of half a second; what lies below may be imported or another log's, and have any length.
        from_s = np.minimum(held_from_s, reached_s - 2)
        rows_max = np.where(reached_s > 0, 2**40, UNMARKED_ROWS_MAX)
        stored = await self._store.read_window(self._ids.stored, from_s, rows_max)
        self.window.load(self._with_own_ids(stored.bars), held_from_s)
        alive = watermarks[watermarks > 0]
        oldest_ts = int(alive.min()) - 1000 * NANOS if len(alive) else 0
        gaps = await self._store.read_gaps(self._settings.feed, oldest_ts, 2**62)
        self.window.load_gaps(replace(gap, symbol_id=self._ids.own(gap.symbol_id)) for gap in gaps)
        await self._load_due(state)

    async def _load_due(self, state: StoredState) -> None:
        """Mark the roll-ups of seconds that changed after the roll-ups' own position."""
        rows = [state.rows[partition] for partition in self._ids.partition.tolist()]
        from_s = np.array([row.rolled_from_s for row in rows], np.int64)
        from_offset = np.array([row.rolled_offset for row in rows], np.int64)
        changed = await self._store.read_changed(self._ids.stored, from_s, from_offset)
        since = {partition: row.rolled_offset for partition, row in state.rows.items()}
        self._due.mark(self._ids.own(changed.bars.symbol_id), changed.bars.start_s, since)

    async def unpublished(self) -> BarColumns:
        """Bars that may have been stored without being published."""
        state = await self._store.read_state(self._settings.feed)
        rows = [state.rows[partition] for partition in self._ids.partition.tolist()]
        from_s = np.array([row.published_from_s for row in rows], np.int64)
        from_offset = np.array([row.published_offset for row in rows], np.int64)
        changed = self._with_own_ids((await self._store.read_changed(self._ids.stored, from_s, from_offset)).bars)
        return changed.take(changed.state >= CLOSED)

    def take(self, taken: Taken) -> None:
        """Let what the tail read happen."""
        changes = self.window.apply(taken.events)
        pending = self.pending
        for event in taken.events:
            if isinstance(event, TapeWatermark):
                self._know(len(self._tail.symbols))
                self._reached[event.symbol_id] = np.maximum(self._reached[event.symbol_id], event.event_ts // NANOS)
        pending.records += taken.records
        pending.trades += changes.trades
        pending.stored_gaps += changes.gaps
        pending.malformed += taken.malformed
        pending.gaps += [event for event in taken.events if isinstance(event, TapeGap)]
        if len(changes.late_after_final):
            pending.late.append(changes.late_after_final)
            metrics.LATE_FINAL.labels("store").inc(len(changes.late_after_final))
        for bars in changes.partials:
            pending.days.update(np.unique(bars.start_s // DAY_S).tolist())
        if self._settings.store_trades == "postgres":
            pending.raw += [event for event in taken.events if isinstance(event, TapeTrades)]

    @property
    def has_news(self) -> bool:
        """Whether there is anything to write: records that were read, or roll-ups whose time has come."""
        read = self._tail.position(self.position.topic_id, self.position) != self.position
        return read or self._due.waiting(monotonic(), self._next_roll)

    @property
    def has_due(self) -> bool:
        """Whether roll-ups lack something, whatever the time."""
        return len(self._due) > 0

    async def flush(self, roll_all: bool = False) -> int:
        """Write everything read so far in one transaction; how many bars. `roll_all`: and every roll-up that is due.

        Raises StalePosition, Unavailable.
        """
        await self._ids.learn(self._writer)
        self._know(len(self._ids.stored))
        pending = self.pending
        await self._writer.ensure_days("bar_1s", pending.days)
        trades = await self._raw_trades(pending.raw)
        if trades is not None:
            await self._writer.ensure_days("trade", np.unique(trades.event_ts // (DAY_S * NANOS)).tolist())
        target = self._tail.position(self.position.topic_id, self.position)
        advances = [
            Advance(partition, self.position.offsets[partition], offset, self._tail.append_ts.get(partition, 0))
            for partition, offset in target.offsets.items()
        ]
        async with self._writer.transaction(self.position.topic_id, advances) as transaction:
            bars = await self._write_bars(transaction, pending)
            await self._write_gaps(transaction, pending)
            await self._roll_up(transaction, roll_all)
            await self._settle(transaction)
            await self._write_log_state(transaction, pending)
            if trades is not None:
                await transaction.add_trades(trades)
            await transaction.note_progress(self._progress(target, bars))
        self.position = target
        self.pending = Pending()
        self.window.evict()
        self.closed = bars.take(bars.state >= CLOSED)
        self.bars_written += len(bars)
        return len(bars)

    async def _write_bars(self, transaction: StoreTransaction, pending: Pending) -> BarColumns:
        needed, needed_s = self.window.needed()
        if len(needed):
            older = await transaction.read_older(self._ids.stored[needed], needed_s)
            self.window.apply_older(self._with_own_ids(older.bars))
        await transaction.mark_incomplete(
            [(int(self._ids.stored[g.symbol_id]), g.from_s, g.until_s, g.offset) for g in pending.stored_gaps]
        )
        bars = self.window.changed()
        stored = StoredBars(
            replace(bars, symbol_id=self._ids.stored[bars.symbol_id]),
            self._calendar.trade_dates(bars.start_s).astype(np.int64),
            self._calendar.sessions(bars.start_s),
        )
        await transaction.write_bars(stored)
        await self._raise_scales(transaction, bars)
        self._due.mark(bars.symbol_id, bars.start_s, dict(self.position.offsets))
        for gap in pending.stored_gaps:
            span_s = np.arange(gap.from_s // 60 * 60, gap.until_s, 60)
            self._due.mark(np.full(len(span_s), gap.symbol_id), span_s, dict(self.position.offsets))
        return bars

    async def _write_gaps(self, transaction: StoreTransaction, pending: Pending) -> None:
        """Before the roll-ups, which look for gaps. A gap may touch a minute without touching a bar in it: those at its
        ends are made anew (what lies between has its bars marked, or none)."""
        await transaction.add_gaps(
            [
                GapRow(g.partition, g.offset, g.reason, g.from_ts, g.to_ts, g.dropped, self._stored_ids(g.symbol_id))
                for g in pending.gaps
            ]
        )
        for gap in pending.gaps:
            for at_ts in (gap.from_ts, gap.to_ts):
                at_s = np.full(len(gap.symbol_id), at_ts // NANOS)
                self._due.mark(gap.symbol_id, at_s, dict(self.position.offsets))

    async def _raise_scales(self, transaction: StoreTransaction, bars: BarColumns) -> None:
        finer: dict[int, tuple[int, int]] = {}
        scales = zip(bars.symbol_id.tolist(), bars.price_scale.tolist(), bars.size_scale.tolist(), strict=True)
        for symbol_id, price_scale, size_scale in scales:
            held = self._scales.get(symbol_id, (-1, -1))
            if price_scale > held[0] or size_scale > held[1]:
                best = max(price_scale, held[0]), max(size_scale, held[1])
                self._scales[symbol_id] = finer[symbol_id] = best
        if finer:
            ids = np.fromiter(finer, np.int64, len(finer))
            columns = np.array(list(finer.values()), np.int64)
            await transaction.raise_scales(self._ids.stored[ids], columns[:, 0], columns[:, 1])

    async def _roll_up(self, transaction: StoreTransaction, roll_all: bool) -> None:
        now = monotonic()
        for interval in COARSER:
            if now < self._next_roll[interval] and not roll_all:
                continue
            left = True
            while left:
                due = self._due.take(interval, self._reached, BUCKETS_PER_FLUSH)
                buckets = Buckets(self._ids.stored[due.symbol_id], due.start_s, due.end_s, due.closed, due.final)
                await transaction.roll_up(INTERVALS[interval], buckets)
                metrics.ROLLED.labels(interval).inc(len(buckets))
                # A full portion may leave more: that is for the next flush.
                full = len(buckets) == BUCKETS_PER_FLUSH
                left = full and roll_all
            if not full:
                settings = self._settings
                pause_s = settings.rollup_interval_s if interval == "1m" else settings.rollup_coarse_interval_s
                self._next_roll[interval] = now + pause_s

    def _know(self, symbols: int) -> None:
        if symbols > len(self._reached):
            self._reached = np.concatenate([self._reached, np.zeros(symbols - len(self._reached), np.int64)])

    async def _settle(self, transaction: StoreTransaction) -> None:
        for settled in self._due.crossed(self._reached, self._ids.stored % 60):
            await transaction.settle(
                INTERVALS[settled.interval],
                self._ids.stored[settled.symbol_id],
                settled.from_s,
                settled.closed_s,
                settled.final_s,
            )

    async def _write_log_state(self, transaction: StoreTransaction, pending: Pending) -> None:
        epochs = []
        for partition, reader in self._tail.readers.items():
            if reader.learning:
                continue
            changes = reader.take_changes()
            await transaction.add_owners(partition, changes.owners, self._ids.by_name)
            epochs += [(partition, changes.next_offset, state) for state in changes.epochs]
        await transaction.add_epochs(epochs)
        await transaction.add_quarantine(self._quarantine(pending))

    def _quarantine(self, pending: Pending) -> list[QuarantineRow]:
        """Unreadable records and trades that came too late, at most so many a flush; the rest is counted only."""
        rows = [QuarantineRow(m.partition, m.offset, 0, "malformed", m.reason[:500]) for m in pending.malformed]
        for late in pending.late:
            for i in range(min(len(late), QUARANTINE_PER_FLUSH - len(rows))):
                symbol_id = int(late.symbol_id[i])
                detail = (
                    f"{self._tail.symbols.name(symbol_id)} event_ts={late.event_ts[i]} price={late.price[i]!r}"
                    f" size={late.size[i]!r}"
                )
                place = int(late.offset[i]), int(late.index[i])
                partition = int(self._ids.partition[symbol_id])
                rows.append(QuarantineRow(partition, *place, "late_after_final", detail))
        return rows[:QUARANTINE_PER_FLUSH]

    def _progress(self, target: Position, bars: BarColumns) -> list[Progress]:
        frontier = self._due.frontier(dict(target.offsets))
        closed = bars.start_s[bars.state >= CLOSED]
        published_from_s = int(closed.min()) if len(closed) else 2**40
        return [
            Progress(partition, *frontier[partition], self.position.offsets[partition], published_from_s)
            for partition in target.offsets
        ]

    async def _raw_trades(self, raw: Sequence[TapeTrades]) -> TradeRows | None:
        if not raw:
            return None
        conditions = []
        for trades in raw:
            ids = np.array(await self._writer.condition_ids(trades.condition_sets), np.int64)
            conditions.append(ids[trades.condition_index])
        return TradeRows(
            np.concatenate([np.full(len(t), t.partition, np.int64) for t in raw]),
            np.concatenate([t.offset for t in raw]),
            np.concatenate([t.index for t in raw]),
            self._ids.stored[np.concatenate([t.symbol_id for t in raw])],
            np.concatenate([t.event_ts for t in raw]),
            np.concatenate([t.price for t in raw]),
            np.concatenate([t.size for t in raw]),
            np.concatenate(conditions),
        )

    def _stored_ids(self, symbol_id: Int64Array) -> tuple[int, ...]:
        return tuple(self._ids.stored[symbol_id].tolist())

    def _with_own_ids(self, bars: BarColumns) -> BarColumns:
        return replace(bars, symbol_id=self._ids.own(bars.symbol_id))
