"""One stay at the cache's position: quotes and cells in memory, written flush by flush.

A session begins with what Redis holds at its position. When Redis holds none (it is new, or lost its data) it is
rebuilt: from PostgreSQL, if that has this log's position, else from the beginning of the log. In between it needs
PostgreSQL for nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
import numpy as np

from marketfeed.adapters.postgres import PostgresStore
from marketfeed.adapters.postgres.start import StartState, read_start
from marketfeed.adapters.redis import KEEP_S, CacheFlush, RedisCache
from marketfeed.domain.bar_window import LATENESS_S
from marketfeed.domain.bars import BarColumns, combine, reduce_trades, stack
from marketfeed.domain.errors import MarketfeedError, Unavailable
from marketfeed.domain.ownership import EpochState, OwnerRow, PartitionState
from marketfeed.domain.partitions import partition_of
from marketfeed.domain.position import Position
from marketfeed.domain.quotes import QuoteBook, quotes_of_days
from marketfeed.domain.second_cells import Cells, SecondCells
from marketfeed.domain.sessions import Calendar
from marketfeed.domain.tape import TapeTrades, TapeWatermark
from marketfeed.domain.trades import NANOS, Int64Array
from marketfeed.recorder import metrics
from marketfeed.recorder.log_tail import LogTail, Taken
from marketfeed.runtime.logs import get_logger
from marketfeed.wire.redis_quotes import QuoteEncoder, decode_quotes

QUOTES_PER_READ = 500
CELLS_PER_CALL = 20_000
REBUILD_STEP_S = 600
STORE_TIMEOUT_S = 120.0
# A trade's place in the log, for joining the pieces of a partition.
_TRADE_COLUMNS = ("symbol_id", "event_ts", "price", "size", "offset", "index")

log = get_logger("recorder.cache")
_owners = msgspec.json.Decoder(list[tuple[str, int, int, int]])
_epochs = msgspec.json.Decoder(list[tuple[int, int, int]])


class CacheSession:
    """Quotes and cells as of `position`, the cache's own."""

    def __init__(
        self, feed: str, calendar: Calendar, cache: RedisCache, tail: LogTail, store: PostgresStore | None
    ) -> None:
        self._feed = feed
        self._encoder = QuoteEncoder(calendar)
        self._cache = cache
        self._tail = tail
        self._store = store
        self._cells = SecondCells()
        self._pending: dict[int, list[TapeTrades]] = {}
        self._reached: Int64Array = np.zeros(0, np.int64)
        self._owners_written: set[int] = set()
        # Symbols whose quote changed by something other than a trade.
        self._refreshed: set[int] = set()
        self._expected: Position | None = None
        self.book = QuoteBook(lambda start_s: calendar.trade_dates(start_s).astype(np.int64))
        self.position = Position("", {})
        self.trades = 0

    async def load(self, topic_id: str, partitions: int, stopping: asyncio.Event) -> None:
        """Read what Redis holds, or rebuild it; start the tail there. Raises Unavailable, LogReplaced.

        A rebuild that `stopping` interrupts is left as it is: without a position it will be begun again.
        """
        state = await self._cache.read_state()
        self._expected = Position.parse(state["position"]) if "position" in state else None
        states = {partition: PartitionState() for partition in range(partitions)}
        start: StartState | None = None
        if self._expected is None:
            start = await self._read_store(topic_id)
            if start is not None:
                states.update(start.state.partitions)
        elif self._expected.topic_id == topic_id:
            states.update({p: _parse_state(state, p, offset) for p, offset in self._expected.offsets.items()})
        else:
            log.warning("the log was replaced: owners are void, reading from offset 0", topic_id=topic_id)
        await self._tail.start(topic_id, states, {p: int(state.get("append_ts", 0)) for p in states})
        self.position = Position(topic_id, {p: s.next_offset for p, s in states.items()})
        if start is not None:
            await self._rebuild(start, stopping)
        elif self._expected is not None:
            await self._load_quotes()
        self._load_watermarks()

    async def _load_quotes(self) -> None:
        """Quotes from Redis; cells are only known to lie at or below each quote's second."""
        names = await self._cache.symbols()
        ids = dict(zip(names, self._tail.symbols.ids(names).tolist(), strict=True))
        for at in range(0, len(names), QUOTES_PER_READ):
            hashes = await self._cache.read_quotes(names[at : at + QUOTES_PER_READ])
            quotes = decode_quotes(hashes, ids)
            self.book.load(quotes)
            self._cells.begin(quotes.symbol_id, quotes.day.close_ts // NANOS)

    def _load_watermarks(self) -> None:
        names = self._tail.symbols.names()
        self._reached = np.zeros(len(names), np.int64)
        for reader in self._tail.readers.values():
            for symbol_id, name in enumerate(names):
                self._reached[symbol_id] = max(self._reached[symbol_id], reader.watermark(name) // NANOS)

    async def _read_store(self, topic_id: str) -> StartState | None:
        """Where PostgreSQL stands, None when it does not know this log or is away."""
        if self._store is None:
            return None
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                await self._store.open()
                if not await self._store.is_migrated():
                    return None
                start = await read_start(self._store, self._feed, 0)
        except (MarketfeedError, TimeoutError) as error:
            log.warning("cannot rebuild from PostgreSQL, reading the log from its beginning", error=str(error))
            return None
        return start if start.state.rows and start.state.topic_id == topic_id else None

    async def _rebuild(self, start: StartState, stopping: asyncio.Event) -> None:
        """Quotes and cells from PostgreSQL. Cells may be newer than the position: what is read again changes none."""
        assert self._store is not None
        names = [name for _, name in start.symbols]
        own = dict(zip((one for one, _ in start.symbols), self._tail.symbols.ids(names).tolist(), strict=True))
        day = _with_own_ids(start.days, own)
        previous = {own[symbol_id]: before for symbol_id, before in start.previous.items()}
        partitions = len(self.position.offsets)
        partition = [partition_of(self._tail.symbols.name(one), partitions) for one in day.symbol_id.tolist()]
        self.book.load(quotes_of_days(day, previous, np.array(partition, np.int64)))
        newest_s = max(int(day.close_ts.max(initial=0)) // NANOS, int(start.seconds.start_s.max(initial=0))) + 1
        written = 0
        # Bars written since the position was read lie just above; later ones are read from the log again.
        for from_s in range(newest_s - KEEP_S, newest_s + REBUILD_STEP_S, REBUILD_STEP_S):
            if stopping.is_set():
                raise Unavailable("Redis", self._cache.place, "its rebuild was interrupted")
            written += await self._rebuild_cells(own, from_s, from_s + REBUILD_STEP_S)
        newest_s += 2 * REBUILD_STEP_S
        ids = np.array(sorted(own.values()), np.int64)
        self._cells.begin(ids, np.full(len(ids), newest_s))
        await self._write(self.book.ids(), _no_cells())
        log.info("rebuilt from PostgreSQL", position=self.position.text(), quotes=len(day), cells=written)

    async def _rebuild_cells(self, own: Mapping[int, int], from_s: int, to_s: int) -> int:
        assert self._store is not None
        columns = await self._store.read_closes(self._feed, from_s, to_s)
        ids = np.fromiter((own.get(one, -1) for one in columns["symbol_id"].tolist()), np.int64)
        cells = Cells(ids, columns["start"].astype(np.int64), columns["close"], columns["close_ts"])
        names = self._tail.symbols.names()
        for at in range(0, len(cells), CELLS_PER_CALL):
            part = slice(at, at + CELLS_PER_CALL)
            known = ids[part] >= 0
            chosen = Cells(*(getattr(cells, name)[part][known] for name in Cells.__slots__))
            await self._cache.write_cells(names, chosen)
        return len(cells)

    def take(self, taken: Taken) -> None:
        """Let what the tail read happen. Trades of FINAL bars are left out, as the store leaves them out."""
        missing = len(self._tail.symbols) - len(self._reached)
        if missing > 0:
            self._reached = np.concatenate([self._reached, np.zeros(missing, np.int64)])
        for event in taken.events:
            if isinstance(event, TapeTrades):
                counted = self._without_final(event)
                self.trades += len(counted)
                self._pending.setdefault(event.partition, []).append(counted)
            elif isinstance(event, TapeWatermark):
                reached = self._reached[event.symbol_id]
                self._reached[event.symbol_id] = np.maximum(reached, event.event_ts // NANOS)

    def _without_final(self, trades: TapeTrades) -> TapeTrades:
        if int(trades.event_ts.min()) >= (int(self._reached.max()) - LATENESS_S) * NANOS:
            return trades
        final = trades.event_ts // NANOS < self._reached[trades.symbol_id] - LATENESS_S
        if not final.any():
            return trades
        metrics.LATE_FINAL.labels("cache").inc(int(final.sum()))
        return _joined([trades], ~final)

    @property
    def has_news(self) -> bool:
        """Whether there is anything to write."""
        return self._expected is None or self._tail.position(self.position.topic_id, self.position) != self.position

    async def flush(self) -> int:
        """Write everything read so far; how many cells. Raises StalePosition, Unavailable."""
        pending, self._pending, self.trades = self._pending, {}, 0
        parts: list[BarColumns] = []
        changed: list[Int64Array] = []
        for pieces in pending.values():
            trades = _joined(pieces)
            if not len(trades):
                continue
            bars = reduce_trades(*(getattr(trades, name) for name in _TRADE_COLUMNS))
            changed.append(self.book.apply(trades, bars))
            parts.append(bars)
        bars = combine(stack(parts))
        learned = await self._learn(bars)
        cells = self._cells.offer(bars, learned)
        changed.append(np.array(sorted(self._refreshed), np.int64))
        self._refreshed.clear()
        ids = np.unique(np.concatenate(changed))
        self.position = self._tail.position(self.position.topic_id, self.position)
        await self._write(ids, cells)
        return len(cells)

    async def _learn(self, bars: BarColumns) -> Cells | None:
        """The content of cells that memory does not hold: late trades, and the first seconds of a session."""
        unknown = self._cells.unknown(bars)
        if not unknown.any():
            return None
        ids, seconds = bars.symbol_id[unknown].tolist(), bars.start_s[unknown].tolist()
        name = self._tail.symbols.name
        return await self._cache.read_cells((one, name(one), s) for one, s in zip(ids, seconds, strict=True))

    async def _write(self, ids: Int64Array, cells: Cells) -> None:
        names = self._tail.symbols.names()
        flush = CacheFlush(
            expected=self._expected,
            position=self.position,
            state=self._state(),
            names=names,
            quotes=self._encoder.encode(self.book.take(ids), names),
            cells=cells,
        )
        await self._cache.flush(flush)
        self._expected = self.position

    def _state(self) -> dict[str, str | int]:
        """What the readers' rule knows, as fields of the position's hash; owners only when they have changed."""
        state: dict[str, str | int] = {"append_ts": max(self._tail.append_ts.values(), default=0)}
        for partition, reader in self._tail.readers.items():
            if reader.learning:
                continue
            changes = reader.take_changes()
            if changes.owners or changes.epochs or partition not in self._owners_written:
                whole = reader.state
                epochs = [(e.epoch, e.last_seq, e.watermark_ts) for e in whole.epochs.values()]
                state[f"epochs:{partition}"] = msgspec.json.encode(epochs).decode()
            if changes.owners or partition not in self._owners_written:
                owners = [(o.symbol, o.epoch, o.from_offset, o.watermark_ts) for o in whole.owners.values()]
                state[f"owners:{partition}"] = msgspec.json.encode(owners).decode()
                self._owners_written.add(partition)
        return state

    @property
    def lacks_previous(self) -> bool:
        """Whether a quote has no previous close."""
        return len(self.book.lacking_previous()) > 0

    async def seek_previous_closes(self) -> None:
        """Ask PostgreSQL for previous closes that the tape has not shown yet. Raises Unavailable."""
        lacking = self.book.lacking_previous()
        if self._store is None or not len(lacking):
            return
        await self._store.open()
        quotes = self.book.take(lacking)
        dates = quotes.trade_date
        for day in np.unique(dates).tolist():
            ids = lacking[dates == day]
            names = {self._tail.symbols.name(one): one for one in ids.tolist()}
            before = _EPOCH + np.timedelta64(day, "D")
            found = await self._store.previous_close(self._feed, list(names), before.item())
            for symbol, row in found.items():
                self.book.set_previous(names[symbol], row.close)
                self._refreshed.add(names[symbol])


_EPOCH = np.datetime64("1970-01-01", "D")


def _joined(pieces: list[TapeTrades], chosen: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None) -> TapeTrades:
    """Trades of one partition as one piece; conditions are not carried over, nothing here needs them."""
    columns = {
        name: getattr(pieces[0], name) if len(pieces) == 1 else np.concatenate([getattr(p, name) for p in pieces])
        for name in _TRADE_COLUMNS
    }
    if chosen is not None:
        columns = {name: column[chosen] for name, column in columns.items()}
    return TapeTrades(
        pieces[0].partition,
        pieces[0].first_offset,
        pieces[-1].last_offset,
        **columns,
        condition_sets=(),
        condition_index=np.empty(0, np.uint32),
        received_ts=max(p.received_ts for p in pieces),
        append_ts=max(p.append_ts for p in pieces),
        oldest_append_ts=min(p.oldest_append_ts for p in pieces),
    )


def _parse_state(state: Mapping[str, str], partition: int, next_offset: int) -> PartitionState:
    """A partition's state from the position's hash. Raises Unavailable if it is not what was written."""
    try:
        owners = [OwnerRow(*row) for row in _owners.decode(state.get(f"owners:{partition}", "[]"))]
        epochs = [EpochState(*row) for row in _epochs.decode(state.get(f"epochs:{partition}", "[]"))]
    except msgspec.DecodeError as error:
        raise Unavailable("Redis", f"partition {partition}", f"its state cannot be read: {error}") from error
    return PartitionState(next_offset, {o.symbol: o for o in owners}, {e.epoch: e for e in epochs})


def _with_own_ids(bars: BarColumns, own: Mapping[int, int]) -> BarColumns:
    ids = np.array([own[one] for one in bars.symbol_id.tolist()], np.int64)
    columns = {name: getattr(bars, name) for name in BarColumns.__slots__} | {"symbol_id": ids}
    return combine(BarColumns(**columns))


def _no_cells() -> Cells:
    none = np.empty(0, np.int64)
    return Cells(none, none, np.empty(0), none)
