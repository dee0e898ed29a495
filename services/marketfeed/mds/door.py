"""Who may come in over HTTP and WebSocket: pages by their origin, everybody by a token.

`GET /v1/*` takes the token as `Authorization: Bearer …`, `/v1/stream` as its first message. A browser asks by a
preflight whether a page may send that header; it is answered without a token, as it has none (fetch.spec.whatwg.org).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from marketfeed.adapters.websocket_server import Request, Response, origin_allowed
from marketfeed.domain.access import OPEN, AccessDenied, Denial, Gate, Principal, Seats
from marketfeed.domain.client_session import Admission
from marketfeed.mds.api import Api, Query, refusal

PREFLIGHT_S = 600

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
                self._see_origin(request)
                principal = self._principal(request)
            except AccessDenied as denied:
                return self._answer(request, *refusal(denied.code, denied.message), _challenge(denied))
            return self._answer(request, *await api.answer(endpoint, request.query, principal))

        return handle

    async def preflight(self, request: Request) -> Response:
        """Whether the page may send its token along."""
        try:
            self._see_origin(request)
        except AccessDenied as denied:
            return self._answer(request, *refusal(denied.code, denied.message))
        asked = {
            "Access-Control-Allow-Methods": "GET, HEAD",
            "Access-Control-Allow-Headers": "Authorization",
            "Access-Control-Max-Age": str(PREFLIGHT_S),
        }
        cors = cors_headers(request.headers.get("Origin"), self.origins)
        return Response(b"", status=204, headers={**cors, **(asked if "Access-Control-Allow-Origin" in cors else {})})

    def _see_origin(self, request: Request) -> None:
        allowed = None if "*" in self.origins else frozenset(self.origins)
        if not origin_allowed(request.headers, allowed):
            message = "this page's origin may not ask; MARKETFEED_ORIGINS=https://its.host lets it in"
            raise AccessDenied(Denial.FORBIDDEN_ORIGIN, message)

    def _principal(self, request: Request) -> Principal:
        if self.gate.open:
            return OPEN
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme and scheme.lower() != "bearer":
            raise AccessDenied(Denial.MALFORMED, "Authorization must be: Bearer, a space, the token")
        return self.gate.admit(token.strip() or None)

    def _answer(self, request: Request, status: int, body: bytes, more: dict[str, str] | None = None) -> Response:
        cors = cors_headers(request.headers.get("Origin"), self.origins)
        return Response(body, status=status, headers={"Cache-Control": "no-store", **cors, **(more or {})})


def _challenge(denied: AccessDenied) -> dict[str, str]:
    """What goes with a 401 (RFC 6750, 3)."""
    if denied.denial in (Denial.FORBIDDEN, Denial.FORBIDDEN_ORIGIN):
        return {}
    if denied.denial is Denial.REQUIRED:
        return {"WWW-Authenticate": "Bearer"}
    return {"WWW-Authenticate": f'Bearer error="invalid_token", error_description="{denied.message}"'}


def cors_headers(origin: str | None, origins: tuple[str, ...]) -> dict[str, str]:
    """What lets a page of another origin read an answer, if it is one of `origins` (fetch.spec.whatwg.org, CORS)."""
    if not origins:
        return {}
    if "*" in origins:
        return {"Access-Control-Allow-Origin": "*"}
    allowed = {"Access-Control-Allow-Origin": origin} if origin is not None and origin in origins else {}
    return {"Vary": "Origin", **allowed}


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
