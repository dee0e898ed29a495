"""An HTTP proxy before a real API server that answers chosen requests itself: 429, 410, 500 and the like."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web


@dataclass(slots=True)
class Fault:
    """Answer `times` requests that match with `status` (and Retry-After) in place of the API server."""

    matches: Callable[[web.Request], bool]
    status: int
    times: int
    headers: dict[str, str] = field(default_factory=dict)
    hits: list[float] = field(default_factory=list)


class ApiFaults:
    """Forwards everything, watches included, with `token`; `faults` are tried in order. With `tls` it speaks that."""

    def __init__(self, server: str, ca: str, token: str, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._server = server
        self._context = ssl.create_default_context(cafile=ca)
        self._headers = {"Authorization": f"Bearer {token}"}
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        """What a kubeconfig names as its server."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._runner is not None
        return int(self._runner.addresses[0][1])

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        connector = aiohttp.TCPConnector(ssl=self._context, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        assert self._session is not None
        await self._session.close()
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        for fault in self.faults:
            if len(fault.hits) < fault.times and fault.matches(request):
                fault.hits.append(asyncio.get_running_loop().time())
                body = {
                    "kind": "Status",
                    "apiVersion": "v1",
                    "status": "Failure",
                    "code": fault.status,
                    "message": "test",
                }
                return web.Response(
                    status=fault.status, text=json.dumps(body), headers=fault.headers, content_type="application/json"
                )
        return await self._forward(request)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        headers = {name: request.headers[name] for name in ("Accept", "Content-Type") if name in request.headers}
        url = f"{self._server}{request.raw_path}"
        try:
            async with self._session.request(
                request.method, aiohttp.client.URL(url, encoded=True), data=await request.read() or None,
                headers=headers | self._headers,
            ) as upstream:  # fmt: skip
                response = web.StreamResponse(status=upstream.status)
                response.content_type = upstream.content_type
                await response.prepare(request)
                async for chunk in upstream.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        except aiohttp.ClientConnectionError:
            return web.Response(status=502)
