"""The market as this process knows it: bars, quotes, watermarks and statuses, made from the log by the readers' rule.

`apply` takes records, `commit` closes a turn: what changed since the last one becomes a version in the change log that
clients are served from. Nothing here encodes or sends (`frames.py`), reads a store (`start.py`, `snapshot.py`) or
knows clients.

Per turn the costs are a few passes over the trades, and a dictionary look-up per bar and symbol that changed.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from marketfeed.domain.bar_window import TradeRows
from marketfeed.domain.bars import BarColumns, combine, no_bars, stack
from marketfeed.domain.conflation import ChangeLog, Changes
from marketfeed.domain.follower_window import BYTES_PER_BAR, FollowerWindow, Orphan
from marketfeed.domain.log import Logged
from marketfeed.domain.minute_bars import MinuteBook
from marketfeed.domain.ownership import PartitionReader, PartitionState
from marketfeed.domain.partitions import partition_of
from marketfeed.domain.position import Position
from marketfeed.domain.quotes import QuoteBook, QuoteColumns
from marketfeed.domain.sessions import SESSIONS, Calendar
from marketfeed.domain.tape import TapeEvent, TapeGap, TapeOwner, TapeStatus, TapeTrades, TapeWatermark
from marketfeed.domain.tape_ring import TapeRing
from marketfeed.domain.trades import NANOS, Float64Array, Int64Array, SymbolTable

# A rate of trades follows a change within about this time.
RATE_MEMORY_S = 5.0
# Longer than Finnhub's pings are apart, which move the watermark of a silent market.
STALE_AFTER_S = 75.0
# Owners write a watermark every 500 ms; ten missing ones in a row are no coincidence.
DOWN_AFTER_S = 5.0
ORPHANS_MAX = 10_000
# The tape held for readers that come back, where nobody says otherwise.
TAPE_S = 300.0
TAPE_BYTES_MAX = 256 << 20
OLDER_MAX = 10_000


@dataclass(frozen=True, slots=True)
class SourceState:
    """Where a symbol's data stands: source live | stale | down, trading trading | halted | closed."""

    source: str
    trading: str
    since_ts: int
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Beginning:
    """Where a `LiveState` begins. symbol_id of all columns is of `symbols`.

    topic_id, partitions  the log and the readers' rule there; no state for a partition: begin at `offsets`
    seconds, held_from_s  bars from that second on; None: those before the first record are not known
    """

    topic_id: str
    offsets: Mapping[int, int]
    partitions: Mapping[int, PartitionState]
    symbols: SymbolTable
    seconds: BarColumns
    held_from_s: int | None
    watermarks: Mapping[str, int]
    quotes: QuoteColumns | None
    gaps: Sequence[TapeGap]


