"""Yesterday's close by REST, from a real HTTP server that speaks like Finnhub's."""

from __future__ import annotations

import pytest

from marketfeed.adapters import finnhub_rest
from marketfeed.adapters.finnhub_rest import FinnhubRest
from marketfeed.adapters.websocket_server import HttpServer, Request, Response
from marketfeed.domain.errors import SettingError, Unavailable


async def test_the_key_is_in_a_header_and_zero_means_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known, unknown, refused, nonsense and nobody there."""
    monkeypatch.setattr(finnhub_rest, "PAUSE_S", 0.0)
    seen: list[Request] = []

    async def quote(request: Request) -> Response:
        seen.append(request)
        answers = {"AAPL": (200, b'{"c":5,"pc":4.5}'), "NONE": (200, b'{"pc":0}'), "SLOW": (429, b"{}")}
        status, body = answers.get(request.query["symbol"], (200, b"<html>"))
        return Response(body, status=status)

    server = HttpServer("127.0.0.1", 0)
    server.get("/api/v1/quote", quote)
    await server.start()
    rest = FinnhubRest(f"http://127.0.0.1:{server.port}/api/v1/", "key")
    try:
        assert await rest.previous_close("AAPL") == 4.5
        assert await rest.previous_close("NONE") is None
        for symbol in ("SLOW", "ODD"):
            with pytest.raises(Unavailable):
                await rest.previous_close(symbol)
    finally:
        await server.close()
    with pytest.raises(Unavailable):
        await rest.previous_close("AAPL")
    assert seen[0].headers["X-Finnhub-Token"] == "key"
    assert "key" not in str(seen[0].query)


def test_another_kind_of_url_is_refused() -> None:
    """A file is no server."""
    with pytest.raises(SettingError, match="http"):
        FinnhubRest("file:///etc/passwd", "key")
