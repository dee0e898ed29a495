"""Finnhub's REST quote, asked for one thing: yesterday's close of a symbol that no stored day tells.

The standard library's client in a worker thread: a handful of requests a day do not deserve more. The key goes in a
header, never into a URL that somebody may log. Free plans allow 60 requests a minute, so there is a pause between two.
"""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.parse
import urllib.request

import msgspec

from marketfeed.domain.errors import SettingError, Unavailable

TIMEOUT_S = 5.0
PAUSE_S = 1.1
ANSWER_BYTES_MAX = 16_384


class _Quote(msgspec.Struct):
    # `pc`: previous close; Finnhub answers 0 for symbols it does not know.
    pc: float | None = None


class FinnhubRest:
    """Asks `url` (https://finnhub.io/api/v1 or whatever speaks like it)."""

    def __init__(self, url: str, api_key: str) -> None:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise SettingError("finnhub_rest_url", f"is {url!r}; it must begin with http:// or https://")
        self._url = url.rstrip("/")
        self._api_key = api_key
        self._next_s = 0.0

    async def previous_close(self, symbol: str) -> float | None:
        """Yesterday's close, None for a symbol that is not known there. Raises Unavailable."""
        await asyncio.sleep(max(0.0, self._next_s - time.monotonic()))
        self._next_s = time.monotonic() + PAUSE_S
        close = await asyncio.to_thread(self._ask, symbol)
        return close or None

    def _ask(self, symbol: str) -> float | None:
        query = urllib.parse.urlencode({"symbol": symbol})
        request = urllib.request.Request(f"{self._url}/quote?{query}", headers={"X-Finnhub-Token": self._api_key})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return msgspec.json.decode(answer.read(ANSWER_BYTES_MAX), type=_Quote).pc
        except (OSError, urllib.error.URLError, msgspec.DecodeError) as error:
            raise Unavailable("Finnhub's REST API", urllib.parse.urlsplit(self._url).netloc, str(error)) from error
