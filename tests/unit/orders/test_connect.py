"""Calls over HTTP: who may, what is answered, how streams end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from marketfeed.adapters.grpc_server import ORDERS, Call, Caller
from marketfeed.adapters.tokens import TokenGate
from marketfeed.adapters.websocket_server import HttpServer
from marketfeed.domain.access import Seats
from marketfeed.domain.errors import CallRefused, CallStatus, Unavailable
from marketfeed.orders.connect import ConnectDoor
from marketfeed.wire.v1 import orders_pb2 as pb

JSON, STREAM = "application/json", "application/connect+json"
HELD = 1 << 16


@dataclass
class Service:
    """Calls that answer, refuse, wait or crash as their request says."""

    callers: list[Caller] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def submit(self, message: pb.SubmitOrderRequest, caller: Caller) -> pb.SubmitOrderResponse:
        self.callers.append(caller)
        match message.symbol:
            case "REFUSED":
                raise CallRefused(CallStatus.ALREADY_EXISTS, "TAKEN", "that id is taken", order_id="7")
            case "AWAY":
                raise Unavailable("PostgreSQL", "here", "away")
            case "SLOW":
                await asyncio.sleep(60)
            case "BUG":
                raise KeyError("bug")
        return pb.SubmitOrderResponse(order=pb.Order(symbol=message.symbol, quantity_nanos=message.quantity_nanos))

    async def stream(self, message: pb.StreamOrdersRequest, caller: Caller) -> AsyncIterator[pb.StreamOrdersResponse]:
        try:
            for number in range(1, 4):
                order = pb.Order(update=number, reason="x" * HELD if message.after_update == 7 else "")
                yield pb.StreamOrdersResponse(update=pb.OrderUpdate(order=order))
            if message.after_update == 1:
                raise CallRefused(CallStatus.ABORTED, "RESTART", "come back")
            while message.after_update >= 2:
                await asyncio.sleep(0 if message.after_update == 7 else 0.01)
                yield pb.StreamOrdersResponse(update=pb.OrderUpdate(order=pb.Order(reason="x" * HELD)))
        finally:
            self.ended.set()


@dataclass
class Served:
    """The server, and a client of it."""

    service: Service
    client: aiohttp.ClientSession
    base: str
    denied: list[str]
    calls: list[str]

    async def post(self, method: str, body: Any, content_type: str = JSON, **headers: str) -> tuple[int, Any, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": content_type, **{name.replace("_", "-"): value for name, value in headers.items()}}
        async with self.client.post(f"{self.base}/{method}", data=data, headers=sent) as answer:
            found = await answer.read()
            return answer.status, answer.headers, json.loads(found) if answer.content_type == JSON else found


@asynccontextmanager
async def served(gate: TokenGate | None = None, seats: Seats | None = None) -> AsyncIterator[Served]:
    service, denied, calls = Service(), list[str](), list[str]()
    http = HttpServer("127.0.0.1", 0, body_bytes_max=4096)
    door = ConnectDoor(
        gate=gate or TokenGate(open=True), seats=seats or Seats(10), origins=("https://page",),
        on_call=calls.append, on_denied=denied.append, write_timeout_s=0.2,
    )  # fmt: skip
    door.serve(
        http, ORDERS,
        {"SubmitOrder": Call(pb.SubmitOrderRequest, unary=service.submit),
         "StreamOrders": Call(pb.StreamOrdersRequest, stream=service.stream)},
    )  # fmt: skip
    await http.start()
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as client:
            yield Served(service, client, f"http://127.0.0.1:{http.port}/{ORDERS}", denied, calls)
    finally:
        await http.close()


def envelope(message: Any) -> bytes:
    data = json.dumps(message).encode()
    return b"\x00" + len(data).to_bytes(4, "big") + data


def opened(data: bytes) -> list[tuple[int, Any]]:
    found = []
    while data:
        size = int.from_bytes(data[1:5], "big")
        found.append((data[0], json.loads(data[5 : 5 + size])))
        data = data[5 + size :]
    return found


async def test_a_call_is_answered_in_the_codec_it_came_in() -> None:
    """JSON for pages, protobuf for programs; the caller's headers are its metadata."""
    async with served() as it:
        order = {"symbol": "AAPL", "quantityNanos": "5"}
        status, headers, found = await it.post("SubmitOrder", order, X_Trace="t")
        assert (status, found) == (200, {"order": {"symbol": "AAPL", "quantityNanos": "5"}})
        assert headers["Cache-Control"] == "no-store"
        assert it.service.callers[0].metadata["x-trace"] == "t"
        sent = pb.SubmitOrderRequest(symbol="MSFT").SerializeToString()
        status, _, raw = await it.post("SubmitOrder", sent, "application/proto")
        assert pb.SubmitOrderResponse.FromString(raw).order.symbol == "MSFT"
        assert it.calls == [f"/{ORDERS}/SubmitOrder"] * 2


