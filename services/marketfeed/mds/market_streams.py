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
from collections.abc import AsyncIterator, Iterator, Sequence

import numpy as np

from marketfeed.adapters.grpc_server import Caller
from marketfeed.domain.access import ANY as ALL
from marketfeed.domain.access import Principal
from marketfeed.domain.bars import CLOSED, OPEN, BarColumns
from marketfeed.domain.client_messages import BARS, QUOTES, TRADES, SymbolStatus
from marketfeed.domain.errors import CallRefused, CallStatus, Unavailable
from marketfeed.domain.position import Position
from marketfeed.domain.tape import TapeGap, TapeTrades
from marketfeed.domain.tape_ring import TapeSlice
from marketfeed.domain.trades import NANOS
from marketfeed.mds import metrics
from marketfeed.mds.hub import Hub
from marketfeed.mds.live import LiveState
from marketfeed.mds.recovery import Recovery
from marketfeed.mds.snapshot import Snapshots
from marketfeed.mds.tape_reading import TapePlace, Touched, Wanted
from marketfeed.wire.market_data import bars_message, encode_tape, gap_message, quote_message
from marketfeed.wire.v1 import market_data_pb2 as pb

LINGER_MS = 20
LINGER_MS_MAX = 1_000
# Bars of one message.
BARS_AT_ONCE = 5_000
RECONNECT_SPREAD_MS = 2_000

_STATUS = {
    SymbolStatus.OK: pb.SYMBOL_STATUS_OK,
    SymbolStatus.PENDING: pb.SYMBOL_STATUS_PENDING,
    SymbolStatus.UNKNOWN: pb.SYMBOL_STATUS_UNKNOWN_SYMBOL,
    SymbolStatus.LIMIT: pb.SYMBOL_STATUS_LIMIT,
    SymbolStatus.FORBIDDEN: pb.SYMBOL_STATUS_FORBIDDEN,
}


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
        self, place: TapePlace, wanted: Wanted, part: TapeSlice
    ) -> Iterator[pb.StreamTradesResponse | bytes]:
        names = place.state.symbols.names()
        for event in part.events:
            if isinstance(event, TapeTrades):
                place.offsets[part.partition] = int(event.offset[-1]) + 1
                if len(trades := wanted.of(event)):
                    yield encode_tape(trades, names, place.text, time.time_ns())
            elif isinstance(event, TapeGap) and (gapped := wanted.names_in(event.symbol_id.tolist())):
                yield pb.StreamTradesResponse(gap=gap_message(event, gapped))

    def _pass_over(self, place: TapePlace, read: Sequence[int]) -> None:
        """Partitions without a wanted symbol are had as far as they are there."""
        place.offsets |= {p: offset for p, offset in place.state.tape.nexts().items() if p not in read}

    async def quotes(self, request: pb.StreamQuotesRequest, caller: Caller) -> AsyncIterator[pb.StreamQuotesResponse]:
        """The newest quote of each symbol whenever it has changed and the client is due."""
        state = self._state()
        wanted = self._wanted(state, request.symbols, caller.principal, QUOTES)
        place = TapePlace(state, self._hub.committed)
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
        touched = Touched(wanted, place)
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

    def _wanted(self, state: LiveState, symbols: Sequence[str], principal: Principal, channel: str) -> Wanted:
        """What a stream is about. Raises CallRefused for a channel, or for all symbols, that is not granted."""
        symbols = self._symbols(symbols)
        if not principal.channels.allow(channel):
            raise CallRefused(CallStatus.PERMISSION_DENIED, "FORBIDDEN", f"{principal.subject} may not have {channel}")
        if ALL in symbols and not principal.may_wildcard():
            message = f"{principal.subject} may not have all symbols; name those that it may have"
            raise CallRefused(CallStatus.PERMISSION_DENIED, "FORBIDDEN", message)
        bound = self._symbols_max if principal.symbols_max is None else min(self._symbols_max, principal.symbols_max)
        return Wanted(state, symbols, bound, principal)

    def _symbols(self, symbols: Sequence[str]) -> Sequence[str]:
        if not symbols:
            raise CallRefused(CallStatus.INVALID_ARGUMENT, "NO_SYMBOLS", "symbols is empty; name some, or * alone")
        if ALL in symbols and len(symbols) > 1:
            raise CallRefused(CallStatus.INVALID_ARGUMENT, "BAD_SYMBOLS", "* stands alone or not at all")
        return symbols

    async def _place(self, state: LiveState, position: str) -> tuple[TapePlace, bool]:
        """Where a stream begins, and whether that is where its client was."""
        if not position:
            return TapePlace(state, state.tape.nexts()), False
        try:
            wanted = Position.parse(position)
        except ValueError as error:
            raise CallRefused(CallStatus.INVALID_ARGUMENT, "BAD_POSITION", "this is no position of ours") from error
        recovered = await self._recovery.reach(wanted)
        return TapePlace(state, dict(wanted.offsets) if recovered else state.tape.nexts()), recovered

    def _acknowledged(self, wanted: Wanted, place: TapePlace, recovered: bool, interval_ms: int) -> pb.Acknowledged:
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

    def _drain(self, place: TapePlace) -> pb.Drain:
        reason = "restart" if self.draining else "log_replaced"
        return pb.Drain(reason=reason, reconnect_after_ms=random.randrange(RECONNECT_SPREAD_MS), position=place.text)

    def _ended(self, place: TapePlace) -> CallRefused:
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


def _by_symbol(bars: BarColumns) -> Iterator[tuple[int, BarColumns]]:
    """Bars, sorted by symbol id, cut into those of each."""
    edges = np.flatnonzero(np.diff(bars.symbol_id, prepend=-1, append=-1))
    for first, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        yield int(bars.symbol_id[first]), bars.take(slice(first, stop))


def _note_gaps(state: LiveState, wanted: Wanted, told: dict[int, TapeGap]) -> list[tuple[TapeGap, list[str]]]:
    """Gaps that were not told yet, each with the names of its symbols; they count as told from now on."""
    found: dict[int, tuple[TapeGap, list[int]]] = {}
    for symbol_id in wanted.ids:
        gap = state.newest_gap(symbol_id)
        if gap is not None and told.get(symbol_id) is not gap:
            told[symbol_id] = gap
            found.setdefault(id(gap), (gap, []))[1].append(symbol_id)
    return [(gap, wanted.names_in(ids)) for gap, ids in found.values()]
