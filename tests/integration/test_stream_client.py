"""The public stream client and the HTTP client, against a real server on a real socket."""

import asyncio
import sys

import pytest

from marketfeed.adapters.websocket_server import Connection, HttpServer, Refuse, Request, Response
from marketfeed.client.http import HttpClient
from marketfeed.client.stream import Reconnected, Stream, decode
from marketfeed.domain.client_messages import DEFAULT_CHANNELS, Auth, Subscribe
from marketfeed.domain.errors import ClientError, Unavailable
from marketfeed.wire.websocket import Conflated
from marketfeed.wire.websocket_commands import decode_command

CONFLATED = '{"type":"conflated","count":1,"max_age_ms":2}'


async def take(stream: Stream, count: int) -> list[object]:
    """The next messages."""
    found: list[object] = []
    async with asyncio.timeout(20):
        async for message in stream.messages():
            found.append(message)
            if len(found) == count:
                return found
    raise AssertionError("the stream ended")


async def test_subscribes_again_after_a_lost_connection() -> None:
    """The caller sees the messages, then that the connection was lost and for how long, then messages again."""
    server = HttpServer("127.0.0.1", 0)
    received: list[str] = []

    async def on_connect(connection: Connection, request: Request) -> None:
        async for message in connection.messages():
            received.append(str(message))
            connection.send_text(CONFLATED)
            connection.send_text('{"type":"news_of_next_year"}')
            await connection.close(1012, "restart")

    server.websocket("/v1/stream", on_connect)
    await server.start()
    try:
        stream = Stream(f"ws://127.0.0.1:{server.port}/v1/stream", ["AAPL"], interval_ms=50, seed=1)
        first, lost, second = await take(stream, 3)
    finally:
        await server.close()
    assert first == second == Conflated(1, 2)
    assert isinstance(lost, Reconnected)
    assert "restart" in lost.reason
    assert len(received) == 2
    assert received[0] == received[1]
    assert '"symbols":["AAPL"]' in received[0]


async def test_the_token_is_a_message_that_the_server_understands() -> None:
    """`auth` comes first and as text, like every message of the protocol."""
    server = HttpServer("127.0.0.1", 0)
    commands: list[object] = []

    async def on_connect(connection: Connection, request: Request) -> None:
        async for message in connection.messages():
            commands.append(decode_command(message))
            if len(commands) == 2:
                connection.send_text(CONFLATED)

    server.websocket("/v1/stream", on_connect)
    await server.start()
    try:
        await take(Stream(f"ws://127.0.0.1:{server.port}/v1/stream", ["A"], token="x"), 1)
    finally:
        await server.close()
    assert commands == [Auth(0, "x"), Subscribe(1, ("A",), DEFAULT_CHANNELS, None, None, True)]


async def test_a_goodbye_for_good_is_an_error() -> None:
    """A close code after which trying again is of no use ends the stream."""
    server = HttpServer("127.0.0.1", 0)

    async def on_connect(connection: Connection, request: Request) -> None:
        await connection.close(4001, "another token")

    server.websocket("/v1/stream", on_connect)
    await server.start()
    try:
        with pytest.raises(ClientError, match="not_authenticated"):
            await take(Stream(f"ws://127.0.0.1:{server.port}/v1/stream", ["A"], token="x"), 1)
    finally:
        await server.close()


def test_unknown_messages_are_skipped() -> None:
    """What this version does not know is None."""
    assert decode('{"type":"news"}') is None
    assert decode(CONFLATED) == Conflated(1, 2)


async def test_http_answers_and_refusals() -> None:
    """JSON comes back as values; an error status, no JSON and nobody there are Unavailable with the reason."""
    server = HttpServer("127.0.0.1", 0)

    async def good(request: Request) -> Response:
        return Response(b'{"a":1}')

    async def text(request: Request) -> Response:
        return Response(b"hello")

    async def bad(request: Request) -> Response:
        raise Refuse(503, b"not now")

    server.get("/good", good)
    server.get("/text", text)
    server.get("/bad", bad)
    server.post("/good", good)
    await server.start()
    base = f"http://127.0.0.1:{server.port}"
    async with HttpClient() as http:
        assert await http.get(base + "/good") == {"a": 1}
        assert await http.post(base + "/good", {"b": 2}) == {"a": 1}
        with pytest.raises(Unavailable, match="HTTP 503: not now"):
            await http.get(base + "/bad")
        with pytest.raises(Unavailable, match="no JSON"):
            await http.get(base + "/text")
        await server.close()
        with pytest.raises(Unavailable):
            await http.get(base + "/good")


async def test_watching_from_the_terminal() -> None:
    """`marketfeed watch` shows what came, sums it up, and fails when nothing did."""
    server = HttpServer("127.0.0.1", 0)
    quote = (
        '{"type":"quote","symbol":"AAPL","price":1.5,"size":2.0,"event_ts":"1","age_ms":3,"previous_price":null,'
        '"direction":0,"day":null,"previous_close":null,"trades_per_s":0.0,"session":"regular",'
        '"stamps":{"event_ts":"1","received_ts":null,"logged_ts":null,"sent_ts":"2"}}'
    )

    async def on_connect(connection: Connection, request: Request) -> None:
        async for message in connection.messages():
            connection.send_text(quote if '"AAPL"' in str(message) else CONFLATED)

    server.websocket("/v1/stream", on_connect)
    await server.start()
    command = (sys.executable, "-m", "marketfeed.cli.main", "watch", "--url", f"ws://127.0.0.1:{server.port}/v1/stream")

    async def watched(*options: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(*command, *options, stdout=asyncio.subprocess.PIPE)
        said, _ = await asyncio.wait_for(process.communicate(), 20)
        return process.returncode, said.decode()

    try:
        code, said = await watched("--symbols", "AAPL", "--count", "1", "--format", "json")
        assert code == 0
        assert said.splitlines()[0] == quote
        assert '"quotes":1' in said.splitlines()[1]
        code, said = await watched("--symbols", "ZZ", "--for", "1s")
        assert (code, said[:14]) == (1, "no price came ")
    finally:
        await server.close()
