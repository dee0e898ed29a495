"""Who may ask over HTTP: origin, token, preflight."""

from __future__ import annotations

import json
from typing import Any

import pytest
from multidict import CIMultiDict

from marketfeed.adapters.tokens import TokenGate
from marketfeed.adapters.websocket_server import Request
from marketfeed.domain.access import SHARED, AccessDenied, Principal, Seats
from marketfeed.mds.api import Query
from marketfeed.mds.door import Door, Visit, cors_headers
from marketfeed.wire.websocket import ListedSymbol, SymbolList, encode

PAGE = "https://page.example"


class Echo:
    """In place of the API: says who asked."""

    async def answer(self, endpoint: Any, query: Query, principal: Principal) -> tuple[int, bytes]:
        return 200, encode(SymbolList(principal.subject, [ListedSymbol("A", None, None, "live")]))


def request(method: str = "GET", **headers: str) -> Request:
    named = CIMultiDict({"Host": "our.example", **{name.replace("_", "-"): value for name, value in headers.items()}})
    return Request(method, "/v1/symbols", {}, named, "127.0.0.1")


async def ask(door: Door, **headers: str) -> tuple[int, str, dict[str, str]]:
    """(status, the subject or the error's code, headers)."""
    answer = await door.guarded(Echo(), None)(request(**headers))  # type: ignore[arg-type]
    body = json.loads(answer.body)
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.status, body.get("feed") or body["error"]["code"], dict(answer.headers)


async def test_every_way_to_ask_without_a_right_has_a_status_and_a_code() -> None:
    """401 names the scheme, 403 does not; a page that is let in can read either."""
    closed = Door(TokenGate(client_token="secret"), (PAGE,))
    for headers, status, code in (
        ({}, 401, "auth_required"),
        ({"Authorization": "Bearer "}, 401, "auth_required"),
        ({"Authorization": "Bearer wrong"}, 401, "auth_failed"),
        ({"Authorization": "Basic c2VjcmV0"}, 401, "auth_malformed"),
        ({"Authorization": "Bearer secret", "Origin": "https://evil.example"}, 403, "forbidden_origin"),
        ({"Authorization": "Bearer secret", "Origin": "null"}, 403, "forbidden_origin"),
        ({"Authorization": "Bearer secret", "Origin": "http://["}, 403, "forbidden_origin"),
        ({"Authorization": "Bearer secret"}, 200, "client-token"),
        ({"Authorization": "bearer secret", "Origin": PAGE}, 200, "client-token"),
        ({"Authorization": "Bearer secret", "Origin": "https://our.example"}, 200, "client-token"),
    ):
        found, said, sent = await ask(closed, **headers)
        assert (found, said) == (status, code), headers
        assert ("WWW-Authenticate" in sent) == (status == 401)
        assert sent.get("Access-Control-Allow-Origin") == (PAGE if headers.get("Origin") == PAGE else None)
    _, _, sent = await ask(closed, Origin=PAGE)
    assert sent["Access-Control-Allow-Origin"] == PAGE


async def test_an_open_server_asks_for_no_token_and_still_for_the_origin() -> None:
    """What a browser sends along does not count."""
    door = Door(TokenGate(open=True), ())
    assert (await ask(door, Authorization="Basic x"))[:2] == (200, "anonymous")
    assert (await ask(door, Origin=PAGE))[:2] == (403, "forbidden_origin")
    assert (await ask(Door(TokenGate(open=True), ("*",)), Origin=PAGE))[:2] == (200, "anonymous")


async def test_a_preflight_is_answered_without_a_token() -> None:
    """For pages that are let in, with the header they ask for; for others it is a refusal."""
    closed = TokenGate(client_token="secret")
    asked = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "authorization"}
    answer = await Door(closed, (PAGE,)).preflight(request("OPTIONS", Origin=PAGE, **asked))
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert answer.headers["Access-Control-Allow-Headers"] == "Authorization"
    assert answer.headers["Access-Control-Allow-Methods"] == "GET, HEAD"
    refused = await Door(closed, (PAGE,)).preflight(request("OPTIONS", Origin="https://evil.example", **asked))
    assert refused.status == 403
    assert "Access-Control-Allow-Headers" not in refused.headers
    for everybody in (("*",), ()):
        answer = await Door(closed, everybody).preflight(request("OPTIONS", Origin="https://our.example", **asked))
        assert (answer.status, "Access-Control-Allow-Headers" in answer.headers) == (204, everybody == ("*",))


def test_pages_of_listed_origins_may_read_the_http_answers() -> None:
    """The setting that lets a page open the stream lets it read the bars, too; without it no page of others may."""
    assert cors_headers("https://a", ()) == {}
    assert cors_headers("https://a", ("*",)) == {"Access-Control-Allow-Origin": "*"}
    listed = ("https://a", "http://localhost:5173")
    assert cors_headers("https://a", listed) == {"Vary": "Origin", "Access-Control-Allow-Origin": "https://a"}
    assert cors_headers("https://b", listed) == cors_headers(None, listed) == {"Vary": "Origin"}


def test_a_visit_takes_one_seat_however_often_a_token_is_shown() -> None:
    """And gives it back once."""
    seats = Seats(1)
    gate = TokenGate(client_token="secret")
    first, second = Visit(gate, seats), Visit(gate, seats)
    with pytest.raises(AccessDenied):
        first.admit("wrong")
    assert first.admit("secret").principal is first.admit("secret").principal is SHARED
    with pytest.raises(AccessDenied, match="has 1 connections"):
        second.admit("secret")
    second.leave()
    first.leave()
    first.leave()
    assert seats.taken("client-token") == 0
    assert second.admit("secret").left_s is None
