"""HTTP and WebSocket server over aiohttp, without any business: mds and the generator both stand on it.

Rules of this file
- Outgoing frames come encoded (`wire/websocket_frames.py`) and go straight to the socket: no await, no compression, no
  copy per connection, and past the transport as long as it has nothing to write. Nothing here waits for a slow reader;
  `buffered_bytes` tells the caller how much a connection has not taken yet, and the caller decides what to leave out.
- Incoming messages are bounded in size (close code 1009 beyond) and pull-driven: a client that sends faster than its
  handler reads is stopped by TCP.
- A peer that takes longer than `request_timeout_s` for its request, or lets a connection lie idle so long, is cut.
- Closing never hangs: after `close_timeout_s` without the peer's answer the socket is aborted.
- A handshake can be refused with any plain HTTP answer by raising `Refuse` in the accept hook.
- Static files: names under `assets/` carry a content hash and may be kept for ever, everything else is revalidated.

Not here: TLS and bounds by address (a proxy's work), authentication and rate limits (the handler's).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from aiohttp import WSMsgType, web

from marketfeed.domain.errors import SettingError, Unavailable
from marketfeed.wire.http_access import origin_allowed
from marketfeed.wire.websocket_frames import close_reason, encode_text_frame

_log = logging.getLogger("marketfeed.http")

# Room for a header with the longest token there is, beyond which the library answers 400.
FIELD_BYTES_MAX = 16 * 1024
JSON_TYPE = "application/json"

_SECURITY_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
_IMMUTABLE = "public, max-age=31536000, immutable"
_REVALIDATE = "no-cache"


class Refuse(Exception):
    """Raised by an accept hook or a handler: answer with this HTTP response, and no WebSocket."""

    def __init__(
        self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, content_type: str = "text/plain"
    ) -> None:
        super().__init__(f"refused with HTTP {status}")
        self.response = Response(body, status=status, content_type=content_type, headers=headers or {})


@dataclass(frozen=True, slots=True)
class Request:
    """A request as handlers see it. Header names know no case; of a repeated query name the first value counts."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    remote: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """What a handler answers."""

    body: bytes
    status: int = 200
    content_type: str = JSON_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Awaitable[Response]]
Accept = Callable[[Request], Awaitable[None]]


class Connection:
    """One WebSocket. Sending never waits; reading does. Use from the event loop's thread only."""

    __slots__ = ("_close_timeout_s", "_closed", "_descriptor", "_transport", "_ws", "close_code", "request")

    def __init__(
        self, ws: web.WebSocketResponse, transport: asyncio.Transport, request: Request, close_timeout_s: float
    ) -> None:
        self._ws = ws
        self._transport = transport
        self._descriptor = _plain_descriptor(transport)
        self._close_timeout_s = close_timeout_s
        self._closed = False
        self.request = request
        self.close_code: int | None = None  # the code this connection ended with, when known

    @property
    def closed(self) -> bool:
        """True once closing has begun on either side; frames sent from then on are dropped."""
        return self._closed or self._transport.is_closing()

    @property
    def buffered_bytes(self) -> int:
        """Bytes given to `send_frames` that the socket has not taken yet."""
        return self._transport.get_write_buffer_size()

    def send_frames(self, data: bytes) -> None:
        """Write encoded frames; one call is one write. Unbounded by itself: look at `buffered_bytes` first."""
        if not self.offer(data) and not self.closed:
            self._transport.write(data)

    def offer(self, data: bytes) -> bool:
        """`send_frames`, if the socket has taken everything before; False if it has not, and nothing is written.

        A transport costs a fifth of a write more than the system call, so it gets only what the kernel does not take.
        """
        transport, written = self._transport, 0
        if transport.get_write_buffer_size():
            return False
        if self._closed or transport.is_closing():
            return True  # From here on the descriptor may be another connection's.
        if self._descriptor >= 0:
            try:
                written = os.write(self._descriptor, data)
            except OSError:
                written = 0  # Full or broken: the transport finds out which.
        if written < len(data):
            transport.write(data[written:] if written else data)
        return True

    def send_text(self, text: str) -> None:
        """Write one text message."""
        self.send_frames(encode_text_frame(text.encode()))

    async def messages(self) -> AsyncIterator[str | bytes]:
        """Messages of the client, text as str and binary as bytes, until either side closes."""
        while not self._closed:
            message = await self._ws.receive()
            if message.type is WSMsgType.TEXT:
                yield message.data
            elif message.type is WSMsgType.BINARY:
                yield bytes(message.data)
            else:
                break
        self.close_code = self.close_code or self._ws.close_code

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye, wait for the answer at most `close_timeout_s`, then cut. Further calls do nothing."""
        if self._closed:
            return
        self._closed = True
        self.close_code = self.close_code or self._ws.close_code or code
        try:
            async with asyncio.timeout(self._close_timeout_s):
                await self._ws.close(code=code, message=close_reason(reason))
        except (TimeoutError, ConnectionError):
            pass  # The peer does not read or is gone: the abort below is all that is left to do.
        finally:
            if self._transport.get_write_buffer_size():
                self._transport.abort()

    def abort(self) -> None:
        """Cut the socket without a goodbye."""
        self._closed = True
        self._transport.abort()


class Begun(Protocol):
    """An answer whose head is sent."""

    async def __call__(self, data: bytes) -> None:
        """Send more; waits until the client takes it. Raises ConnectionError when it is gone or takes nothing."""


# Begins an answer without an end that is known: given its content type and further headers.
Begin = Callable[[str, Mapping[str, str]], Awaitable[Begun]]
# Answers at once, or begins, sends, and returns None at the end.
StreamHandler = Callable[[Request, Begin], Awaitable[Response | None]]
OnConnect = Callable[[Connection, Request], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _WebSocketRoute:
    on_connect: OnConnect
    accept: Accept | None
    origins: frozenset[str] | None
    message_bytes_max: int
    ping_interval_s: float | None


class HttpServer:
    """Routes, then `start`, then `close`. `port` 0 takes any free port; `.port` is the real one after `start`.

    body_bytes_max   largest request body of a POST; beyond it 413
    close_timeout_s  how long a goodbye may take per connection
    request_timeout_s  how long a request, a handshake included, may take to arrive, and how long none need come
    port_setting     the setting named when the port is occupied
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        body_bytes_max: int = 64 * 1024,
        close_timeout_s: float = 2.0,
        request_timeout_s: float = 30.0,
        port_setting: str = "port",
    ) -> None:
        self._host = host
        self._wanted_port = port
        self._port_setting = port_setting
        self._close_timeout_s = close_timeout_s
        self._request_timeout_s = request_timeout_s
        self._app = web.Application(client_max_size=body_bytes_max, middlewares=[_answer_errors])
        self._runner: web.AppRunner | None = None
        self._connections: set[Connection] = set()
        self.port = port

    @property
    def connections(self) -> int:
        """WebSockets open at present."""
        return len(self._connections)

    def get(self, path: str, handler: Handler) -> None:
        """Answer GET (and HEAD) of a path."""
        self._app.router.add_get(path, self._http(handler))

    def options(self, path: str, handler: Handler) -> None:
        """Answer OPTIONS of a path: browsers' preflights."""
        self._app.router.add_route("OPTIONS", path, self._http(handler))

    def post(self, path: str, handler: Handler) -> None:
        """Answer POST of a path; the body is read whole, up to `body_bytes_max`."""
        self._app.router.add_post(path, self._http(handler))

    def post_stream(self, path: str, handler: StreamHandler, *, write_timeout_s: float = 10.0) -> None:
        """Answer POST of a path in pieces. A client that takes nothing for `write_timeout_s` is cut."""

        async def serve(request: web.Request) -> web.StreamResponse:
            answer = _StreamAnswer(request, write_timeout_s)
            try:
                at_once = await handler(_request(request, await self._body(request)), answer.begin)
                return _answer(at_once) if at_once is not None else await answer.end()
            except ConnectionError:
                return answer.sent  # the client has gone, which is its right

        self._app.router.add_post(path, serve)

    def websocket(
        self,
        path: str,
        on_connect: OnConnect,
        *,
        accept: Accept | None = None,
        origins: tuple[str, ...] | None = None,
        message_bytes_max: int = 16 * 1024,
        ping_interval_s: float | None = 20.0,
    ) -> None:
        """Serve WebSockets. The connection lives as long as `on_connect` runs.

        accept           called before the handshake; raises `Refuse` to answer with plain HTTP
        origins          browsers' pages allowed to connect beside our own ("https://host"); None allows all
        ping_interval_s  a peer silent for 1.5 times this is cut; None sends no pings
        """
        allowed = None if origins is None else frozenset(origins)
        route = _WebSocketRoute(on_connect, accept, allowed, message_bytes_max, ping_interval_s)

        async def serve(request: web.Request) -> web.StreamResponse:
            return await self._serve_websocket(route, request)

        self._app.router.add_get(path, serve)

    def static(self, prefix: str, directory: Path, *, no_index: tuple[str, ...] = ()) -> None:
        """Serve the files of a directory below `prefix` ("/" for the root; add other routes first).

        A path that names no file gets index.html (it is a page's own route), except below `assets/` and the folders
        of `no_index` ("v1/"), where it is a 404.
        """
        root = directory.resolve()

        async def serve(request: web.Request) -> web.StreamResponse:
            return _static_file(root, request.match_info["path"], ("assets/", *no_index))

        self._app.router.add_get(prefix.rstrip("/") + "/{path:.*}", serve)

    async def start(self) -> None:
        """Listen. Raises SettingError when the port is occupied, Unavailable for any other refusal."""
        runner = web.AppRunner(
            self._app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=self._close_timeout_s,
            # aiohttp counts it from the connection's begin, too, so that it bounds how slowly headers may come.
            keepalive_timeout=self._request_timeout_s,
            max_field_size=FIELD_BYTES_MAX,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._wanted_port, backlog=1024).start()
        except OSError as error:
            await runner.cleanup()
            if error.errno == errno.EADDRINUSE:
                problem = (
                    f"port {self._wanted_port} on {self._host} is in use; choose another one, or 0 for any free one"
                )
                raise SettingError(self._port_setting, problem) from error
            raise Unavailable("address", f"{self._host}:{self._wanted_port}", str(error)) from error
        self._runner = runner
        self.port = int(runner.addresses[0][1])

    async def close(self, code: int = 1001, reason: str = "") -> None:
        """Close all WebSockets with this code, then stop listening. Takes about `close_timeout_s` at most."""
        async with asyncio.TaskGroup() as closing:
            for connection in tuple(self._connections):
                closing.create_task(connection.close(code, reason), name="close-websocket")
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _http(self, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def serve(request: web.Request) -> web.StreamResponse:
            return _answer(await handler(_request(request, await self._body(request))))

        return serve

    async def _body(self, request: web.Request) -> bytes:
        if not request.body_exists:
            return b""
        try:
            async with asyncio.timeout(self._request_timeout_s):
                return await request.read()
        except TimeoutError:
            raise web.HTTPRequestTimeout from None

    async def _serve_websocket(self, route: _WebSocketRoute, request: web.Request) -> web.StreamResponse:
        seen = _request(request)
        if not origin_allowed(request.headers, route.origins):
            raise Refuse(403, b"this page's origin may not connect; MARKETFEED_ORIGINS=https://its.host lets it in\n")
        if route.accept is not None:
            await route.accept(seen)
        if request.headers.get("Upgrade", "").lower() != "websocket":
            raise Refuse(426, b"this is a WebSocket: connect with ws://, not http://\n", {"Upgrade": "websocket"})
        ws = web.WebSocketResponse(
            timeout=self._close_timeout_s,
            autoclose=False,
            compress=False,
            heartbeat=route.ping_interval_s,
            max_msg_size=route.message_bytes_max,
        )
        try:
            await ws.prepare(request)
        except ConnectionError:
            return web.Response(status=400)  # Gone before the handshake's answer: nobody will read this one either.
        transport = request.transport
        if transport is None:
            return ws
        connection = Connection(ws, transport, seen, self._close_timeout_s)
        self._connections.add(connection)
        try:
            await route.on_connect(connection, seen)
        except Exception:
            _log.exception("WebSocket handler failed")
            await connection.close(1011, "internal error")
        finally:
            self._connections.discard(connection)
            await connection.close(ws.close_code or 1000)
        return ws


class _StreamAnswer:
    """An answer that is sent in pieces."""

    def __init__(self, request: web.Request, write_timeout_s: float) -> None:
        self._request = request
        self._write_timeout_s = write_timeout_s
        self.sent = web.StreamResponse()

    async def begin(self, content_type: str, headers: Mapping[str, str]) -> Begun:
        """Send the head."""
        self.sent.headers.update({**_SECURITY_HEADERS, "Content-Type": content_type, **headers})
        await self.sent.prepare(self._request)
        return self._write

    async def end(self) -> web.StreamResponse:
        """Send the end."""
        await self._bounded(self.sent.write_eof())
        return self.sent

    async def _write(self, data: bytes) -> None:
        await self._bounded(self.sent.write(data))

    async def _bounded(self, writing: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(self._write_timeout_s):
                await writing
        except TimeoutError:
            if self._request.transport is not None:
                self._request.transport.abort()
            raise ConnectionAbortedError(errno.ECONNABORTED, "the client takes nothing") from None


@web.middleware
async def _answer_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refusals become their response; aiohttp's own ones (404, 405, 413) and our bugs become JSON with a code."""
    try:
        return await handler(request)
    except Refuse as refusal:
        return _answer(refusal.response)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        code = error.reason.lower().replace(" ", "_")
        return _error_answer(error.status, code, f"{request.method} {request.path}: {error.reason.lower()}")
    except ConnectionError:
        raise
    except Exception:
        _log.exception("request handler failed")
        return _error_answer(500, "internal", "the server made a mistake; it is in its log")


def _error_answer(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status, headers=_SECURITY_HEADERS)


def _answer(response: Response) -> web.Response:
    return web.Response(
        body=response.body,
        status=response.status,
        headers={**_SECURITY_HEADERS, "Content-Type": response.content_type, **response.headers},
    )


def _request(request: web.Request, body: bytes = b"") -> Request:
    return Request(request.method, request.path, dict(request.query), request.headers, request.remote or "", body)


def _plain_descriptor(transport: asyncio.Transport) -> int:
    """The descriptor of a transport's socket, for writing past it; -1 where bytes are not written as they are (TLS)."""
    sock = transport.get_extra_info("socket")
    if sock is None or transport.get_extra_info("sslcontext") is not None:
        return -1
    descriptor: int = sock.fileno()
    return descriptor


def _static_file(root: Path, path: str, no_index: tuple[str, ...]) -> web.StreamResponse:
    hashed = path.startswith("assets/")
    try:
        wanted = (root / path).resolve()
    except ValueError:  # a zero byte in the name
        raise web.HTTPNotFound from None
    if not wanted.is_relative_to(root) or not wanted.is_file():
        if path.startswith(no_index):
            raise web.HTTPNotFound
        wanted = root / "index.html"
    if not wanted.is_file():
        raise web.HTTPNotFound
    caching = _IMMUTABLE if hashed else _REVALIDATE
    return web.FileResponse(wanted, headers={**_SECURITY_HEADERS, "Cache-Control": caching})
