"""Finnhub's source, with a generator in its place that knows two API keys and is as strict with them as the vendor."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.e2e.cluster.feeds import FEED_PORT, HEALTH_PORT, Feed, manifest, secret_key, tool_pod
from tests.e2e.cluster.kube import Cluster, Object, condition

pytestmark = [pytest.mark.level(2), pytest.mark.timeout(400)]

EXCHANGE = "exchange"
SYMBOLS_A_KEY = 10
# Names that the generator knows, the busiest first.
SYMBOLS = [
    "AAPL", "MSFT", "NVDA", "TSLA", "AMZN", "GOOGL", "META", "AMD", "AVGO", "NFLX", "JPM", "BAC",
    "BINANCE:BTCUSDT", "BINANCE:ETHUSDT", "INTC", "DIS",
]  # fmt: skip
MORE = ["KO", "PEP", "COST", "WMT", "CSCO", "ORCL"]


@dataclass(frozen=True)
class Keys:
    """The API keys in the Secret `finnhub`, by their names there."""

    first: str
    second: str


@pytest.fixture(scope="module")
def keys(installation: Cluster) -> Iterator[Keys]:
    """Two keys of this run, in a Secret."""
    made = Keys(f"c{secrets.token_hex(10)}", f"c{secrets.token_hex(10)}")
    installation.apply(
        {
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "finnhub"},
            "stringData": {"first": made.first, "second": made.second, "both": f"{made.first},{made.second}"},
        }
    )  # fmt: skip
    yield made
    installation.kubectl("delete", "secret", "finnhub")


@pytest.fixture(scope="module")
def exchange(installation: Cluster, keys: Keys) -> Iterator[str]:
    """A generator that belongs to no feed, ready; the name of its Service."""
    arguments = [
        "generator", "--rate", "2000", "--symbols", "50", "--seed", "11", "--feed-host", "0.0.0.0",
        "--feed-port", str(FEED_PORT), "--symbols-max", str(SYMBOLS_A_KEY),
    ]  # fmt: skip
    pod = tool_pod(
        EXCHANGE, "nobody", arguments, [{"name": "MARKETFEED_TOKENS", "valueFrom": secret_key("finnhub", "both")}]
    )
    pod["metadata"]["labels"] = {"app": EXCHANGE}
    probe = {"httpGet": {"path": "/readyz", "port": HEALTH_PORT}, "periodSeconds": 1}
    pod["spec"]["containers"][0] |= {"readinessProbe": probe}
    ports = [{"name": "feed", "port": FEED_PORT}]
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": EXCHANGE},
        "spec": {"selector": {"app": EXCHANGE}, "ports": ports},
    }  # fmt: skip
    installation.apply(pod, service)
    installation.kubectl("wait", "--for=condition=Ready", f"pod/{EXCHANGE}", "--timeout=60s", timeout_s=70)
    yield EXCHANGE
    installation.kubectl("delete", f"pod/{EXCHANGE}", f"service/{EXCHANGE}", "--wait=false")


@pytest.fixture(scope="module")
def feed(installation: Cluster, exchange: str, keys: Keys) -> Iterator[Feed]:
    """Two shards with a key each, which together take 20 symbols; 16 are asked for."""
    finnhub = {
        "url": f"ws://{exchange}:{FEED_PORT}",
        "apiKeys": [{"name": "finnhub", "key": "first"}, {"name": "finnhub", "key": "second"}],
        "symbolsPerKey": SYMBOLS_A_KEY,
    }
    resource = manifest("us", source={"finnhub": finnhub}, shards=2)
    resource["spec"]["symbols"] = SYMBOLS
    installation.apply(resource)
    found = Feed(installation, "us", exchange)
    print(f"\nReady after {found.ready_within(120):.1f} s")
    yield found
    installation.kubectl("delete", "marketfeed", "us", "--ignore-not-found")


def key_of(pod: Object) -> str:
    """The key of the Secret that a pod gets its API key from."""
    variables = {one["name"]: one for one in pod["spec"]["containers"][0]["env"]}
    name: str = variables["MARKETFEED_FINNHUB_API_KEY"]["valueFrom"]["secretKeyRef"]["key"]
    return name


def connections(feed: Feed) -> list[Object]:
    """What the exchange says of the connections that are open."""
    return [one for one in feed.told_by_generator()["connections"] if one["closed_ns"] == "0"]


def test_each_pod_has_a_key_of_its_own(feed: Feed) -> None:
    """Two pods, two keys, two connections that the exchange lets stand, and all symbols served between them."""
    feed.cluster.until("the feed is settled", feed.settled, 60)
    assert sorted(key_of(pod) for pod in feed.pods("ingest")) == ["first", "second"]
    open_now = connections(feed)
    live = {shard: status["symbols"]["live"] for shard, status in feed.live_shards().items()}
    print(f"\nconnections with {[one['symbols'] for one in open_now]} symbols; live by shard: {live}")
    assert len(open_now) == 2
    assert sum(live.values()) == sum(one["symbols"] for one in open_now) == len(SYMBOLS)
    assert len(feed.told_by_generator()["connections"]) == 2, "a key was tried twice"


def test_a_key_is_written_nowhere(feed: Feed, keys: Keys) -> None:
    """Neither objects nor events nor logs of the pods show the value of an API key."""
    kinds = "marketfeeds,deployments,replicasets,pods,jobs,configmaps,events"
    shown = feed.cluster.kubectl("get", kinds, "-o", "json")
    logs = [feed.cluster.kubectl("logs", pod["metadata"]["name"]) for pod in feed.pods("ingest")]
    status = [str(feed.status_of(pod)) for pod in feed.pods("ingest")]
    for text in (shown, *logs, *status):
        assert text
        assert keys.first not in text
        assert keys.second not in text


def test_symbols_beyond_the_keys_are_listed_and_harm_nobody(feed: Feed) -> None:
    """With 22 symbols for 20 places: Degraded with the list of two, Ready goes on; taken out again all is well.

    Nothing is lost of what is served, and no gap is marked.
    """
    feed.patch({"spec": {"symbols": [*SYMBOLS, *MORE]}})
    begun = time.monotonic()
    resource = feed.cluster.until("two symbols have no place", lambda: overflowing(feed, 2), 60, every_s=0.25)
    print(f"\n{time.monotonic() - begun:.1f} s later: {condition(resource, 'Degraded')['message']}")
    status = resource["status"]
    assert condition(resource, "Degraded")["reason"] == "Overflow"
    assert len(status["overflow"]) == 2
    assert set(status["overflow"]) < {*SYMBOLS, *MORE}
    feed.cluster.until("20 symbols are published", lambda: published(feed) == 20, 60)
    resource = feed.resource()
    assert resource["status"]["symbols"] == 20
    assert condition(resource, "Ready")["status"] == "True"
    assert sorted(one["symbols"] for one in connections(feed)) == [SYMBOLS_A_KEY, SYMBOLS_A_KEY]
    feed.patch({"spec": {"symbols": [*SYMBOLS, *MORE[:4]]}})
    feed.cluster.until("nothing is degraded", lambda: condition(feed.resource(), "Degraded")["status"] == "False", 60)
    feed.cluster.until("the feed is settled", feed.settled, 90)
    assert "overflow" not in feed.resource()["status"]
    verdict = feed.verify()
    print(verdict.line())
    assert verdict.exact, verdict.report


def overflowing(feed: Feed, count: int) -> Object | None:
    """The MarketFeed once so many of its symbols have no place."""
    resource = feed.resource()
    told = resource["status"].get("overflowCount") == count and condition(resource, "Degraded").get("status") == "True"
    return resource if told else None


def published(feed: Feed) -> int:
    """Symbols that ingest publishes for."""
    return sum(status["symbols"]["live"] for status in feed.live_shards().values())
