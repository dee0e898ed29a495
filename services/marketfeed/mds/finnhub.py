"""One client of `/finnhub`: a program written for Finnhub's stream, which knows nothing of us.

The token is in the query, symbols are subscribed one a message and never acknowledged, trades come in frames, a ping
every minute. Who may have what, how much, and how slowly is as for every other client: its session, its subscription
and its place in the tape are the same as on `/v1/stream`, only what is said is translated.
"""

from __future__ import annotations

import time
from dataclasses import replace

from marketfeed.adapters.websocket_server import Refuse, Request
from marketfeed.domain.access import OPEN, AccessDenied, Denial, Gate, Seats
from marketfeed.domain.client_messages import (
    TRADES,
    Auth,
    Command,
    Goodbye,
    Outcome,
    Subscribe,
    Subscribed,
    SymbolStatus,
    Unsubscribe,
    is_pattern,
)
from marketfeed.domain.client_session import ClientSession, Limits
from marketfeed.domain.errors import ClientError
from marketfeed.mds import metrics
from marketfeed.mds.clients import Client
from marketfeed.mds.door import Visit
from marketfeed.mds.hub import Hub
from marketfeed.mds.stream import Socket
from marketfeed.mds.tape_frames import Dialect
from marketfeed.wire.finnhub_server import (
    INVALID_MESSAGE,
    NO_ACCESS,
    TOO_MANY_SYMBOLS,
    Order,
    decode_order,
    error_frame,
)

_ERRORS = {SymbolStatus.LIMIT: TOO_MANY_SYMBOLS, SymbolStatus.FORBIDDEN: NO_ACCESS}


class FinnhubServer:
    """Serves such connections of one process."""

    def __init__(self, hub: Hub, limits: Limits, gate: Gate, seats: Seats) -> None:
        self._hub = hub
        # Programs send all their symbols at once, one a message.
        self._limits = replace(limits, messages_per_s=max(limits.messages_per_s, limits.symbols_max))
        self._gate = gate
        self._seats = seats
        self._clients: set[Client] = set()

    async def accept(self, request: Request) -> None:
        """Before the handshake: whoever shows no good token is answered 401, as Finnhub does."""
        if self._gate.open:
            return
        try:
            principal = self._gate.admit(request.query.get("token"))
            if not principal.channels.allow(TRADES):
                raise AccessDenied(Denial.FORBIDDEN, "your token does not grant trades")
        except AccessDenied as denied:
            metrics.REFUSED.labels(denied.code).inc()
            status = 403 if denied.denial is Denial.FORBIDDEN else 401
            raise Refuse(status, f"{denied.message}\n".encode()) from denied

    async def serve(self, socket: Socket, request: Request) -> None:
        """Serve one connection until it ends."""
        visit = Visit(self._gate, self._seats)
        principal = OPEN if self._gate.open else None
        session = ClientSession(self._limits, self._is_known, lambda: False, time.monotonic(), principal, visit.admit)
        fanout = self._hub.fanout
        client = fanout.add(session, socket, Dialect.FINNHUB)
        self._clients.add(client)
        try:
            if principal is None:
                session.admit(time.monotonic())
                admitted = session.handle(Auth(None, request.query.get("token", "")))
                if admitted.goodbye is not None:
                    await self._say_goodbye(socket, admitted.goodbye)
                    return
            await self._listen(client, socket)
        finally:
            self._clients.discard(client)
            fanout.remove(client)
            visit.leave()

    def appeared(self, symbol_ids: set[int]) -> None:
        """Symbols that clients may be waiting for are there now."""
        names = {i: self._hub.state.symbols.name(i) for i in symbol_ids}
        for client in self._clients:
            wanted = [i for i, name in names.items() if client.session.appeared(name)]
            self._hub.fanout.tape_from(client, wanted)

    async def _listen(self, client: Client, socket: Socket) -> None:
        async for message in socket.messages():
            refused = client.session.admit(time.monotonic())
            goodbye = None if refused is None else refused.goodbye
            if refused is None:
                goodbye = self._obey(client, message)
            if goodbye is not None:
                await self._say_goodbye(socket, goodbye)
                return

    def _obey(self, client: Client, message: str | bytes) -> Goodbye | None:
        order = decode_order(message)
        if order is None or is_pattern(order.symbol):
            outcome = client.session.reject(ClientError("bad_message", "not a message of Finnhub's protocol"))
            self._complain(client, INVALID_MESSAGE)
            return outcome.goodbye
        outcome = client.session.handle(_command(order))
        self._translate(client, outcome)
        state = self._hub.state
        joined = [i for name in outcome.join if (i := state.known_id(name)) is not None]
        left = [i for name in outcome.leave if (i := state.known_id(name)) is not None]
        self._hub.fanout.tape_from(client, joined)
        self._hub.fanout.tape_end(client, left)
        return outcome.goodbye

    def _translate(self, client: Client, outcome: Outcome) -> None:
        """What Finnhub would say: nothing, or an error."""
        for reply in outcome.replies:
            if isinstance(reply, Subscribed):
                for text in {_ERRORS[status] for status in reply.symbols.values() if status in _ERRORS}:
                    self._complain(client, text)

    def _complain(self, client: Client, text: str) -> None:
        """Say what cannot be had, to whoever reads what it is told."""
        if client.outlet.buffered_bytes <= self._limits.buffer_bytes_max:
            client.outlet.send_frames(error_frame(text))

    def _is_known(self, symbol: str) -> bool:
        return self._hub.serving and self._hub.state.known_id(symbol) is not None

    async def _say_goodbye(self, socket: Socket, goodbye: Goodbye) -> None:
        metrics.GOODBYES.labels(goodbye.code.name.lower()).inc()
        await socket.close(int(goodbye.code), goodbye.reason)


def _command(order: Order) -> Command:
    """Symbols that are not known yet are waited for, as Finnhub says nothing of them."""
    if order.type == "subscribe":
        return Subscribe(None, (order.symbol,), (TRADES,), wait=True)
    return Unsubscribe(None, (order.symbol,))
