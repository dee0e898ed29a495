"""The HTTP and WebSocket server, over real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from marketfeed.adapters.websocket_server import Connection, HttpServer, Refuse, Request, Response
from marketfeed.domain.errors import SettingError
from marketfeed.wire.websocket_frames import encode_text_frame


@asynccontextmanager
async def running(server: HttpServer) -> AsyncIterator[aiohttp.ClientSession]:
    """The server, started, and a client at its address."""
    await server.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
            yield session
    finally:
        await server.close()


async def echo(connection: Connection, request: Request) -> None:
    """Send back what comes, as one write of two frames."""
    async for message in connection.messages():
        assert isinstance(message, str)
        frame = encode_text_frame(message.encode())
        connection.send_frames(frame + frame)


async def test_frames_written_to_the_transport_arrive_as_messages() -> None:
    """Two frames in one write are two messages; the query and the remote address reach the handler."""
    server = HttpServer("127.0.0.1", 0)
    seen: list[Request] = []

    async def on_connect(connection: Connection, request: Request) -> None:
        seen.append(request)
        await echo(connection, request)

    server.websocket("/ws", on_connect)
    async with running(server) as session, session.ws_connect("/ws?token=abc&token=x") as ws:
        await ws.send_str("grüß")
        assert [await ws.receive_str(), await ws.receive_str()] == ["grüß", "grüß"]
        assert seen[0].query == {"token": "abc"}
        assert seen[0].remote == "127.0.0.1"
        assert server.connections == 1


async def test_a_handshake_can_be_refused_with_plain_http() -> None:
    """The accept hook answers 429 with headers, and no WebSocket is made."""
    server = HttpServer("127.0.0.1", 0)

    async def accept(request: Request) -> None:
        raise Refuse(429, b"slow down", {"Retry-After": "60"})

    server.websocket("/ws", echo, accept=accept)
    async with running(server) as session, session.get("/ws") as answer:
        assert (answer.status, await answer.read(), answer.headers["Retry-After"]) == (429, b"slow down", "60")


async def test_plain_http_is_told_that_this_is_a_websocket() -> None:
    """Who opens the address in a browser's tab or with curl reads what to do."""
    server = HttpServer("127.0.0.1", 0)
    server.websocket("/ws", echo)
    async with running(server) as session, session.get("/ws") as answer:
        assert answer.status == 426
        assert "ws://" in await answer.text()


async def test_an_unknown_origin_is_refused_and_our_own_page_is_not() -> None:
    """Browsers send an Origin; only listed ones and the server's own host may connect."""
    server = HttpServer("127.0.0.1", 0)
    server.websocket("/ws", echo, origins=("https://good.example",))
    async with running(server) as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect("/ws", origin="https://evil.example")
        assert refused.value.status == 403
        for origin in ("https://good.example", f"http://127.0.0.1:{server.port}"):
            async with session.ws_connect("/ws", origin=origin):
                pass


async def test_an_oversized_message_closes_that_connection_only() -> None:
    """1009 for the one who sent too much; the other goes on."""
    server = HttpServer("127.0.0.1", 0)
    server.websocket("/ws", echo, message_bytes_max=1000)
    async with running(server) as session, session.ws_connect("/ws") as other, session.ws_connect("/ws") as ws:
        await ws.send_str("x" * 2000)
        message = await ws.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1009)
        await other.send_str("still here")
        assert await other.receive_str() == "still here"


