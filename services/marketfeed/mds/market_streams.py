"""The streams of `marketfeed.v1.MarketData`.

No stream has a queue. A stream of trades is a place in the ring (`domain/tape_ring.py`): it reads on as fast as its
client takes messages, and is ended when the ring has let go of its place. Quotes and bars are looked up when the client
is due and has taken what came before, so a slow client gets fewer, newer ones, and is told how many were merged.

Bars are found by the same place in the ring: those that trades touched since, and those that a watermark has closed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from marketfeed.adapters.grpc_server import Caller
from marketfeed.domain.access import ANY as ALL
from marketfeed.domain.access import Principal
from marketfeed.domain.bars import CLOSED, OPEN, BarColumns, no_bars
from marketfeed.domain.client_session import BARS, QUOTES, SymbolStatus
from marketfeed.domain.errors import CallRefused, CallStatus, Unavailable
from marketfeed.domain.position import Position
from marketfeed.domain.tape import TapeGap, TapeTrades, TapeWatermark
from marketfeed.domain.tape_ring import TapeSlice
from marketfeed.domain.trades import NANOS, BoolArray
from marketfeed.mds import metrics
from marketfeed.mds.hub import Hub
from marketfeed.mds.live import LiveState, SourceState
from marketfeed.mds.recovery import Recovery
from marketfeed.mds.snapshot import Snapshots
from marketfeed.wire.market_data import bars_message, encode_tape, gap_message, quote_message, state_message
from marketfeed.wire.v1 import market_data_pb2 as pb

LINGER_MS = 20
LINGER_MS_MAX = 1_000
HEARTBEAT_S = 1.0
# Trades read from the ring for one stream at a time: a message of at most a megabyte.
TRADES_AT_ONCE = 8_192
# Bars of one message.
BARS_AT_ONCE = 5_000
# A bar is final so long after its end: no older one can have been open.
BEFORE_S = 900
RECONNECT_SPREAD_MS = 2_000
TRADES = "trades"
_LAG_MS_MAX = 2**32 - 1

_STATUS = {
    SymbolStatus.OK: pb.SYMBOL_STATUS_OK,
    SymbolStatus.PENDING: pb.SYMBOL_STATUS_PENDING,
    SymbolStatus.UNKNOWN: pb.SYMBOL_STATUS_UNKNOWN_SYMBOL,
    SymbolStatus.LIMIT: pb.SYMBOL_STATUS_LIMIT,
    SymbolStatus.FORBIDDEN: pb.SYMBOL_STATUS_FORBIDDEN,
}


class _Wanted:
    """The symbols of a stream: those of a list that the principal may see, or all, later ones included."""

    def __init__(self, state: LiveState, symbols: Sequence[str], symbols_max: int, principal: Principal) -> None:
        self._state = state
        self._principal = principal
        self.all = tuple(symbols) == (ALL,)
        self.statuses: dict[str, SymbolStatus] = {}
        for symbol in () if self.all else dict.fromkeys(symbols):
            self.statuses[symbol] = self._status(symbol, symbols_max)
        self._names = [s for s, status in self.statuses.items() if status in (SymbolStatus.OK, SymbolStatus.PENDING)]
        self._seen = -1
        self._mask: BoolArray = np.zeros(0, np.bool_)
        self._ids: list[int] = []
        self._look_up()

    def _status(self, symbol: str, symbols_max: int) -> SymbolStatus:
        if not self._principal.may_see(symbol):
            return SymbolStatus.FORBIDDEN
        if len(self.statuses) >= symbols_max:
            return SymbolStatus.LIMIT
        if self._state.known_id(symbol) is not None:
            return SymbolStatus.OK
        return SymbolStatus.UNKNOWN if self._state.knows_symbols else SymbolStatus.PENDING

    def _look_up(self) -> None:
        """Find the ids again, once there are more symbols."""
        symbols = self._state.symbols
        if self._seen == len(symbols):
            return
        self._seen = len(symbols)
        if self.all:
            self._ids = list(range(len(symbols)))
        else:
            self._ids = [i for name in self._names if (i := symbols.find(name)) is not None]
        self._mask = np.zeros(len(symbols), np.bool_)
        self._mask[self._ids] = True

    @property
    def ids(self) -> list[int]:
        """The ids of those that are there."""
        self._look_up()
        return self._ids

    @property
    def partitions(self) -> Iterable[int]:
        """The partitions that have to be read for them."""
        if self.all:
            return range(self._state.partitions)
        return {self._state.partition_of(name) for name in self._names}

    def of(self, trades: TapeTrades) -> TapeTrades:
        """The trades of these symbols."""
        self._look_up()
        mask = self._mask[trades.symbol_id]
        return trades if mask.all() else trades.take(mask)

    def names_in(self, symbol_ids: Iterable[int]) -> list[str]:
        """The names of those among these ids."""
        self._look_up()
        return [self._state.symbols.name(i) for i in symbol_ids if self._mask[i]]


@dataclass(slots=True)
class _Place:
    """How far a stream has read."""

    state: LiveState
    offsets: dict[int, int]
    told_states: dict[int, SourceState] = field(default_factory=dict)
    heartbeat_s: float = 0.0

    @property
    def text(self) -> str:
        """The position up to which everything has been sent."""
        return Position(self.state.topic_id, self.offsets).text()

    def read(self, partition: int) -> TapeSlice:
        """What follows there. Raises CallRefused when it is no longer held."""
        found = self.state.tape.read(partition, self.offsets[partition], TRADES_AT_ONCE)
        if found is None:
            metrics.GOODBYES.labels("grpc_too_slow").inc()
            raise CallRefused(
                CallStatus.RESOURCE_EXHAUSTED,
                "TOO_SLOW",
                "the stream was read too slowly for a tape that is never thinned; resume from the position",
                position=self.text,
            )
        return found

    def changed_states(self, ids: Iterable[int]) -> Iterator[pb.SymbolState]:
        """Symbols that stand otherwise than last told."""
        now_s, now_ns = time.monotonic(), time.time_ns()
        for symbol_id in ids:
            stands = self.state.source(symbol_id, now_s, now_ns)
            if self.told_states.get(symbol_id) is not stands:
                self.told_states[symbol_id] = stands
                name = self.state.symbols.name(symbol_id)
                yield state_message(name, stands.source, stands.trading, stands.since_ts, stands.reason)

    def heartbeat(self, watermark: int | None, lag_s: float) -> pb.Heartbeat | None:
        """The sign of life, once a second; everything up to the watermark has been sent."""
        now_s = time.monotonic()
        if now_s < self.heartbeat_s:
            return None
        self.heartbeat_s = now_s + HEARTBEAT_S
        lag_ms = min(round(lag_s * 1000), _LAG_MS_MAX)
        return pb.Heartbeat(server_ts=time.time_ns(), watermark_ts=watermark or 0, lag_ms=lag_ms, position=self.text)


class Streams:
    """Serves streams of one feed. `symbols_max` bounds a list of symbols; the number of streams is gRPC's to bound."""

    def __init__(
        self, hub: Hub, recovery: Recovery, snapshots: Snapshots, tick_ms: int, symbols_max: int, span_s: int
    ) -> None:
        self._hub = hub
        self._recovery = recovery
        self._snapshots = snapshots
        self._tick_ms = tick_ms
        self._symbols_max = symbols_max
        self._span_s = span_s
        self.draining = False

    async def trades(
        self, request: pb.StreamTradesRequest, caller: Caller
    ) -> AsyncIterator[pb.StreamTradesResponse | bytes]:
        """Every trade of the symbols, from the position or from now on."""
        state = self._state()
        wanted = self._wanted(state, request.symbols, caller.principal, TRADES)
        place, recovered = await self._place(state, request.position)
        yield pb.StreamTradesResponse(acknowledged=self._acknowledged(wanted, place, recovered, 0))
        linger_s = min(request.linger_ms or LINGER_MS, LINGER_MS_MAX) / 1000
        partitions = sorted(wanted.partitions)
        while self._goes_on(state):
            behind, watermark = False, state.watermark(wanted.ids)  # of before what is read now
            for partition in partitions:
                part = place.read(partition)
                behind |= part.next_offset < state.tape.next(partition)
                for message in self._tape_messages(place, wanted, part):
                    yield message
                place.offsets[partition] = part.next_offset
            self._pass_over(place, partitions)
            for stands in place.changed_states(() if wanted.all else wanted.ids):
                yield pb.StreamTradesResponse(state=stands)
            if not behind and (beat := place.heartbeat(watermark, self._hub.lag_s)):
                yield pb.StreamTradesResponse(heartbeat=beat)
            await asyncio.sleep(0 if behind else linger_s)
        yield pb.StreamTradesResponse(drain=self._drain(place))
        raise self._ended(place)

    def _tape_messages(
        self, place: _Place, wanted: _Wanted, part: TapeSlice
    ) -> Iterator[pb.StreamTradesResponse | bytes]:
        names = place.state.symbols.names()
        for event in part.events:
            if isinstance(event, TapeTrades):
                place.offsets[part.partition] = int(event.offset[-1]) + 1
                if len(trades := wanted.of(event)):
                    yield encode_tape(trades, names, place.text, time.time_ns())
            elif isinstance(event, TapeGap) and (gapped := wanted.names_in(event.symbol_id.tolist())):
                yield pb.StreamTradesResponse(gap=gap_message(event, gapped))

    def _pass_over(self, place: _Place, read: Sequence[int]) -> None:
        """Partitions without a wanted symbol are had as far as they are there."""
        place.offsets |= {p: offset for p, offset in place.state.tape.nexts().items() if p not in read}

    async def quotes(self, request: pb.StreamQuotesRequest, caller: Caller) -> AsyncIterator[pb.StreamQuotesResponse]:
        """The newest quote of each symbol whenever it has changed and the client is due."""
        state = self._state()
        wanted = self._wanted(state, request.symbols, caller.principal, QUOTES)
        place = _Place(state, self._hub.committed)
        interval_ms = self._interval_ms(request.interval_ms)
        yield pb.StreamQuotesResponse(acknowledged=self._acknowledged(wanted, place, False, interval_ms))
        book = _SentQuotes()
        gaps: dict[int, TapeGap] = {}
        _note_gaps(state, wanted, gaps)
        first, due_s = True, 0.0
        while self._goes_on(state):
            late_s = time.monotonic() - due_s if due_s else 0.0
            missed = int(late_s * 1000 / interval_ms)
            place.offsets, watermark = self._hub.committed, state.watermark(wanted.ids)
            ids = [i for i in wanted.ids if state.has_quote(i)]
            changed, merged = book.changed(state, ids, missed)
            if merged:
                metrics.CONFLATED.inc(merged)
                yield pb.StreamQuotesResponse(conflated=pb.Conflated(count=merged, max_age_ms=round(late_s * 1000)))
            sent_ts = time.time_ns()
            made = [quote_message(quote, sent_ts) for i in changed if (quote := self._hub.frames.quote(i)) is not None]
            if made or first:
                yield pb.StreamQuotesResponse(quotes=pb.QuoteBatch(quotes=made, snapshot=first))
            for gap, gapped in _note_gaps(state, wanted, gaps):
                yield pb.StreamQuotesResponse(gap=gap_message(gap, gapped))
            first = False
            for stands in place.changed_states(wanted.ids):
                yield pb.StreamQuotesResponse(state=stands)
            if beat := place.heartbeat(watermark, self._hub.lag_s):
                yield pb.StreamQuotesResponse(heartbeat=beat)
            due_s = await self._next_turn(interval_ms)
        yield pb.StreamQuotesResponse(drain=self._drain(place))
        raise self._ended(place)

    async def bars(self, request: pb.StreamBarsRequest, caller: Caller) -> AsyncIterator[pb.StreamBarsResponse]:
        """Bars of one second as they change; see the module's text."""
        state = self._state()
        if request.interval not in (pb.BAR_INTERVAL_UNSPECIFIED, pb.BAR_INTERVAL_1S):
            raise CallRefused(
                CallStatus.INVALID_ARGUMENT, "BAD_INTERVAL", "bars of one second are streamed; GetBars has the others"
            )
        wanted = self._wanted(state, request.symbols, caller.principal, BARS)
        place, recovered = await self._place(state, request.position)
        interval_ms = self._interval_ms(request.interval_ms)
        yield pb.StreamBarsResponse(acknowledged=self._acknowledged(wanted, place, recovered, interval_ms))
        least = CLOSED if request.emission == pb.BAR_EMISSION_SETTLED else OPEN
        touched = _Touched(wanted, place)
        begin_s = touched.since() if recovered else dict.fromkeys(wanted.ids, getattr(request, "from"))
        for symbol_id, from_s in begin_s.items():
            for batch in await self._bars_from(state, symbol_id, from_s, least) if from_s else ():
                yield pb.StreamBarsResponse(bars=pb.BarBatch(bars=[batch], snapshot=not recovered))
        touched.add_open()
        gaps: dict[int, TapeGap] = {}
        _note_gaps(state, wanted, gaps)
        while self._goes_on(state):
            await self._next_turn(interval_ms)
            if not self._goes_on(state):
                break
            self._hub.refresh()
            behind, watermark = touched.read(), state.watermark(wanted.ids)
            bars = touched.take(least)
            if len(bars):
                made = [bars_message(state.symbols.name(i), pb.BAR_INTERVAL_1S, part) for i, part in _by_symbol(bars)]
                yield pb.StreamBarsResponse(bars=pb.BarBatch(bars=made))
            for gap, gapped in _note_gaps(state, wanted, gaps):
                yield pb.StreamBarsResponse(gap=gap_message(gap, gapped))
            for stands in place.changed_states(wanted.ids):
                yield pb.StreamBarsResponse(state=stands)
            if not behind and (beat := place.heartbeat(watermark, self._hub.lag_s)):
                yield pb.StreamBarsResponse(heartbeat=beat)
        yield pb.StreamBarsResponse(drain=self._drain(place))
        raise self._ended(place)

    async def _bars_from(self, state: LiveState, symbol_id: int, from_s: int, least: int) -> list[pb.Bars]:
        """The bars of a symbol from a second on, in parts, oldest first."""
        symbol = state.symbols.name(symbol_id)
        newest_s = (state.last_trade_ts(symbol_id) or time.time_ns()) // NANOS
        from_s = max(from_s, newest_s - self._span_s)
        history = await self._snapshots.history(symbol, from_s)
        if self._hub.state is not state:
            raise Unavailable("log", state.topic_id, "it was replaced")
        self._hub.refresh()
        bars = self._snapshots.join(symbol, from_s, history)
        bars = bars.take(bars.state >= least)
        parts = [bars.take(slice(at, at + BARS_AT_ONCE)) for at in range(0, len(bars), BARS_AT_ONCE)] or [bars]
        return [bars_message(symbol, pb.BAR_INTERVAL_1S, part) for part in parts]

    def _state(self) -> LiveState:
        if self.draining or not self._hub.serving:
            reason = "DRAINING" if self.draining else "STARTING"
            raise CallRefused(CallStatus.UNAVAILABLE, reason, "this replica does not serve now; try again, or another")
        return self._hub.state

    def _goes_on(self, state: LiveState) -> bool:
        return not self.draining and self._hub.state is state

    def _wanted(self, state: LiveState, symbols: Sequence[str], principal: Principal, channel: str) -> _Wanted:
        """What a stream is about. Raises CallRefused for a channel, or for all symbols, that is not granted."""
        symbols = self._symbols(symbols)
        if not principal.channels.allow(channel):
            raise CallRefused(CallStatus.PERMISSION_DENIED, "FORBIDDEN", f"{principal.subject} may not have {channel}")
        if ALL in symbols and not principal.may_wildcard():
            message = f"{principal.subject} may not have all symbols; name those that it may have"
            raise CallRefused(CallStatus.PERMISSION_DENIED, "FORBIDDEN", message)
        bound = self._symbols_max if principal.symbols_max is None else min(self._symbols_max, principal.symbols_max)
        return _Wanted(state, symbols, bound, principal)

    def _symbols(self, symbols: Sequence[str]) -> Sequence[str]:
        if not symbols:
            raise CallRefused(CallStatus.INVALID_ARGUMENT, "NO_SYMBOLS", "symbols is empty; name some, or * alone")
        if ALL in symbols and len(symbols) > 1:
            raise CallRefused(CallStatus.INVALID_ARGUMENT, "BAD_SYMBOLS", "* stands alone or not at all")
        return symbols

    async def _place(self, state: LiveState, position: str) -> tuple[_Place, bool]:
        """Where a stream begins, and whether that is where its client was."""
        if not position:
            return _Place(state, state.tape.nexts()), False
        try:
            wanted = Position.parse(position)
        except ValueError as error:
            raise CallRefused(CallStatus.INVALID_ARGUMENT, "BAD_POSITION", "this is no position of ours") from error
        recovered = await self._recovery.reach(wanted)
        return _Place(state, dict(wanted.offsets) if recovered else state.tape.nexts()), recovered

    def _acknowledged(self, wanted: _Wanted, place: _Place, recovered: bool, interval_ms: int) -> pb.Acknowledged:
        statuses = {symbol: _STATUS[status] for symbol, status in wanted.statuses.items()}
        return pb.Acknowledged(symbols=statuses, interval_ms=interval_ms, position=place.text, recovered=recovered)

    def _interval_ms(self, asked_ms: int) -> int:
        """The next multiple of the tick."""
        ticks = max(1, -(-asked_ms // self._tick_ms))
        return min(ticks, 60_000 // self._tick_ms) * self._tick_ms

    async def _next_turn(self, interval_ms: int) -> float:
        """Wait for the turn in which a client with this interval is due; returns when that was meant to be."""
        due_s = time.monotonic() + interval_ms / 1000
        await asyncio.sleep((interval_ms - self._tick_ms) / 1000)
        await self._hub.turned()
        return max(due_s, time.monotonic())

    def _drain(self, place: _Place) -> pb.Drain:
        reason = "restart" if self.draining else "log_replaced"
        return pb.Drain(reason=reason, reconnect_after_ms=random.randrange(RECONNECT_SPREAD_MS), position=place.text)

    def _ended(self, place: _Place) -> CallRefused:
        reason = "DRAINING" if self.draining else "LOG_REPLACED"
        return CallRefused(CallStatus.UNAVAILABLE, reason, "come back as the drain message says", position=place.text)


class _SentQuotes:
    """What a client has of each symbol: the stamp and price of its quote, and the number of the day's trades."""

    def __init__(self) -> None:
        self._sent: dict[int, tuple[int, float, int]] = {}

    def changed(self, state: LiveState, ids: list[int], missed: int) -> tuple[list[int], int]:
        """The symbols with something new, and how many updates were merged as `missed` turns passed unserved."""
        if not ids:
            return [], 0
        day = state.quotes.take(np.array(ids, np.int64)).day
        changed, merged = [], 0
        columns = (day.symbol_id, day.close_ts, day.close, day.trades)
        for symbol_id, *now in zip(*(column.tolist() for column in columns), strict=True):
            key = (now[0], now[1], now[2])
            before = self._sent.get(symbol_id)
            if before != key:
                changed.append(symbol_id)
                self._sent[symbol_id] = key
                if before is not None and missed > 0:
                    merged += min(missed, max(0, key[2] - before[2] - 1))
        return changed, merged


class _Touched:
    """The bars that a stream has to tell of: (symbol id, start) of those that changed since its place."""

    def __init__(self, wanted: _Wanted, place: _Place) -> None:
        self._wanted = wanted
        self._place = place
        self._changed: set[tuple[int, int]] = set()
        self._open: set[tuple[int, int]] = set()
        self._watermark_rose = False

    def since(self) -> dict[int, int]:
        """From which second on bars may have changed since the place, by symbol id; the tape up to now is read.

        Bars that were open there may have closed without a trade: those are at most `BEFORE_S` older than what was
        traded since, or than the symbol's last trade.
        """
        while self.read():
            pass
        state = self._place.state
        newest_ts = state.newest_stamps[0] if state.newest_stamps is not None else 0
        first: dict[int, int] = {}
        for symbol_id in self._wanted.ids:
            last_ts = state.last_trade_ts(symbol_id)
            if last_ts is not None and newest_ts - last_ts <= BEFORE_S * NANOS:
                first[symbol_id] = last_ts // NANOS - BEFORE_S
        for symbol_id, start in self._changed:
            first[symbol_id] = min(first.get(symbol_id, start), start - BEFORE_S)
        self._changed.clear()
        return first

    def add_open(self) -> None:
        """After a snapshot: what was open in it has to be told of when it closes."""
        for symbol_id in self._wanted.ids:
            held = self._place.state.window.of_symbol(symbol_id)
            self._open.update((symbol_id, start) for start in held.start_s[held.state == OPEN].tolist())

    def read(self) -> bool:
        """Take in what the tape says since; returns whether there is more."""
        behind = False
        for partition in self._place.offsets:
            part = self._place.read(partition)
            for event in part.events:
                if isinstance(event, TapeTrades):
                    trades = self._wanted.of(event)
                    keys = np.unique(np.stack([trades.symbol_id, trades.event_ts // NANOS]), axis=1)
                    self._changed.update(zip(*keys.tolist(), strict=True))
                elif isinstance(event, TapeWatermark):
                    self._watermark_rose = True
            self._place.offsets[partition] = part.next_offset
            behind |= part.next_offset < self._place.state.tape.next(partition)
        return behind

    def take(self, least: int) -> BarColumns:
        """The bars as they are now that have reached the state `least`; the others are kept for later."""
        touched, waiting = self._changed, self._open - self._changed if self._watermark_rose else set()
        self._changed, self._watermark_rose = set(), False
        if not (asked := touched | waiting):
            return no_bars()
        ordered = np.array(sorted(asked), np.int64)
        bars = self._place.state.bars(ordered[:, 0], ordered[:, 1])
        keys = list(zip(bars.symbol_id.tolist(), bars.start_s.tolist(), strict=True))
        is_open = bars.state == OPEN
        self._open = (self._open - asked) | {key for key, still in zip(keys, is_open.tolist(), strict=True) if still}
        # One that only waited for its end is told of when that has come.
        was_touched = np.fromiter((key in touched for key in keys), np.bool_, len(keys))
        return bars.take((bars.state >= least) & (was_touched | ~is_open))


def _by_symbol(bars: BarColumns) -> Iterator[tuple[int, BarColumns]]:
    """Bars, sorted by symbol id, cut into those of each."""
    edges = np.flatnonzero(np.diff(bars.symbol_id, prepend=-1, append=-1))
    for first, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        yield int(bars.symbol_id[first]), bars.take(slice(first, stop))


def _note_gaps(state: LiveState, wanted: _Wanted, told: dict[int, TapeGap]) -> list[tuple[TapeGap, list[str]]]:
    """Gaps that were not told yet, each with the names of its symbols; they count as told from now on."""
    found: dict[int, tuple[TapeGap, list[int]]] = {}
    for symbol_id in wanted.ids:
        gap = state.newest_gap(symbol_id)
        if gap is not None and told.get(symbol_id) is not gap:
            told[symbol_id] = gap
            found.setdefault(id(gap), (gap, []))[1].append(symbol_id)
    return [(gap, wanted.names_in(ids)) for gap, ids in found.values()]
