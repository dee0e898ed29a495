"""One client of `/v1/stream`: from the handshake to the goodbye.

Messages are read one after the other and answered at once; joins (history, then live, `joins.py`) run beside them. A
resume is the exception: nothing more is read until it is known whether everything since the position can be had.

A client whose socket is full is not read from either, so that answers cannot pile up.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from marketfeed.domain.access import OPEN, Gate, Seats
from marketfeed.domain.client_messages import TRADES, Goodbye, Outcome, Problem, Reply, Resumed, is_pattern
from marketfeed.domain.client_session import ClientSession, Limits
from marketfeed.domain.errors import ClientError
from marketfeed.domain.position import Position
from marketfeed.mds import joins, metrics, missed
from marketfeed.mds.clients import Client, Outlet
from marketfeed.mds.door import Visit
from marketfeed.mds.hub import Hub
from marketfeed.mds.joins import Joiner, Joins
from marketfeed.mds.recovery import Recovery
from marketfeed.mds.tape_frames import Dialect, place_of
from marketfeed.runtime.tasks import TaskKit
from marketfeed.wire.websocket import (
    Drain,
    Hello,
    Intervals,
    LimitsOut,
    StatusOut,
    encode,
    encode_reply,
)
from marketfeed.wire.websocket_commands import decode_command, message_id
from marketfeed.wire.websocket_frames import encode_text_frame

# Clients told to come back do so spread over this time.
RECONNECT_SPREAD_MS = 2000


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
    """Serves connections of one process."""

    def __init__(
        self,
        hub: Hub,
        joins: Joins,
        recovery: Recovery,
        limits: Limits,
        greeting: Greeting,
        gate: Gate,
        seats: Seats,
    ) -> None:
        self._gate = gate
        self._seats = seats
        self._hub = hub
        self._joins = joins
        self._recovery = recovery
        self._limits = limits
        self._greeting = greeting
        self._joiners: dict[Client, Joiner] = {}

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
                joiner = self._joiners[client] = Joiner(self._joins, client, tasks)
                try:
                    await self._converse(client, joiner, socket)
                finally:
                    joiner.end()
        finally:
            self._joiners.pop(client, None)
            fanout.remove(client)
            visit.leave()

    async def _converse(self, client: Client, joiner: Joiner, socket: Socket) -> None:
        """Read and obey until either side has enough."""
        try:
            async for message in socket.messages():
                # Beyond this bound the client counts as stalled, so that one that reads nothing is ended.
                await self._joins.room(client, self._limits.buffer_bytes_max)
                if client.leaving:
                    return
                outcome = self._outcome(client.session, message)
                self._obey(client, joiner, outcome)
                if outcome.resume is not None and outcome.position is not None:
                    await self._resume(client, joiner, outcome.resume, outcome.position)
                if outcome.goodbye is not None:
                    await self.say_goodbye(socket, outcome.goodbye)
                    return
        except ConnectionError:
            return  # gone while it was waited for

    async def say_goodbye(self, socket: Outlet, goodbye: Goodbye) -> None:
        """End a connection with a code."""
        metrics.GOODBYES.labels(goodbye.code.name.lower()).inc()
        await socket.close(int(goodbye.code), goodbye.reason)

    def drain(self) -> None:
        """Tell everybody, after a last turn, when to come back and where to go on."""
        hub = self._hub
        hub.refresh()
        for client in hub.fanout.everyone():
            if client.dialect is not Dialect.OURS:
                continue
            hub.fanout.serve(client, time.monotonic())
            message = Drain("restart", random.randrange(RECONNECT_SPREAD_MS), hub.fanout.position(client))
            hub.fanout.write(client, encode_text_frame(encode(message)))

    async def _resume(self, client: Client, joiner: Joiner, answer: Resumed, position: Position) -> None:
        """Go on where the client was, or begin anew; never a part of it."""
        hub, state = self._hub, self._hub.state

        def known() -> list[str]:
            return [name for name in self._names(client, answer.symbols) if client.session.appeared(name)]

        found = await missed.missed_since(hub, self._recovery, position, known)
        if hub.state is not state or client.leaving:
            return
        names = known()
        place = None if found is None else place_of(dict(position.offsets))
        if TRADES in answer.channels:
            hub.fanout.tape_from(client, self._ids(names), place)
        self._reply(client, replace(answer, recovered=found is not None))
        if found is None:
            joiner.add(names)
            return
        self._tell_standing(client, names, found)
        # One that has appeared only just now has missed nothing, and gets a snapshot.
        ids = {name: state.symbols.id(name) for name in names if name in found.names}
        client.joining |= dict.fromkeys(ids.values(), found.version)
        client.owe_end_of_resume(answer.id)
        # Whether it has caught up is asked when it is served; with nothing to join it has at once.
        joiner.add(names, {name: joins.Missed(found.version, found.first_s.get(i)) for name, i in ids.items()})

    def _tell_standing(self, client: Client, names: Iterable[str], found: missed.Missed) -> None:
        """Where symbols stand now, and gaps that were told while the client was away."""
        hub, frames = self._hub, list[bytes]()
        for name in names:
            symbol_id = hub.state.symbols.id(name)
            now = hub.frames.symbol_state(symbol_id)
            frames.append(encode_text_frame(encode(StatusOut(name, now.source, now.trading, now.since_ts, now.reason))))
            frames += [hub.frames.news_frame(symbol_id, gap) for gap in found.gaps if symbol_id in gap.symbol_id]
        hub.fanout.write(client, b"".join(frames))

    def _names(self, client: Client, asked: Iterable[str]) -> list[str]:
        """Known symbols among these and of these patterns; one that was asked for by its name has a wish of its own."""
        state, wishes = self._hub.state, client.session.wishes
        named = [name for name in asked if not is_pattern(name) and state.known_id(name) is not None]
        patterns = tuple(name[:-1] for name in asked if is_pattern(name))
        if not patterns:
            return named
        all_known = (name for _, name in state.known_symbols())
        return named + [name for name in all_known if name.startswith(patterns) and name not in wishes]

    def _ids(self, names: Iterable[str]) -> list[int]:
        return [self._hub.state.symbols.id(name) for name in names]

    def _reply(self, client: Client, *replies: Reply) -> None:
        now_ns = time.time_ns()
        position = self._hub.frames.tape.position(client.place)
        frames = [encode_text_frame(encode_reply(reply, now_ns, position)) for reply in replies]
        for reply in replies:
            if isinstance(reply, Problem):
                metrics.BAD_MESSAGES.labels(reply.code).inc()
        if frames:
            client.outlet.send_frames(b"".join(frames))

    def _outcome(self, session: ClientSession, message: str | bytes) -> Outcome:
        refused = session.admit(time.monotonic())
        if refused is not None:
            return refused
        try:
            return session.handle(decode_command(message))
        except ClientError as error:
            return session.reject(error, message_id(message))

    def _obey(self, client: Client, joiner: Joiner, outcome: Outcome) -> None:
        fanout = self._hub.fanout
        left = self._names(client, outcome.leave)
        fanout.deactivate(client, self._ids(left))
        # What was said of a symbol itself is over: what was said of its pattern holds again.
        joined = [] if outcome.resume else self._names(client, outcome.join)
        joined += [name for name in left if client.session.appeared(name)]
        self._tape(client, [*left, *joined])
        self._reply(client, *outcome.replies)
        fanout.interval_changed(client)
        joiner.add(joined)

    def _tape(self, client: Client, names: Iterable[str]) -> None:
        """Begin and end trades as the client's wishes are; they do not wait for a join."""
        wishes = {name: client.session.wish_of(name) for name in names}
        begin = {name for name, wish in wishes.items() if wish is not None and TRADES in wish.channels}
        self._hub.fanout.tape_end(client, self._ids(wishes.keys() - begin))
        self._hub.fanout.tape_from(client, self._ids(begin))

    def on_appeared(self, symbol_ids: set[int]) -> None:
        """Symbols that clients may be waiting for are there now."""
        names = [self._hub.state.symbols.name(i) for i in symbol_ids]
        for client, joiner in self._joiners.items():
            if wanted := [name for name in names if client.session.appeared(name)]:
                self._tape(client, wanted)
                joiner.add(wanted)

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