class LiveState:
    """One log, followed from one beginning. Another log (LogReplaced) is another LiveState."""

    def __init__(
        self,
        beginning: Beginning,
        calendar: Calendar,
        window_s: int,
        window_bytes_max: int,
        tape_s: float = TAPE_S,
        tape_bytes_max: int = TAPE_BYTES_MAX,
    ) -> None:
        self.topic_id = beginning.topic_id
        self.calendar = calendar
        self.symbols = beginning.symbols
        # Whether nothing of the log is missing below what is held: it began at a stored position or at offset 0.
        self.began_whole = beginning.held_from_s is not None or not any(beginning.offsets.values())
        self.partitions = len(beginning.offsets)
        self.readers = {p: self._reader(p, beginning.partitions.get(p)) for p in beginning.offsets}
        self._begin_at = dict(beginning.offsets)
        self.window = FollowerWindow(window_s, window_bytes_max // BYTES_PER_BAR)
        self.tape = TapeRing(self.next_offsets, tape_s, tape_bytes_max)
        self.quotes = QuoteBook(self._day_of)
        self.log = ChangeLog()
        self.minutes = MinuteBook()
        self.orphans: dict[tuple[int, int], int] = {}
        self.lost_orphans = 0
        self.trades = 0
        self.newest_stamps: tuple[int, int, int] | None = None
        self.partial_until_s: dict[int, int] = {}
        self.log_down_since_ts: int | None = None
        self._older: OrderedDict[tuple[int, int], BarColumns] = OrderedDict()
        self._changed_quotes: set[int] = set()
        self._news: list[tuple[int, object]] = []
        self._events: list[TapeEvent] = []
        self._appeared: set[int] = set()
        self._known: set[int] = set()
        self._halts: dict[int, TapeStatus] = {}
        self._gaps: dict[int, TapeGap] = {}
        self._sources: dict[int, SourceState] = {}
        self._heard_s: dict[int, float] = {}
        self._session_at = (-1, False)
        self._risen_s: Float64Array = np.zeros(0)
        self._price: Float64Array = np.zeros(0)
        self._previous: Float64Array = np.zeros(0)
        self._rate: Float64Array = np.zeros(0)
        self._rated_s: Float64Array = np.zeros(0)
        self._counts: Int64Array = np.zeros(0, np.int64)
        self._load(beginning)

    def _load(self, beginning: Beginning) -> None:
        ids = self.symbols.ids(list(beginning.watermarks))
        self._room()
        if beginning.held_from_s is not None:
            self.window.load(beginning.seconds, beginning.held_from_s)
        self.window.load_watermarks(ids, np.fromiter(beginning.watermarks.values(), np.int64, len(ids)))
        self.window.load_gaps(beginning.gaps)
        for gap in beginning.gaps:
            self._note_gap(gap)
        if beginning.quotes is not None:
            self.quotes.load(beginning.quotes)
            held = self.quotes.ids()
            self._price[held] = self.quotes.take(held).day.close
        self._known.update(range(len(self.symbols)))

    # --- what is asked -----------------------------------------------------------------------------------------------

    @property
    def next_offsets(self) -> dict[int, int]:
        """The first offset of each partition that has not been applied; bars and quotes are there after a `commit`."""
        return {p: max(r.next_offset, self._begin_at[p]) for p, r in self.readers.items()}

    @property
    def position(self) -> Position:
        """Where this state stands in the log."""
        return Position(self.topic_id, self.next_offsets)

    @property
    def learning(self) -> bool:
        """True while owners are being learned in some partition: nothing counts there yet."""
        return any(reader.learning for reader in self.readers.values())

    def known_id(self, symbol: str) -> int | None:
        """The id of a symbol that the feed carries, None otherwise."""
        found = self.symbols.find(symbol)
        return found if found in self._known else None

    def known_symbols(self) -> list[tuple[int, str]]:
        """All symbols of the feed by name."""
        return sorted(((i, self.symbols.name(i)) for i in self._known), key=lambda pair: pair[1])

    def partition_of(self, symbol: str) -> int:
        """The partition of a symbol."""
        return partition_of(symbol, self.partitions)

    def watermark(self, symbol_ids: Iterable[int]) -> int | None:
        """The event time (Unix ns) that all of these have reached, None without any."""
        return min((self.window.watermark(i) for i in symbol_ids), default=0) or None

    def bars(self, symbol_id: Int64Array, start_s: Int64Array) -> BarColumns:
        """Those of these bars that are in memory: held ones, and older ones read back from the store."""
        held = self.window.at(symbol_id, start_s)
        if not self._older:
            return held
        keys = zip(symbol_id.tolist(), start_s.tolist(), strict=True)
        older = [self._older[key] for key in keys if key in self._older]
        return combine(stack([held, *older])) if older else held

    def older_bars(self, symbol_id: int) -> BarColumns:
        """The bars of a symbol that were read back from the store, sorted by start."""
        if not self._older:
            return no_bars()
        return combine(stack([bar for key, bar in self._older.items() if key[0] == symbol_id]))

    def price_before(self, symbol_id: int) -> tuple[float | None, int]:
        """The last different price of a symbol, and the direction of the last change."""
        before, now = float(self._previous[symbol_id]), float(self._price[symbol_id])
        if not before:
            return None, 0
        return before, 1 if now > before else -1

    def trades_per_s(self, symbol_id: int, now_s: float) -> float:
        """The rate of trades at present."""
        idle_s = max(0.0, now_s - float(self._rated_s[symbol_id]))
        return float(self._rate[symbol_id]) * math.exp(-idle_s / RATE_MEMORY_S)

    @property
    def knows_symbols(self) -> bool:
        """Whether any symbol of the feed is known yet."""
        return bool(self._known)

    def last_trade_ts(self, symbol_id: int) -> int | None:
        """Stamp of the symbol's newest trade, None if it never traded."""
        if not self.has_quote(symbol_id):
            return None
        return int(self.quotes.take(np.array([symbol_id])).day.close_ts[0])

    def price(self, symbol_id: int) -> float | None:
        """The last price, None if the symbol never traded."""
        return float(self._price[symbol_id]) if self.has_quote(symbol_id) else None

    def newest_gap(self, symbol_id: int) -> TapeGap | None:
        """The known gap of the symbol that ends last, None without one."""
        return self._gaps.get(symbol_id)

    def has_quote(self, symbol_id: int) -> bool:
        """Whether the symbol has ever traded."""
        return bool(self._price[symbol_id])

    def source(self, symbol_id: int, now_s: float, now_ns: int) -> SourceState:
        """Where the symbol stands; the same object as long as nothing changes. A change is announced, whoever asks."""
        source, reason = self._judge(symbol_id, now_s)
        halt = self._halts.get(symbol_id)
        trading = "trading" if halt is None else halt.status
        if trading == "trading" and self._session_closed(now_ns):
            trading, reason = "closed", reason or "no session of the calendar is open"
        before = self._sources.get(symbol_id)
        if before is not None and (before.source, before.trading) == (source, trading):
            return before
        found = self._sources[symbol_id] = SourceState(source, trading, now_ns, reason or (halt.reason if halt else ""))
        if before is not None:
            self.announce(symbol_id, found)
        return found

    # --- what happens ------------------------------------------------------------------------------------------------

    def apply(self, records: Sequence[Logged], now_s: float) -> int:
        """Take in records; those of each partition in offset order. Returns the number of trades that count.

        Bars and quotes follow with the next `commit`: per turn they cost a number of numpy calls, however few trades.
        """
        by_partition: dict[int, list[Logged]] = {}
        for record in records:
            by_partition.setdefault(record.partition, []).append(record)
        events: list[TapeEvent] = []
        for partition, found in by_partition.items():
            told = self.readers[partition].read(found)
            self._keep_tape(partition, told, now_s)
            events += told
            self._heard_s[partition] = now_s
        self._room()
        trades = 0
        for event in events:
            if isinstance(event, TapeTrades):
                trades += len(event)
            else:
                self._control(event, now_s)
        self._events += events
        self.trades += trades
        return trades

    def commit(self, now_s: float) -> set[int]:
        """Close the turn: what was applied becomes bars, quotes and a version. Returns the symbols that appeared."""
        if self._events:
            self._happen()
        touched = self.window.touched()
        for orphan in touched.orphans:
            self._adopt(orphan)
        if self._changed_quotes:
            self._follow_prices(now_s)
        self.minutes.touch(touched.bars)
        if touched.bars or self._changed_quotes or self._news:
            self.log.note(Changes(self._changed_quotes, touched.bars, self._news))
            self._changed_quotes, self._news = set(), []
        appeared, self._appeared = self._appeared, set()
        self._known |= appeared
        return appeared

    def announce(self, symbol_id: int, news: object) -> None:
        """Something that every subscriber of the symbol must be told."""
        self._news.append((symbol_id, news))

    def judge_sources(self, symbol_ids: Iterable[int], now_s: float, now_ns: int) -> None:
        """Notice, and so announce, every change of source or trading status among these symbols."""
        for symbol_id in symbol_ids:
            self.source(symbol_id, now_s, now_ns)

    def set_previous_close(self, symbol_id: int, close: float) -> None:
        """The close of the day before from elsewhere; subscribers are told."""
        self.quotes.set_previous(symbol_id, close)
        self._changed_quotes.add(symbol_id)

    def adopt_older(self, bars: BarColumns, stored: Mapping[int, int]) -> None:
        """Take in bars read back from the store at `stored` (next offset by partition), in place of orphans.

        A bar whose orphan is newer than that stays an orphan.
        """
        changed: dict[int, set[int]] = {}
        for row, key in enumerate(zip(bars.symbol_id.tolist(), bars.start_s.tolist(), strict=True)):
            if not self._is_stored(key[0], self.orphans.get(key, -1), stored):
                continue
            self.orphans.pop(key, None)
            self._older[key] = self.window.finished(bars.take(slice(row, row + 1)))
            self._older.move_to_end(key)
            changed.setdefault(key[0], set()).add(key[1])
        while len(self._older) > OLDER_MAX:
            self._older.popitem(last=False)
        if changed:
            self.minutes.touch(changed)
            self.log.note(Changes(set(), changed, []))

    def readable_orphans(self, stored: Mapping[int, int]) -> list[tuple[int, int]]:
        """Orphans that the store, at `stored`, has in full."""
        return [key for key, offset in self.orphans.items() if self._is_stored(key[0], offset, stored)]

    def evict(self, stored: Mapping[int, int] | None) -> int:
        """Let go of what the store (at `stored`, None: unknown) has; how many bars."""
        offsets = np.zeros(len(self.symbols), np.int64)
        if stored:
            names = self.symbols.names()
            offsets = np.fromiter((stored.get(self.partition_of(n), 0) for n in names), np.int64, len(names))
        return self.window.evict_stored(offsets)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _reader(self, partition: int, state: PartitionState | None) -> PartitionReader:
        """A state at offset 0 knows nothing: the reader has to find out whether the log begins there."""
        return PartitionReader(partition, self.symbols, state if state is not None and state.next_offset else None)

    def _keep_tape(self, partition: int, events: Sequence[TapeEvent], now_s: float) -> None:
        """Hold what was read for readers of the tape; while owners are learned nothing counts and nothing is held."""
        reader = self.readers[partition]
        if reader.learning:
            self.tape.forget(partition, reader.next_offset)
        else:
            self.tape.add(partition, events, reader.next_offset, now_s)

    def _is_stored(self, symbol_id: int, offset: int, stored: Mapping[int, int]) -> bool:
        return stored.get(self.partition_of(self.symbols.name(symbol_id)), 0) > offset

    def _adopt(self, orphan: Orphan) -> None:
        key = orphan.symbol_id, orphan.start_s
        self.orphans[key] = max(orphan.offset, self.orphans.get(key, -1))
        self._older.pop(key, None)
        if len(self.orphans) > ORPHANS_MAX:
            del self.orphans[next(iter(self.orphans))]
            self.lost_orphans += 1

    def _control(self, event: TapeEvent, now_s: float) -> None:
        if isinstance(event, TapeWatermark):
            self._risen_s[event.symbol_id] = now_s
        elif isinstance(event, TapeOwner):
            self._appeared |= set(event.symbol_id.tolist()) - self._known
            self._risen_s[event.symbol_id] = now_s
        elif isinstance(event, TapeGap):
            self._note_gap(event)
            for symbol_id in event.symbol_id.tolist():
                self._news.append((symbol_id, event))
            if event.reason in ("no_owner", "log_trimmed"):
                self._begin_in_the_middle(event)
        elif isinstance(event, TapeStatus):
            for symbol_id in event.symbol_id.tolist():
                self._halts[symbol_id] = event

    def _note_gap(self, gap: TapeGap) -> None:
        for symbol_id in gap.symbol_id.tolist():
            known = self._gaps.get(symbol_id)
            if known is None or known.to_ts <= gap.to_ts:
                self._gaps[symbol_id] = gap

    def _begin_in_the_middle(self, gap: TapeGap) -> None:
        """Bars up to the end of what was not counted are known in part only: the store's are better."""
        until_s = gap.to_ts // NANOS + 1
        self.partial_until_s[gap.partition] = until_s
        self.window.begin_at(until_s)
        self._appeared |= set(gap.symbol_id.tolist()) - self._known

    def _happen(self) -> None:
        """Bars and quotes of the events since the last turn."""
        events, self._events = self._events, []
        changes = self.window.apply(events)
        refused, bars = changes.late_after_final, stack(changes.partials)
        by_partition: dict[int, list[TapeTrades]] = {}
        for event in events:
            if isinstance(event, TapeTrades):
                by_partition.setdefault(event.partition, []).append(event)
        for parts in by_partition.values():
            trades = _joined(parts)
            own = bars if len(by_partition) == 1 else bars.take(np.isin(bars.symbol_id, trades.symbol_id))
            self._quote(_without(trades, refused) if len(refused) else trades, own)

    def _quote(self, trades: TapeTrades, bars: BarColumns) -> None:
        """Quotes of trades of one partition, which are these partial bars, too."""
        if not len(trades):
            return
        ids = self.quotes.apply(trades, bars).tolist()
        self._changed_quotes.update(ids)
        self._appeared |= set(ids) - self._known
        counted = trades.symbol_id[trades.size != 0]
        self._counts += np.bincount(counted, minlength=len(self._counts))
        stamps = int(trades.event_ts.max()), trades.received_ts, trades.append_ts
        if self.newest_stamps is None or stamps[2] >= self.newest_stamps[2]:
            self.newest_stamps = stamps

    def _follow_prices(self, now_s: float) -> None:
        """Previous price, direction and rate of the symbols whose quote changed."""
        ids = np.fromiter(sorted(self._changed_quotes), np.int64, len(self._changed_quotes))
        price = self.quotes.last_prices(ids)
        moved = price != self._price[ids]
        self._previous[ids[moved]] = self._price[ids[moved]]
        self._price[ids] = price
        idle_s = np.maximum(0.0, now_s - self._rated_s[ids])
        self._rate[ids] = self._rate[ids] * np.exp(-idle_s / RATE_MEMORY_S) + self._counts[ids] / RATE_MEMORY_S
        self._rated_s[ids] = now_s
        self._counts[ids] = 0

    def _judge(self, symbol_id: int, now_s: float) -> tuple[str, str]:
        if self.log_down_since_ts is not None:
            return "down", "this server cannot read the log"
        heard_s = self._heard_s.get(self.partition_of(self.symbols.name(symbol_id)))
        if heard_s is None or now_s - heard_s > DOWN_AFTER_S:
            return "down", f"nothing in the log for {DOWN_AFTER_S:g} s"
        if now_s - float(self._risen_s[symbol_id]) > STALE_AFTER_S:
            return "stale", f"the feed has been silent for {STALE_AFTER_S:g} s"
        return "live", ""

    def _session_closed(self, now_ns: int) -> bool:
        """Whether no session is open, by the clock; looked up once a second, however many symbols ask."""
        now_s = now_ns // NANOS
        if self._session_at[0] != now_s:
            code = int(self.calendar.sessions(np.array([now_s], np.int64))[0])
            self._session_at = (now_s, SESSIONS[code] == "closed")
        return self._session_at[1]

    def _room(self) -> None:
        """Make the columns by symbol long enough."""
        more = len(self.symbols) - len(self._price)
        if more <= 0:
            return
        more += len(self._price) // 2 + 64
        self._price, self._previous, self._rate, self._rated_s, self._risen_s = (
            np.concatenate([column, np.zeros(more)])
            for column in (self._price, self._previous, self._rate, self._rated_s, self._risen_s)
        )
        self._counts = np.concatenate([self._counts, np.zeros(more, np.int64)])

    def _day_of(self, start_s: Int64Array) -> Int64Array:
        return self.calendar.trade_dates(start_s).astype(np.int64)


def nothing_known(topic_id: str, offsets: Mapping[int, int]) -> Beginning:
    """A beginning without a store; at offset 0 all bars there are will be held."""
    return Beginning(topic_id, offsets, {}, SymbolTable(), no_bars(), None, {}, None, ())


def _joined(parts: Sequence[TapeTrades]) -> TapeTrades:
    """Trades of one partition, in the order of the log, as one event. Conditions are of no interest here."""
    if len(parts) == 1:
        return parts[0]
    return replace(
        parts[-1],
        first_offset=parts[0].first_offset,
        received_ts=max(part.received_ts for part in parts),
        append_ts=max(part.append_ts for part in parts),
        condition_sets=(None,),
        condition_index=np.zeros(sum(len(part) for part in parts), np.uint32),
        symbol_id=np.concatenate([part.symbol_id for part in parts]),
        event_ts=np.concatenate([part.event_ts for part in parts]),
        price=np.concatenate([part.price for part in parts]),
        size=np.concatenate([part.size for part in parts]),
        offset=np.concatenate([part.offset for part in parts]),
        index=np.concatenate([part.index for part in parts]),
    )


def _without(trades: TapeTrades, refused: TradeRows) -> TapeTrades:
    """The trades that are not among the refused ones (bars that are FINAL)."""
    bad = set(zip(refused.symbol_id.tolist(), refused.offset.tolist(), refused.index.tolist(), strict=True))
    rows = zip(trades.symbol_id.tolist(), trades.offset.tolist(), trades.index.tolist(), strict=True)
    keep = np.fromiter((row not in bad for row in rows), np.bool_, len(trades))
    names = ("symbol_id", "event_ts", "price", "size", "offset", "index", "condition_index")
    return replace(trades, **{name: getattr(trades, name)[keep] for name in names})
