"""Health: /healthz (the event loop turns), /readyz (every part is ready), /metrics and /status, on a port of their own.

A part names itself with `ready(part, ok, why)`. /readyz answers 503 with the parts that are not ready and why, which
is also what a person reads first when something does not work.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from marketfeed.domain.errors import SettingError
from marketfeed.runtime import metrics
from marketfeed.runtime.settings import PORT_FILE

StatusSource = Callable[[], dict[str, Any]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Health:
    """The readiness of a service and the little HTTP server that shows it."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.status_source: StatusSource = dict
        self._parts: dict[str, tuple[bool, str]] = {}
        self._turned = asyncio.Event()
        self._routes: dict[tuple[str, str], Handler] = {
            ("GET", "/healthz"): self._healthz,
            ("GET", "/readyz"): self._readyz,
            ("GET", "/metrics"): self._metrics,
            ("GET", "/status"): self._status,
        }
        self._runner: web.AppRunner | None = None

    def ready(self, part: str, ok: bool, why: str = "") -> None:
        """Say that `part` is ready, or why it is not."""
        before = self.is_ready
        self._parts[part] = (ok, why)
        if self.is_ready != before:
            self._turned.set()

    async def turned(self) -> bool:
        """Wait until `is_ready` may be another than at the last call; what it is now. For one caller."""
        await self._turned.wait()
        self._turned.clear()
        return self.is_ready

    @property
    def is_ready(self) -> bool:
        """Whether there are parts and all of them are ready."""
        return bool(self._parts) and all(ok for ok, _ in self._parts.values())

    def waiting_for(self) -> dict[str, str]:
        """The parts that are not ready, with the reason."""
        return {part: why for part, (ok, why) in self._parts.items() if not ok}

    def add_route(self, method: str, path: str, handler: Handler) -> None:
        """One more page of the health server; may be added while it runs."""
        self._routes[method, path] = handler

    def add_json(self, path: str, source: Callable[[], Any]) -> None:
        """A page that answers GET with what `source` returns, as JSON."""

        async def answer(_: web.Request) -> web.Response:
            return _json(200, source())

        self.add_route("GET", path, answer)

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which also goes to the file that a supervisor named in the environment.

        Raises SettingError if the port is taken.
        """
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._dispatch)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise SettingError(
                "--http-port", f"{host}:{port} cannot be used ({error.strerror}); choose another"
            ) from error
        actual = int(self._runner.addresses[0][1])
        if path_text := os.environ.get(PORT_FILE):
            _write_whole(Path(path_text), str(actual))
        return actual

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        handler = self._routes.get((request.method, request.path))
        if handler is None:
            return _json(404, {"code": "not_found", "message": f"no such page; there are {sorted(self._pages())}"})
        return await handler(request)

    def _pages(self) -> set[str]:
        return {path for _, path in self._routes}

    async def _healthz(self, _: web.Request) -> web.Response:
        return _json(200, {"service": self.service, "ok": True})

    async def _readyz(self, _: web.Request) -> web.Response:
        waiting = self.waiting_for()
        return _json(200 if self.is_ready else 503, {"ready": self.is_ready, "waiting_for": waiting})

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def _status(self, _: web.Request) -> web.Response:
        parts = {part: ok for part, (ok, _) in self._parts.items()}
        body = {"service": self.service, "ready": self.is_ready, "parts": parts, "waiting_for": self.waiting_for()}
        return _json(200, {**body, **self.status_source()})


def _json(status: int, body: object) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json")


def _write_whole(path: Path, text: str) -> None:
    """Write a file that whoever waits for it never sees half written."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)
