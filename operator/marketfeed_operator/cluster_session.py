"""How requests to the API server are signed and how kopf's watches are observed, for our client and for kopf's.

Both libraries use aiohttp sessions, and a session takes a middleware: it puts the token on each request, reads the
token file again after a 401, and notes what kopf tells nobody: when each watch last said anything, bookmarks included,
and that a collection was listed.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol

import aiohttp
from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse, hdrs

_RECHECK_S = 5.0


class Observer(Protocol):
    """Who wants to know what kopf's requests show."""

    def heard(self, plural: str) -> None:
        """A watch of this kind gave a sign of life."""

    def listed(self, path: str) -> None:
        """The API server has begun to answer a list of this collection, from its beginning."""

    def refused(self, request: str) -> None:
        """The API server forbade this request."""


class MountedFile:
    """A text that the kubelet mounts and replaces: a token well before it expires, the authority's certificates."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text = ""
        self._stamp: tuple[int, int] | None = None
        self._checked_at = 0.0

    def value(self) -> str:
        """The text; the file is looked at every few seconds."""
        now = time.monotonic()
        if self._text and now - self._checked_at < _RECHECK_S:
            return self._text
        return self.reread()

    def reread(self) -> str:
        """The text as the file has it now; the last known one while the file cannot be read."""
        self._checked_at = time.monotonic()
        try:
            # stat follows the link that the kubelet swaps.
            stat = os.stat(self._path)
            stamp = (stat.st_ino, stat.st_mtime_ns)
            if stamp != self._stamp:
                self._text, self._stamp = self._path.read_text().strip(), stamp
        except OSError:
            pass
        return self._text


def authorize(token: MountedFile | None) -> ClientMiddlewareType:
    """Sign each request with the mounted token; after a 401 read it again and, if it is another one, try once more."""

    async def middleware(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        if token is None:
            return await handler(request)
        used = token.value()
        request.headers[hdrs.AUTHORIZATION] = f"Bearer {used}"
        response = await handler(request)
        if response.status != 401 or token.reread() == used:
            return response
        response.release()
        request.headers[hdrs.AUTHORIZATION] = f"Bearer {token.value()}"
        return await handler(request)

    return middleware


def watch_session(
    context: ssl.SSLContext | None, headers: dict[str, str], token: MountedFile | None, observer: Observer
) -> aiohttp.ClientSession:
    """The session for kopf: signed, checked with `context`; what they show is told to `observer`."""
    connector = aiohttp.TCPConnector(limit=0, ssl=context if context is not None else True)
    return aiohttp.ClientSession(
        connector=connector, headers=headers, middlewares=[authorize(token), _observe(observer)]
    )


def _observe(observer: Observer) -> ClientMiddlewareType:
    async def middleware(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        response = await handler(request)
        path, query = request.url.path, request.url.query
        if response.status == 403:
            observer.refused(f"{request.method} {path}{' (watch)' if 'watch' in query else ''}")
        if response.status != 200:
            return response
        plural = path.rpartition("/")[2]
        if query.get("watch") == "true":
            observer.heard(plural)
            listened: Any = _Listened(response.content, lambda: observer.heard(plural))
            response.content = listened
        elif request.method == hdrs.METH_GET and "continue" not in query:
            observer.listed(path)
        return response

    return middleware


class _Listened:
    """A response's stream that says when something came; everything else is the stream's own."""

    def __init__(self, stream: aiohttp.StreamReader, heard: Callable[[], None]) -> None:
        self._stream = stream
        self._heard = heard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """The stream's chunks."""
        async for chunk in self._stream.iter_chunked(size):
            self._heard()
            yield chunk
