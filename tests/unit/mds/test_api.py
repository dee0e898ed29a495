"""HTTP answers and refusals, without HTTP."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from marketfeed.domain.access import OPEN, granted
from marketfeed.domain.sessions import calendar
from marketfeed.mds import api as api_module
from marketfeed.mds.api import Api, refusal
from marketfeed.mds.history import Archive
from marketfeed.mds.hub import Hub
from marketfeed.mds.snapshot import Snapshots

T0 = 1_790_000_000


@pytest.fixture
def api(market: Any, store: Any, cache: Any) -> Api:
    archive = Archive(market.hub, Snapshots(market.hub, store, cache, "feed", 2), store, "feed")
    return Api(hub=market.hub, archive=archive, calendar=calendar("24x7"), feed="feed", version="1")


async def ask(api: Api, name: str, **query: object) -> tuple[int, Any]:
    status, body = await api.answer(getattr(api, name), {k.rstrip("_"): str(v) for k, v in query.items()}, OPEN)
    return status, json.loads(body)


async def test_bars_are_joined_filled_and_cut(api: Api, market: Any) -> None:
    """Defaults: the newest trade date up to the newest trade."""
    market.log.own("A")
    for second in (0, 1, 4, 7):
        market.log.trade("A", second, 10.0 + second)
    market.log.watermark(9)
    market.hub.tick()
    status, body = await ask(api, "bars", symbol="A")
    assert (status, body["bars"]["start"]) == (200, [T0, T0 + 1, T0 + 4, T0 + 7])
    assert (body["to"], body["next_from"], body["from"] % 86_400) == (T0 + 8, None, 0)
    _, body = await ask(api, "bars", symbol="A", from_=T0, to=T0 + 20, fill="prev")
    assert body["bars"]["start"] == list(range(T0, T0 + 9))
    assert body["bars"]["filled"] == [0, 0, 1, 1, 0, 1, 1, 0, 1]
    _, body = await ask(api, "bars", symbol="A", from_=T0, to=T0 + 20, fill="prev", limit=3)
    assert (body["bars"]["start"], body["next_from"]) == ([T0, T0 + 1, T0 + 2], T0 + 3)


async def test_symbols_and_quotes(api: Api, market: Any) -> None:
    """Symbols without a trade are listed without a price; their quote is a 404 that says so."""
    market.log.own("MSFT", "AAPL")
    market.log.trade("AAPL", 1, 5.5, size=0.25)
    market.hub.tick()
    _, body = await ask(api, "symbols")
    assert [(s["symbol"], s["price"], s["source"]) for s in body["symbols"]] == [
        ("AAPL", 5.5, "live"), ("MSFT", None, "live"),
    ]  # fmt: skip
    assert [s["symbol"] for s in (await ask(api, "symbols", q="ms"))[1]["symbols"]] == ["MSFT"]
    assert len((await ask(api, "symbols", limit=1))[1]["symbols"]) == 1
    status, quote = await ask(api, "quote", symbol="AAPL")
    assert (status, quote["price"], quote["size"], quote["previous_close"]) == (200, 5.5, 0.25, None)
    assert quote["stamps"]["event_ts"] == str((T0 + 1) * 10**9)
    status, body = await ask(api, "quote", symbol="MSFT")
    assert (status, body["error"]["code"]) == (404, "no_quote")


async def test_the_configuration_of_a_day(api: Api) -> None:
    """Sessions to shade; another calendar's day by its date."""
    status, body = await ask(api, "config", date="2026-09-21")
    assert (status, body["trade_date"], body["sessions"]) == (
        200, "2026-09-21", [{"session": "regular", **body["day"]}],
    )  # fmt: skip
    assert body["orders_url"] is None
    api = replace(api, orders_url="https://orders.example.com")
    assert (await ask(api, "config", date="2026-09-21"))[1]["orders_url"] == "https://orders.example.com"


@pytest.mark.parametrize(
    ("name", "query", "status", "code"),
    [
        ("bars", {}, 400, "bad_request"),
        ("bars", {"symbol": "NOPE"}, 404, "unknown_symbol"),
        ("bars", {"symbol": "A", "from": "-1"}, 400, "bad_request"),
        ("bars", {"symbol": "A", "from": "٣"}, 400, "bad_request"),
        ("bars", {"symbol": "A", "from": "9" * 40}, 400, "bad_request"),
        ("bars", {"symbol": "A", "from": "5", "to": "4"}, 400, "bad_request"),
        ("bars", {"symbol": "A", "fill": "next"}, 400, "bad_request"),
        ("symbols", {"limit": "0"}, 400, "bad_request"),
        ("config", {"date": "x"}, 400, "bad_request"),
    ],
)
async def test_refusals_have_a_status_a_code_and_a_sentence(
    api: Api, market: Any, name: str, query: dict[str, str], status: int, code: str
) -> None:
    """Never a crash, never an empty answer."""
    market.log.own("A")
    market.hub.tick()
    found, body = await api.answer(getattr(api, name), query, OPEN)
    error = json.loads(body)["error"]
    assert (found, error["code"]) == (status, code)
    assert len(error["message"]) > 10


async def test_roll_ups_need_postgresql_and_everything_needs_the_log(api: Api, market: Any, store: Any) -> None:
    """503 with what to do, in both cases."""
    market.log.own("A")
    market.hub.tick()
    store.away = True
    status, body = await ask(api, "bars", symbol="A", interval="1h")
    assert (status, body["error"]["code"]) == (503, "unavailable")
    waiting = Api(
        hub=Hub(50, 1000, lambda *_: None), archive=api.archive, calendar=api.calendar, feed="feed", version="1"
    )  # fmt: skip
    assert (await ask(waiting, "symbols"))[0] == 503
    assert refusal("unknown_symbol", "x")[0] == 404


async def test_one_sees_what_one_is_granted(api: Api, market: Any) -> None:
    """Symbols that a token does not grant are not listed; their prices, or another channel of others, are 403."""
    market.log.own("A", "B")
    market.log.trade("A", 1, 5.5)
    market.hub.tick()
    alice = granted("alice", {"symbols": ["A"], "channels": ["quotes"]})

    async def hers(name: str, **query: str) -> tuple[int, Any]:
        status, body = await api.answer(getattr(api, name), query, alice)
        return status, json.loads(body)

    assert [one["symbol"] for one in (await hers("symbols"))[1]["symbols"]] == ["A"]
    assert (await hers("quote", symbol="A"))[0] == (await hers("config"))[0] == 200
    for name, symbol in (("quote", "B"), ("quote", "NOPE"), ("bars", "A")):
        status, body = await hers(name, symbol=symbol)
        assert (status, body["error"]["code"]) == (403, "forbidden")
    assert refusal("auth_expired", "x")[0] == 401


async def test_a_long_answer_lets_others_have_their_turn(
    api: Api, market: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows become JSON a few at a time, with a turn of the loop in between; the answer is the same."""
    market.log.own("A")
    for second in range(10):
        market.log.trade("A", second, 10.0 + second)
    market.hub.tick()
    whole = await ask(api, "bars", symbol="A", fill="prev")
    monkeypatch.setattr(api_module, "ROWS_AT_ONCE", 2)
    turns = 0
    answered = asyncio.Event()

    async def others() -> None:
        nonlocal turns
        while not answered.is_set():
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(others())
        assert await ask(api, "bars", symbol="A", fill="prev") == whole
        answered.set()
    assert turns >= 5
