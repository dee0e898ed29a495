"""The calls of the order service for browsers, by the Connect protocol (`wire/connect.py`) over HTTP.

The same calls as gRPC's, behind the same gate and seats: a page of another origin must be allowed, the token comes as
`Authorization: Bearer …`, the method must be granted, and a stream ends when its principal's token does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from google.protobuf.message import Message

from marketfeed.adapters.grpc_server import Call, Caller, call_refused
from marketfeed.adapters.websocket_server import Begin, HttpServer, Request, Response, StreamHandler
from marketfeed.domain.access import OPEN, AccessDenied, Denial, Gate, Principal, Seats
from marketfeed.domain.errors import CallRefused, Unavailable
from marketfeed.wire.connect import (
    STREAM_TYPES,
    UNARY_TYPES,
    Codec,
    ConnectError,
    check_headers,
    codec_of,
    end_of_stream,
    timeout_s,
)
from marketfeed.wire.http_access import bearer_token, challenge, cors_headers, preflight_headers, see_origin

_log = logging.getLogger("marketfeed.connect")

REQUEST_HEADERS = "Authorization, Content-Type, Connect-Protocol-Version, Connect-Timeout-Ms"
_JSON = "application/json"
_NO_STORE = {"Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectDoor:
    """What each call passes.

    origins     pages of other origins that may call; `*` for all
    on_call     hears the method of each call served
    on_denied   hears the code of each call that was refused for want of a right
    write_timeout_s  a client that takes nothing of a stream for so long is cut
    """

    gate: Gate
    seats: Seats
    origins: tuple[str, ...]
    on_call: Callable[[str], None]
    on_denied: Callable[[str], None]
    write_timeout_s: float = 10.0

    def serve(self, http: HttpServer, service: str, calls: Mapping[str, Call]) -> None:
        """Answer the methods of a service, by name; before the server starts."""
        for name, call in calls.items():
            path = f"/{service}/{name}"
            handler = _unary(self, path, call) if call.unary is not None else _streaming(self, path, call)
            http.post_stream(path, handler, write_timeout_s=self.write_timeout_s)
            http.options(path, self._preflight)

    def caller(self, request: Request) -> Caller:
        """Who calls. Raises AccessDenied."""
        principal = OPEN if self.gate.open else self.gate.admit(bearer_token(request.headers))
        if not principal.may_call(request.path):
            raise AccessDenied(Denial.FORBIDDEN, f"{principal.subject} may not call {request.path}")
        metadata = {name.lower(): value for name, value in request.headers.items()}
        return Caller(principal, metadata, request.remote)

    def left_s(self, principal: Principal) -> float | None:
        """How long the principal may stay, None for ever."""
        return principal.left_s(time.time(), self.gate.leeway_s)

    def answer(self, request: Request, body: bytes, content_type: str) -> Response:
        """A whole answer that succeeds."""
        return Response(body, content_type=content_type, headers=self.headers(request))

    def refuse(self, request: Request, error: ConnectError, denied: AccessDenied | None = None) -> Response:
        """A whole answer that says why not."""
        more = challenge(denied) if denied is not None else {}
        headers = {**self.headers(request), **more}
        return Response(error.body(), status=error.http_status, content_type=_JSON, headers=headers)

    def headers(self, request: Request) -> dict[str, str]:
        """What every answer carries."""
        return {**_NO_STORE, **cors_headers(request.headers.get("Origin"), self.origins)}

    async def _preflight(self, request: Request) -> Response:
        try:
            see_origin(request.headers, self.origins)
        except AccessDenied as denied:
            return self.refuse(request, self.denied(denied))
        asked = preflight_headers(request.headers.get("Origin"), self.origins, "POST", REQUEST_HEADERS)
        return Response(b"", status=204, headers=asked)

    def denied(self, denied: AccessDenied) -> ConnectError:
        """A denial, counted."""
        self.on_denied(denied.code)
        if denied.denial is Denial.FORBIDDEN_ORIGIN:
            return ConnectError("permission_denied", denied.message, denied.code.upper())
        return ConnectError.of_refused(call_refused(denied))


def _unary(door: ConnectDoor, path: str, call: Call) -> StreamHandler:
    answering = call.unary
    assert answering is not None

    async def handle(request: Request, _: Begin) -> Response | None:
        entered = _enter(door, request, UNARY_TYPES)
        if isinstance(entered, Response):
            return entered
        caller, codec, left_s = entered
        door.on_call(path)
        try:
            async with asyncio.timeout(left_s) as until:
                found = _message(await answering(codec.read(request.body, call.request), caller))
            return door.answer(request, codec.write(found), codec.content_type)
        except Exception as error:
            return door.refuse(request, _error_of(error, expired=until.expired()))

    return handle


def _streaming(door: ConnectDoor, path: str, call: Call) -> StreamHandler:
    answering = call.stream
    assert answering is not None

    async def handle(request: Request, begin: Begin) -> Response | None:
        entered = _enter(door, request, STREAM_TYPES)
        if isinstance(entered, Response):
            return entered
        caller, codec, left_s = entered
        door.on_call(path)
        send = await begin(codec.content_type, door.headers(request))
        try:
            messages = cast(AsyncGenerator[Any, None], answering(codec.read(request.body, call.request), caller))
            await _send_all(door, caller.principal, messages, codec, send, left_s)
        except ConnectionError:
            raise  # there is nobody to tell
        except AccessDenied as denied:
            await send(door.denied(denied).end())
        except Exception as error:
            await send(_error_of(error, expired=False).end())
        else:
            await send(end_of_stream())
        return None

    return handle


async def _send_all(
    door: ConnectDoor,
    principal: Principal,
    messages: AsyncGenerator[Any, None],
    codec: Codec,
    send: Callable[[bytes], Any],
    deadline_s: float | None,
) -> None:
    """Send a stream as long as the client waits and its principal may stay. Raises AccessDenied, ConnectError."""
    token_s = door.left_s(principal)
    left_s = min((limit for limit in (deadline_s, token_s) if limit is not None), default=None)
    door.seats.take(principal)
    try:
        async with asyncio.timeout(left_s) as until:
            async with aclosing(messages):
                async for message in messages:
                    await send(codec.write(_message(message)))
    except TimeoutError:
        if not until.expired():
            raise
        if left_s == deadline_s:
            raise _DEADLINE from None
        raise AccessDenied(Denial.EXPIRED, "the token has expired; call again with another") from None
    finally:
        door.seats.leave(principal)


def _enter(
    door: ConnectDoor, request: Request, types: tuple[str, ...]
) -> Response | tuple[Caller, Codec, float | None]:
    """Who calls, in which codec, and how long they wait; or the answer that says why not."""
    try:
        see_origin(request.headers, door.origins)
        caller = door.caller(request)
        check_headers(request.headers)
        left_s = timeout_s(request.headers)
    except AccessDenied as denied:
        return door.refuse(request, door.denied(denied), denied)
    except ConnectError as error:
        return door.refuse(request, error)
    codec = codec_of(request.headers.get("Content-Type", ""), types)
    if codec is None:
        refused = ConnectError("unknown", f"Content-Type must be one of {', '.join(types)}", "CONTENT_TYPE")
        headers = {**door.headers(request), "Accept-Post": ", ".join(types)}
        return Response(refused.body(), status=415, content_type=_JSON, headers=headers)
    return caller, codec, left_s


_DEADLINE = ConnectError("deadline_exceeded", "it took longer than the client waits", "DEADLINE")


def _error_of(error: Exception, *, expired: bool) -> ConnectError:
    """What the client is told: the reason if the error was expected, else that it was a mistake of ours."""
    if isinstance(error, ConnectError):
        return error
    if isinstance(error, CallRefused):
        return ConnectError.of_refused(error)
    if isinstance(error, Unavailable):
        return ConnectError("unavailable", f"{error.what} is away; try again", "UNAVAILABLE")
    if isinstance(error, TimeoutError) and expired:
        return _DEADLINE
    _log.error("a call failed", exc_info=error)
    return ConnectError("internal", "the server made a mistake; it is in its log")


def _message(answer: Message | bytes) -> Message:
    """Answers that are bytes already have no type here, so that no JSON could be made of them."""
    if isinstance(answer, bytes):
        raise TypeError("a call that answers in bytes cannot be served by Connect")
    return answer
