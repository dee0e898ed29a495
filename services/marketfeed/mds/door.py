"""Who may come in over HTTP and WebSocket: pages by their origin, everybody by a token.

`GET /v1/*` takes the token as `Authorization: Bearer …`, `/v1/stream` as its first message. A browser asks by a
preflight whether a page may send that header; it is answered without a token, as it has none (fetch.spec.whatwg.org).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from marketfeed.adapters.websocket_server import Request, Response
from marketfeed.domain.access import OPEN, AccessDenied, Gate, Principal, Seats
from marketfeed.domain.client_session import Admission
from marketfeed.mds.api import Api, Query, refusal
from marketfeed.wire.http_access import bearer_token, challenge, cors_headers, preflight_headers, see_origin

Endpoint = Callable[[Query, Principal], Awaitable[msgspec.Struct]]
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Door:
    """The gate, and the origins of other pages that may use what is behind it (`*` for all)."""

    gate: Gate
    origins: tuple[str, ...]

    def guarded(self, api: Api, endpoint: Endpoint) -> Handler:
        """A handler that asks for origin and token before the endpoint is asked."""

        async def handle(request: Request) -> Response:
            try:
                see_origin(request.headers, self.origins)
                principal = self._principal(request)
            except AccessDenied as denied:
                return self._answer(request, *refusal(denied.code, denied.message), challenge(denied))
            return self._answer(request, *await api.answer(endpoint, request.query, principal))

        return handle

    async def preflight(self, request: Request) -> Response:
        """Whether the page may send its token along."""
        try:
            see_origin(request.headers, self.origins)
        except AccessDenied as denied:
            return self._answer(request, *refusal(denied.code, denied.message))
        asked = preflight_headers(request.headers.get("Origin"), self.origins, "GET, HEAD", "Authorization")
        return Response(b"", status=204, headers=asked)

    def _principal(self, request: Request) -> Principal:
        return OPEN if self.gate.open else self.gate.admit(bearer_token(request.headers))

    def _answer(self, request: Request, status: int, body: bytes, more: dict[str, str] | None = None) -> Response:
        cors = cors_headers(request.headers.get("Origin"), self.origins)
        return Response(body, status=status, headers={"Cache-Control": "no-store", **cors, **(more or {})})


class Visit:
    """One connection's way through the gate: its first token takes a seat, later ones only renew."""

    def __init__(self, gate: Gate, seats: Seats) -> None:
        self._gate = gate
        self._seats = seats
        self._seated: Principal | None = None

    def admit(self, token: str) -> Admission:
        """Who shows this token. Raises AccessDenied."""
        principal = self._gate.admit(token)
        if self._seated is None:
            self._seats.take(principal)
            self._seated = principal
        return Admission(principal, principal.left_s(time.time(), self._gate.leeway_s))

    def leave(self) -> None:
        """The connection is gone."""
        if self._seated is not None:
            self._seats.leave(self._seated)
            self._seated = None
