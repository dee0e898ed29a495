"""From the demo's settings to the services' variables."""

from dataclasses import replace
from pathlib import Path

import pytest

from marketfeed.adapters.tokens import gate_of
from marketfeed.domain.errors import SettingError
from marketfeed.local.run_plan import RunPlan, retention_gb, service_programs
from marketfeed.local.settings import DemoSettings
from marketfeed.local.stack import Addresses, existing
from marketfeed.mds.settings import MdsSettings
from marketfeed.runtime.settings import parse_duration

ADDRESSES = Addresses("127.0.0.1:9", "redis://127.0.0.1:1/0", "postgresql://127.0.0.1:2/x")
PLAN = RunPlan(
    feed="runx",
    duration_s=None,
    symbols=("AAPL", "MSFT"),
    universe=50,
    feed_port=7001,
    public_port=7002,
    grpc_port=0,
    retention_gb=2.0,
)


@pytest.mark.parametrize(
    ("text", "seconds"), [("", None), ("90", 90.0), ("30s", 30.0), ("2m", 120.0), ("1.5h", 5400.0)]
)
def test_durations(text: str, seconds: float | None) -> None:
    """Seconds, minutes and hours, with seconds as the unit of a bare number."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["0s", "-1s", "soon", "1d", "s"])
def test_wrong_durations_say_what_to_write(text: str) -> None:
    """One sentence with an example."""
    with pytest.raises(SettingError, match="write a time such as 30s"):
        parse_duration(text)


def test_retention_covers_a_run_of_known_length() -> None:
    """A run that is verified keeps all of its log; a demo without end keeps the usual amount."""
    assert retention_gb(200_000, None) == retention_gb(100, 60) == 2.0
    assert retention_gb(200_000, 120) > 200_000 * 120 * 40 / 1e9


def test_each_shard_has_a_key_and_a_share() -> None:
    """No key is used twice, and what the user set for all services goes to all."""
    settings = DemoSettings.load({"shards": 2, "fault": "triple,disconnect@5"}, env={})
    env = {"MARKETFEED_LOG_LEVEL": "debug"}
    programs = {p.name: p for p in service_programs(settings, PLAN, ADDRESSES, Path("/s"), Path("/ui"), env)}
    assert list(programs) == ["generator", "ingest-0", "ingest-1", "recorder", "mds"]
    shards = [programs[f"ingest-{i}"].env for i in range(2)]
    assert [shard["MARKETFEED_SHARD"] for shard in shards] == ["0/2", "1/2"]
    assert len({shard["MARKETFEED_FINNHUB_API_KEY"] for shard in shards}) == 2
    assert programs["generator"].env["MARKETFEED_FAULT"] == "triple,disconnect@5"
    for program in programs.values():
        assert program.env["MARKETFEED_FEED"] == "runx"
        assert program.env["MARKETFEED_KAFKA"] == "127.0.0.1:9"
        assert program.env["MARKETFEED_LOG_LEVEL"] == "debug"
        assert program.env["MARKETFEED_HTTP_PORT"] == "0"


def test_orders_are_taken_on_request() -> None:
    """They get their market data from this demo's mds."""
    plan = replace(PLAN, grpc_port=7003, orders_port=7004)
    orders = service_programs(DemoSettings.load({}, env={}), plan, ADDRESSES, Path("/s"), None, {})[-1]
    assert (orders.name, orders.module) == ("orders", "orders")
    assert orders.env["MARKETFEED_MARKET_DATA"] == "127.0.0.1:7003"
    assert orders.env["MARKETFEED_ORDERS_PORT"] == "7004"


def test_the_page_is_told_where_orders_are_and_may_place_them() -> None:
    """By both names that this machine has in an address; without orders nothing is told."""
    plan = replace(PLAN, public_port=7001, grpc_port=7003, orders_port=7004, orders_http_port=7005)
    settings = DemoSettings.load({}, env={})
    programs = {p.name: p for p in service_programs(settings, plan, ADDRESSES, Path("/s"), None, {})}
    assert programs["mds"].env["MARKETFEED_ORDERS_URL"] == "http://127.0.0.1:7005"
    assert programs["orders"].env["MARKETFEED_ORDERS_HTTP_PORT"] == "7005"
    assert programs["orders"].env["MARKETFEED_ORIGINS"] == "http://127.0.0.1:7001,http://localhost:7001"
    without = {p.name: p for p in service_programs(settings, PLAN, ADDRESSES, Path("/s"), None, {})}
    assert "MARKETFEED_ORDERS_URL" not in without["mds"].env


def test_the_demo_is_open_unless_its_user_gave_a_token() -> None:
    """mds serves nobody by default, so the demo says that it is open; a token of the user is asked for instead."""
    settings = DemoSettings.load({}, env={})
    for env, open_ in (({}, "yes"), ({"MARKETFEED_CLIENT_TOKEN": "t"}, "no"), ({"MARKETFEED_CLIENT_TOKEN": ""}, "yes")):
        programs = {p.name: p for p in service_programs(settings, PLAN, ADDRESSES, Path("/s"), None, env)}
        assert programs["mds"].env["MARKETFEED_OPEN"] == open_
        gate_of(MdsSettings.load(env=programs["mds"].env))


def test_a_real_feed_has_no_generator() -> None:
    """With another source its address and key go to ingest."""
    settings = DemoSettings.load({"source": "finnhub", "finnhub_api_key": "k", "finnhub_url": "wss://x"}, env={})
    programs = service_programs(settings, PLAN, ADDRESSES, Path("/s"), None, {})
    assert [program.name for program in programs] == ["ingest", "recorder", "mds"]
    assert programs[0].env["MARKETFEED_FINNHUB_URL"] == "wss://x"
    assert programs[0].env["MARKETFEED_FINNHUB_API_KEY"] == "k"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({"source": "finnhub"}, "https://finnhub.io/api/v1"),
        ({"source": "finnhub", "finnhub_url": "wss://other.example"}, None),
        ({"source": "finnhub", "finnhub_url": "wss://x", "finnhub_rest_url": "https://x/api"}, "https://x/api"),
        ({}, None),
    ],
)
def test_previous_closes_are_asked_for_where_the_key_belongs(given: dict[str, str], url: str | None) -> None:
    """With a key for Finnhub mds asks its REST quote; another server gets the key only if it is named."""
    settings = DemoSettings.load({"finnhub_api_key": "k", **given}, env={})
    mds = service_programs(settings, PLAN, ADDRESSES, Path("/s"), None, {})[-1].env
    assert mds.get("MARKETFEED_FINNHUB_REST_URL") == url
    assert mds.get("MARKETFEED_FINNHUB_API_KEY") == ("k" if url else None)


def test_existing_servers_are_all_given_or_none() -> None:
    """Three addresses switch to existing servers; some of them are a mistake that is told."""
    assert existing({}) is None
    assert existing(ADDRESSES.env()) == ADDRESSES
    with pytest.raises(SettingError, match="MARKETFEED_POSTGRES: set it too"):
        existing({"MARKETFEED_KAFKA": "a", "MARKETFEED_REDIS": "b"})
