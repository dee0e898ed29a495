"""A program written for Finnhub, with a socket in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from marketfeed.adapters.tokens import TokenGate
from marketfeed.adapters.websocket_server import Refuse, Request
from marketfeed.domain.access import AccessDenied, Denial, Gate, Principal, Seats, granted
from marketfeed.domain.client_session import Limits
from marketfeed.mds.finnhub import FinnhubServer
from marketfeed.mds.hub import Hub


class Granting:
    """A gate that knows one token, of somebody with these rights."""

    open = False
    leeway_s = 0.0

    def __init__(self, **grant: Any) -> None:
        self._who = granted("alice", grant)

    def admit(self, token: str | None) -> Principal:
        if token != "good":
            raise AccessDenied(Denial.FAILED, "no")
        return self._who

    def certified(self, names: Any) -> Principal:
        raise AccessDenied(Denial.FAILED, "no")


def request(token: str = "good") -> Request:
    return Request("GET", "/finnhub", {"token": token}, {}, "")


class Program:
    """Says what programs for Finnhub say."""

    def __init__(self, hub: Hub, socket: Any) -> None:
        self.hub = hub
        self.socket = socket
        self.heard: list[dict[str, Any]] = []

    def say(self, kind: str, symbol: str) -> None:
        self.socket.said.put_nowait(json.dumps({"type": kind, "symbol": symbol}))

    async def hears(self, condition: Callable[[list[dict[str, Any]]], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition(self.heard):
                self.heard += map(json.loads, self.socket.texts())
                await asyncio.sleep(0.001)
                self.hub.tick()

    @property
    def prices(self) -> list[tuple[str, float]]:
        return [(t["s"], t["p"]) for m in self.heard if m["type"] == "trade" for t in m["data"]]


@pytest.fixture
def connect(market: Any, new_socket: Any) -> Any:
    @asynccontextmanager
    async def talking(gate: Gate, **limits: Any) -> AsyncIterator[Program]:
        server = FinnhubServer(market.hub, Limits(**limits), gate, Seats(1))
        market.hub.on_appeared = server.appeared
        market.hub.tick()
        socket = new_socket()
        serving = asyncio.ensure_future(server.serve(socket, request()))
        try:
            await asyncio.sleep(0)
            yield Program(market.hub, socket)
        finally:
            await socket.close()
            await serving
            assert market.hub.fanout.clients == 0

    return talking


async def test_subscribe_trades_unsubscribe_without_a_word_between(market: Any, connect: Any) -> None:
    """Trades of the symbol alone, each once; a symbol that comes later, too; none after the end, and no heartbeats."""
    market.log.own("A", "B")
    async with connect(TokenGate(open=True)) as program:
        program.say("subscribe", "A")
        program.say("subscribe", "LATER")
        await asyncio.sleep(0.01)
        for price in (1.0, 2.0):
            market.log.trade("A", price, price)
            market.log.trade("B", price, price)
        await program.hears(lambda _: len(program.prices) == 2)
        market.log.own("LATER")
        market.log.trade("LATER", 3, 3.0)
        await program.hears(lambda _: len(program.prices) == 3)
        assert program.prices == [("A", 1.0), ("A", 2.0), ("LATER", 3.0)]
        program.say("unsubscribe", "A")
        await asyncio.sleep(0.01)
        market.log.trade("A", 4, 4.0)
        market.log.trade("LATER", 5, 5.0)
        await program.hears(lambda _: len(program.prices) == 4)
        assert program.prices[3] == ("LATER", 5.0)
        assert {message["type"] for message in program.heard} == {"trade"}


async def test_there_is_a_ping_a_minute(market: Any, connect: Any) -> None:
    """1,200 turns of 50 ms."""
    async with connect(TokenGate(open=True)) as program:
        for _ in range(2400):
            market.hub.tick()
        assert list(map(json.loads, program.socket.texts())) == [{"type": "ping"}] * 2


async def test_limits_and_rights_are_told_in_finnhub_s_words(market: Any, connect: Any) -> None:
    """And the connection goes on; wildcards are not of its protocol."""
    market.log.own("A", "B", "X")
    async with connect(Granting(symbols=["A", "B"]), symbols_max=1) as program:
        for symbol in ("A", "X", "B", "*"):
            program.say("subscribe", symbol)
        await program.hears(lambda heard: len(heard) == 3)
        assert [m["msg"] for m in program.heard] == [
            "You don't have access to this resource.", "Subscribing to too many symbols", "Invalid message",
        ]  # fmt: skip
        market.log.trade("A", 1, 1.0)
        await program.hears(lambda _: program.prices == [("A", 1.0)])


async def test_a_token_is_asked_for_before_the_handshake(market: Any) -> None:
    """401 for a bad one, 403 for one without trades, and a principal has no more connections than it may."""
    for gate, token, status in (
        (Granting(symbols=["*"]), "bad", 401),
        (Granting(symbols=["*"], channels=["quotes"]), "good", 403),
    ):
        with pytest.raises(Refuse) as refused:
            await FinnhubServer(market.hub, Limits(), gate, Seats(1)).accept(request(token))
        assert refused.value.response.status == status
    await FinnhubServer(market.hub, Limits(), Granting(symbols=["*"]), Seats(1)).accept(request())


async def test_one_connection_too_many_is_ended_at_once(market: Any, new_socket: Any) -> None:
    """With the code that says so."""
    server = FinnhubServer(market.hub, Limits(), Granting(symbols=["*"], connections=0), Seats(1))
    socket = new_socket()
    await server.serve(socket, request())
    assert socket.goodbye[0] == 4005
