"""Small HTTP requests to our own services: their /status, the generator's commands, the public JSON answers."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from marketfeed.domain.errors import Unavailable


class HttpClient:
    """Asks for JSON with a deadline; an async context that keeps connections open between requests."""

    def __init__(self, timeout_s: float = 2.0) -> None:
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, url: str) -> Any:
        """The JSON value at `url`. Raises Unavailable without an answer, for an error status or for no JSON."""
        return _json(url, await self.request("GET", url))

    async def post(self, url: str, body: object = None) -> Any:
        """The JSON answer to a POST of `body` as JSON, None for an empty one. Raises Unavailable as `get`."""
        answer = await self.request("POST", url, msgspec.json.encode(body))
        return _json(url, answer) if answer else None

    async def request(self, method: str, url: str, body: bytes | None = None) -> bytes:
        """The body of the answer. Raises Unavailable without an answer in time or for an error status."""
        assert self._session is not None, "used outside its context"
        try:
            async with asyncio.timeout(self._timeout_s), self._session.request(method, url, data=body) as answer:
                data = await answer.read()
                if answer.status >= 400:
                    raise Unavailable(
                        "the service", url, f"HTTP {answer.status}: {data[:200].decode(errors='replace')}"
                    )
                return data
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable("the service", url, str(error) or "no answer in time") from error


def _json(url: str, data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise Unavailable("the service", url, f"no JSON: {error}") from error