async def test_a_client_that_does_not_read_cannot_hang_the_close() -> None:
    """Unsent bytes are visible, and closing takes close_timeout_s at most."""
    server = HttpServer("127.0.0.1", 0, close_timeout_s=0.2)
    stuck = asyncio.Event()
    ended = asyncio.Event()

    async def flood(connection: Connection, request: Request) -> None:
        frame = encode_text_frame(b"x" * 65000)
        while connection.buffered_bytes < 1_000_000:
            connection.send_frames(frame * 10)
            await asyncio.sleep(0)
        stuck.set()
        await connection.close(4002, "too slow")
        assert connection.closed
        connection.send_frames(frame)
        ended.set()

    server.websocket("/ws", flood)
    await server.start()
    client = socket.create_connection(("127.0.0.1", server.port))
    client.sendall(
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    try:
        async with asyncio.timeout(10):
            await stuck.wait()
            await ended.wait()
            await server.close()
    finally:
        client.close()


async def test_close_tells_every_client_the_code() -> None:
    """A planned stop reaches the clients as a close frame with code and reason."""
    server = HttpServer("127.0.0.1", 0)
    server.websocket("/ws", echo)
    async with running(server) as session:
        clients = [await session.ws_connect("/ws") for _ in range(3)]
        for client in clients:  # an answer shows that the handler runs
            await client.send_str("hello")
            assert [await client.receive_str(), await client.receive_str()] == ["hello"] * 2
        closing = asyncio.ensure_future(server.close(1012, "restart"))
        goodbyes = [await client.receive() for client in clients]
        assert [(g.type, g.data, g.extra) for g in goodbyes] == [(aiohttp.WSMsgType.CLOSE, 1012, "restart")] * 3
        await closing


async def test_a_failing_handler_closes_with_1011() -> None:
    """A bug in a handler is not the end of the server."""
    server = HttpServer("127.0.0.1", 0)

    async def fail(connection: Connection, request: Request) -> None:
        raise RuntimeError("bug")

    server.websocket("/ws", fail)
    async with running(server) as session, session.ws_connect("/ws") as ws:
        assert (await ws.receive()).data == 1011


async def test_http_answers_and_errors_are_json() -> None:
    """A handler's answer, a refusal, an unknown path, a wrong method, a large body and a bug each have their status."""
    server = HttpServer("127.0.0.1", 0, body_bytes_max=10)

    async def show(request: Request) -> Response:
        if request.query.get("fail"):
            raise RuntimeError("bug")
        return Response(request.method.encode() + b" " + request.body)

    server.get("/show", show)
    server.post("/show", show)
    async with running(server) as session:
        async with session.get("/show") as answer:
            assert (answer.status, await answer.read()) == (200, b"GET ")
            assert answer.headers["Content-Type"] == "application/json"
        async with session.post("/show", data=b"body") as answer:
            assert await answer.read() == b"POST body"
        for call, status, code in (
            (session.post("/show", data=b"x" * 11), 413, "request_entity_too_large"),
            (session.delete("/show"), 405, "method_not_allowed"),
            (session.get("/nothing"), 404, "not_found"),
            (session.get("/show?fail=1"), 500, "internal"),
        ):
            async with call as answer:
                assert (answer.status, (await answer.json())["error"]["code"]) == (status, code)


async def test_static_files_are_cached_by_kind_and_never_outside_the_directory(tmp_path: Path) -> None:
    """Hashed assets for ever, the index revalidated; a page's route gets the index, a missing asset 404."""
    root = tmp_path / "dist"
    (root / "assets").mkdir(parents=True)
    (root / "index.html").write_text("<p>page")
    (root / "assets" / "app-1a2b.js").write_text("1")
    (tmp_path / "secret").write_text("secret")
    server = HttpServer("127.0.0.1", 0)
    server.static("/", root, no_index=("v1/",))
    async with running(server) as session:
        for path, status, body, cache in (
            ("/", 200, "<p>page", "no-cache"),
            ("/stock/AAPL", 200, "<p>page", "no-cache"),
            ("/assets/app-1a2b.js", 200, "1", "public, max-age=31536000, immutable"),
            ("/..%2Fsecret", 200, "<p>page", "no-cache"),
            ("/%00", 404, None, None),
            ("/assets/gone.js", 404, None, None),
            ("/v1/gone", 404, None, None),
        ):
            async with session.get(aiohttp.client.URL(f"http://127.0.0.1:{server.port}{path}", encoded=True)) as answer:
                assert answer.status == status, path
                if body is not None:
                    assert (await answer.text(), answer.headers["Cache-Control"]) == (body, cache)
        async with session.get("/") as answer:
            etag = answer.headers["ETag"]
        async with session.get("/", headers={"If-None-Match": etag}) as answer:
            assert answer.status == 304


async def test_an_occupied_port_is_explained() -> None:
    """One sentence that names the setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = HttpServer("127.0.0.1", taken.getsockname()[1], port_setting="public_port")
        with pytest.raises(SettingError, match=r"public_port: port \d+ on .* is in use"):
            await server.start()
