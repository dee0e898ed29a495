"""One client of `/v1/stream`: from the handshake to the goodbye.

Messages are read one after the other and answered at once; joins (history, then live) run beside them, one symbol
after the other, so a client that asks for a hundred symbols gets the first one quickly and cannot crowd out the rest.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from marketfeed.domain.access import OPEN, Gate, Seats
from marketfeed.domain.client_session import BARS, QUOTES, ClientSession, Goodbye, Limits, Outcome, Problem, Wish
from marketfeed.domain.errors import ClientError, Unavailable
from marketfeed.domain.trades import NANOS
from marketfeed.mds import metrics
from marketfeed.mds.door import Visit
from marketfeed.mds.fanout import Client, Outlet
from marketfeed.mds.frames import parts_of
from marketfeed.mds.hub import Hub
from marketfeed.mds.snapshot import History, Snapshots
from marketfeed.runtime.tasks import TaskKit
from marketfeed.wire.websocket import (
    Hello,
    Intervals,
    LimitsOut,
    Snapshot,
    bars_of,
    decode_command,
    encode,
    encode_reply,
    message_id,
)
from marketfeed.wire.websocket_frames import encode_text_frame

# How often a join looks whether the client takes data again.
ROOM_PAUSE_S = 0.01


class Socket(Outlet, Protocol):
    """A connection that is also read from."""

    def messages(self) -> AsyncIterator[str | bytes]:
        """Messages of the client until either side closes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What a client is told first."""

    version: str
    feed: str
    instance: str
    calendar: str
    heartbeat_ms: int


class StreamServer:
    """Serves connections of one process. `bars_per_part`, `span_s`: bounds of a snapshot's message and reach."""

    def __init__(
        self,
        hub: Hub,
        snapshots: Snapshots,
        limits: Limits,
        greeting: Greeting,
        bars_per_part: int,
        span_s: int,
        gate: Gate,
        seats: Seats,
    ) -> None:
        self._gate = gate
        self._seats = seats
        self._hub = hub
        self._snapshots = snapshots
        self._limits = limits
        self._greeting = greeting
        self._bars_per_part = bars_per_part
        self._span_s = span_s
        self._joiners: dict[Client, _Joiner] = {}
        hub.on_appeared = self._on_appeared

    async def serve(self, socket: Socket) -> None:
        """Serve one connection until it ends."""
        visit = Visit(self._gate, self._seats)
        principal = OPEN if self._gate.open else None
        session = ClientSession(self._limits, self._is_known, self._any_known, time.monotonic(), principal, visit.admit)
        socket.send_frames(encode_text_frame(encode(self._hello())))
        fanout = self._hub.fanout
        client = fanout.add(session, socket)
        try:
            async with TaskKit("client") as tasks:
                joiner = self._joiners[client] = _Joiner(self, client)
                joining = tasks.spawn("join", joiner.run())
                async for message in socket.messages():
                    outcome = self._outcome(session, message)
                    self._obey(client, joiner, outcome)
                    if outcome.goodbye is not None:
                        await self.say_goodbye(socket, outcome.goodbye)
                        break
                joining.cancel()
        finally:
            self._joiners.pop(client, None)
            fanout.remove(client)
            visit.leave()

    async def say_goodbye(self, socket: Outlet, goodbye: Goodbye) -> None:
        """End a connection with a code."""
        metrics.GOODBYES.labels(goodbye.code.name.lower()).inc()
        await socket.close(int(goodbye.code), goodbye.reason)

    async def join(self, client: Client, symbol: str, wish: Wish) -> None:
        """Give a client the past of a symbol, then its live messages."""
        hub, state = self._hub, self._hub.state
        symbol_id = state.symbols.id(symbol)
        hub.fanout.deactivate(client, symbol_id)
        from_s = self._from_s(symbol_id, wish)
        history = None
        if BARS in wish.channels:
            history = await self._snapshots.history(symbol, from_s)
        await self._room(client)
        if hub.state is not state or client.session.wishes.get(symbol) != wish:
            return
        hub.refresh()
        client.joining[symbol_id] = hub.state.log.version
        try:
            await self._send_parts(client, symbol, wish, from_s, history)
            hub.fanout.write(client, hub.fanout.catch_up(symbol_id, wish.channels, client.joining[symbol_id]))
            if client.session.wishes.get(symbol) == wish:
                hub.fanout.activate(client, symbol_id, wish.channels)
        finally:
            client.joining.pop(symbol_id, None)

    async def _send_parts(self, client: Client, symbol: str, wish: Wish, from_s: int, history: History | None) -> None:
        """All parts of a snapshot as of now; returns at the instant at which the client has seen everything else."""
        hub, state = self._hub, self._hub.state
        symbol_id = state.symbols.id(symbol)
        bars = None if history is None else self._snapshots.join(symbol, from_s, history)
        parts = [None] if bars is None else parts_of(bars, self._bars_per_part)
        position, status = state.position.text(), hub.frames.symbol_state(symbol_id)
        quote = hub.frames.quote(symbol_id) if QUOTES in wish.channels else None
        for number, part in enumerate(parts):
            message = Snapshot(
                symbol=symbol,
                part=number,
                parts=len(parts),
                position=position,
                source="memory" if history is None else history.source,
                incomplete=history is not None and self._snapshots.incomplete(symbol, history),
                from_=from_s,
                status=status,
                quote=quote if number == 0 else None,
                bars=None if part is None else bars_of(part),
            )
            hub.fanout.write(client, encode_text_frame(encode(message)))
            if number + 1 < len(parts):
                await asyncio.sleep(0)  # a part is milliseconds of work, and others have their turn between two
                await self._room(client)
        while True:
            hub.refresh()
            if hub.fanout.serve(client, time.monotonic()):
                return
            await self._room(client)

    async def _room(self, client: Client) -> None:
        """Wait until the client takes data. Raises ConnectionError when it is gone; the fan-out ends stalled ones."""
        while client.outlet.buffered_bytes > self._limits.buffer_bytes_max // 2:
            if client.outlet.closed:
                raise ConnectionResetError
            await asyncio.sleep(ROOM_PAUSE_S)

    def _from_s(self, symbol_id: int, wish: Wish) -> int:
        """The second from which a client gets bars: by default the start of the symbol's newest trade date."""
        state = self._hub.state
        event_ts = state.last_trade_ts(symbol_id) or time.time_ns()
        if wish.from_s is not None:
            return max(wish.from_s, event_ts // NANOS - self._span_s)
        return state.calendar.day(state.calendar.trade_date(event_ts))[0]

    def _outcome(self, session: ClientSession, message: str | bytes) -> Outcome:
        refused = session.admit(time.monotonic())
        if refused is not None:
            return refused
        try:
            return session.handle(decode_command(message))
        except ClientError as error:
            return session.reject(error, message_id(message))

    def _obey(self, client: Client, joiner: _Joiner, outcome: Outcome) -> None:
        now_ns = time.time_ns()
        replies = b"".join(encode_text_frame(encode_reply(reply, now_ns)) for reply in outcome.replies)
        for reply in outcome.replies:
            if isinstance(reply, Problem):
                metrics.BAD_MESSAGES.labels(reply.code).inc()
        if replies:
            client.outlet.send_frames(replies)
        self._hub.fanout.interval_changed(client)
        for symbol in outcome.leave:
            symbol_id = self._hub.state.symbols.find(symbol)
            if symbol_id is not None:
                self._hub.fanout.deactivate(client, symbol_id)
        joiner.add(outcome.join)

    def _on_appeared(self, symbol_ids: set[int]) -> None:
        """Symbols that clients may be waiting for are there now."""
        names = [self._hub.state.symbols.name(i) for i in symbol_ids]
        for client, joiner in self._joiners.items():
            joiner.add(tuple(name for name in names if client.session.appeared(name)))

    def _is_known(self, symbol: str) -> bool:
        return self._hub.serving and self._hub.state.known_id(symbol) is not None

    def _any_known(self) -> bool:
        return self._hub.serving and self._hub.state.knows_symbols

    def _hello(self) -> Hello:
        limits, greeting = self._limits, self._greeting
        return Hello(
            version=greeting.version,
            feed=greeting.feed,
            instance=greeting.instance,
            calendar=greeting.calendar,
            server_ts=str(time.time_ns()),
            interval_ms=Intervals(limits.interval_ms_default, limits.interval_ms_min, limits.interval_ms_max),
            limits=LimitsOut(limits.symbols_max, limits.messages_per_s, limits.message_bytes_max),
            heartbeat_ms=greeting.heartbeat_ms,
            auth_required=not self._gate.open,
        )


class _Joiner:
    """The joins of one client, one after the other; a symbol waits at most once."""

    def __init__(self, server: StreamServer, client: Client) -> None:
        self._server = server
        self._client = client
        self._waiting: deque[str] = deque()
        self._more = asyncio.Event()

    def add(self, symbols: tuple[str, ...]) -> None:
        """Join these, too."""
        for symbol in symbols:
            if symbol not in self._waiting:
                self._waiting.append(symbol)
        if symbols:
            self._more.set()

    async def run(self) -> None:
        """Until cancelled, or until the connection is gone."""
        while True:
            await self._more.wait()
            self._more.clear()
            while self._waiting:
                symbol = self._waiting.popleft()
                wish = self._client.session.wishes.get(symbol)
                if wish is None:
                    continue
                try:
                    await self._server.join(self._client, symbol, wish)
                except Unavailable:
                    # A shared read failed or the log was replaced: the next try finds another way or no client.
                    await asyncio.sleep(1.0)
                    self.add((symbol,))
                except ConnectionError:
                    return