@pytest.mark.parametrize(
    ("symbol", "status", "code", "reason"),
    [
        ("REFUSED", 409, "already_exists", "TAKEN"),
        ("AWAY", 503, "unavailable", "UNAVAILABLE"),
        ("BUG", 500, "internal", None),
        ("SLOW", 504, "deadline_exceeded", "DEADLINE"),
    ],
)
async def test_what_goes_wrong_has_a_status_a_code_and_a_sentence(
    symbol: str, status: int, code: str, reason: str | None
) -> None:
    """A refusal's reason is there for programs; a mistake of ours tells nothing of its inside."""
    async with served() as it:
        found = await it.post("SubmitOrder", {"symbol": symbol}, Connect_Timeout_Ms="100")
        assert (found[0], found[2]["code"]) == (status, code)
        assert found[2]["message"]
        assert "bug" not in found[2]["message"]
        details = found[2].get("details")
        assert (details[0]["debug"]["reason"] if details else None) == reason


@pytest.mark.parametrize(
    ("body", "content_type", "headers", "status"),
    [
        (b"{", JSON, {}, 400),
        (b"\xff", JSON, {}, 400),
        (b"{}", "text/plain", {}, 415),
        (b"{}", STREAM, {}, 415),
        (b"{}", JSON, {"Connect_Protocol_Version": "2"}, 400),
        (b"{}", JSON, {"Connect_Timeout_Ms": "soon"}, 400),
        (b"x" * 5000, JSON, {}, 413),
        (b"{}", JSON, {"Origin": "https://other"}, 403),
    ],
    ids=["torn", "no text", "type", "stream's type", "version", "timeout", "oversized", "origin"],
)
async def test_bad_requests_are_refused(body: bytes, content_type: str, headers: dict[str, str], status: int) -> None:
    """None of them reaches the call."""
    async with served() as it:
        found = await it.post("SubmitOrder", body, content_type, **headers)
        assert found[0] == status
        assert not it.service.callers
        if status == 415:
            assert JSON in found[1]["Accept-Post"]


async def test_other_methods_and_paths_are_none() -> None:
    """404 for a method that is not served, 405 for GET."""
    async with served() as it:
        assert (await it.post("EatOrder", {}))[0] == 404
        async with it.client.get(f"{it.base}/SubmitOrder") as answer:
            assert answer.status == 405


async def test_a_page_of_an_allowed_origin_is_told_that_it_may() -> None:
    """Its preflight names method and headers, its answers carry its origin; another page learns nothing."""
    async with served() as it:
        for origin, told in (("https://page", "https://page"), ("https://other", None)):
            asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            async with it.client.options(f"{it.base}/SubmitOrder", headers=asked) as answer:
                assert answer.headers.get("Access-Control-Allow-Origin") == told
                assert ("POST" in answer.headers.get("Access-Control-Allow-Methods", "")) == bool(told)
        _, headers, _ = await it.post("SubmitOrder", {}, Origin="https://page")
        assert headers["Access-Control-Allow-Origin"] == "https://page"


async def test_a_token_is_asked_for_and_must_grant_the_call() -> None:
    """The token that all clients share may read and not trade."""
    async with served(TokenGate(open=False, client_token="s" * 32)) as it:
        status, headers, found = await it.post("SubmitOrder", {})
        assert (status, found["code"]) == (401, "unauthenticated")
        assert headers["WWW-Authenticate"] == "Bearer"
        status, _, found = await it.post("SubmitOrder", {}, Authorization=f"Bearer {'s' * 32}")
        assert (status, found["code"]) == (403, "permission_denied")
        assert len(it.denied) == 2
        assert not it.calls


async def test_a_stream_sends_each_message_and_says_its_end() -> None:
    """The last envelope has flag 2, and the error if there was one; the status is 200 whatever becomes of it."""
    async with served() as it:
        status, headers, data = await it.post("StreamOrders", envelope({}), STREAM)
        assert (status, headers["Content-Type"]) == (200, STREAM)
        *messages, end = opened(data)
        assert [(flags, one["update"]["order"]["update"]) for flags, one in messages] == [(0, "1"), (0, "2"), (0, "3")]
        assert end == (2, {})
        _, _, data = await it.post("StreamOrders", envelope({"afterUpdate": "1"}), STREAM)
        flags, end = opened(data)[-1]
        assert (flags, end["error"]["code"], end["error"]["message"]) == (2, "aborted", "come back")
        _, _, data = await it.post("StreamOrders", b"\x00\x00", STREAM)
        assert opened(data)[-1][1]["error"]["code"] == "invalid_argument"


async def test_a_stream_ends_with_its_deadline_and_has_a_seat() -> None:
    """Who has no seat left is told so; the seat is free again afterwards."""
    async with served(seats=Seats(1)) as it:
        for _ in range(2):
            sent = envelope({"afterUpdate": "2"})
            _, _, data = await it.post("StreamOrders", sent, STREAM, Connect_Timeout_Ms="100")
            assert opened(data)[-1][1]["error"]["code"] == "deadline_exceeded"
            assert it.service.ended.is_set()


async def test_a_client_that_goes_ends_its_stream() -> None:
    """The call's own end runs, so that nothing is left of it."""
    async with served() as it:
        answer = await it.client.post(
            f"{it.base}/StreamOrders", data=envelope({"afterUpdate": "2"}), headers={"Content-Type": STREAM}
        )
        await answer.content.readexactly(100)
        assert not it.service.ended.is_set()
        answer.close()
        async with asyncio.timeout(5):
            await it.service.ended.wait()


async def test_a_client_that_takes_nothing_is_cut() -> None:
    """What it has not taken is bounded by the sockets' buffers, and so is how long it is waited for."""
    async with served() as it:
        port = int(it.base.partition("127.0.0.1:")[2].partition("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        body = envelope({"afterUpdate": "7"})
        head = f"POST /{ORDERS}/StreamOrders HTTP/1.1\r\nHost: x\r\nContent-Type: {STREAM}\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        async with asyncio.timeout(8):
            await it.service.ended.wait()
        writer.close()
        assert not reader.at_eof()


def test_streams_of_bytes_have_no_json() -> None:
    """A call whose answers are bytes has no place here, which a test of it would show at once."""

    async def play() -> None:
        async def answer(message: Any, caller: Caller) -> bytes:
            return b""

        http = HttpServer("127.0.0.1", 0)
        door = ConnectDoor(
            gate=TokenGate(open=True), seats=Seats(1), origins=(), on_call=lambda _: None, on_denied=lambda _: None
        )
        door.serve(http, ORDERS, {"GetOrder": Call(pb.GetOrderRequest, unary=answer)})
        await http.start()
        async with aiohttp.ClientSession() as client:
            url = f"http://127.0.0.1:{http.port}/{ORDERS}/GetOrder"
            async with client.post(url, data=b"{}", headers={"Content-Type": JSON}) as answered:
                assert answered.status == 500
        await http.close()

    asyncio.run(play())
