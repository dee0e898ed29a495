"""From nothing to a price outside of the cluster: install, apply, watch."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from tests.e2e.cluster.feeds import Feed, manifest
from tests.e2e.cluster.kube import Cluster, Object, condition

pytestmark = pytest.mark.timeout(600)


def test_the_installation_is_ready(installation: Cluster) -> None:
    """helm's --wait was right: operator and stores have ready pods, and no pod is less than restricted."""
    pods = installation.pods("")
    assert pods
    for pod in pods:
        ready = condition(pod, "Ready")
        assert ready.get("status") == "True" or pod["status"]["phase"] == "Succeeded", pod["metadata"]["name"]
    crd = installation.get("crd", "marketfeeds.marketfeed.dev")
    assert condition(crd, "Established")["status"] == "True"


def first_price_outside(feed: Feed, symbol: str, timeout_s: float) -> Object:
    """The first quote that a client on this machine gets through a port-forward; tries until mds is there."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            # A port-forward that was made before the pod listens is of no use later, hence short tries.
            with feed.cluster.forwarded(f"svc/{feed.name}-mds", 8080) as port:
                printed = watch_outside(f"ws://127.0.0.1:{port}/v1/stream", symbol, "5s")
        except (AssertionError, subprocess.TimeoutExpired):
            time.sleep(0.5)  # The Service has no ready pod yet.
            continue
        for line in printed.splitlines():
            message: Object = json.loads(line)
            if message["type"] == "quote":
                return message
    raise AssertionError(f"no price outside of the cluster within {timeout_s} s\n{feed.cluster.picture()}")


def watch_outside(url: str, symbol: str, duration: str) -> str:
    """What `marketfeed watch` on this machine printed, until its second price or for `duration`."""
    command = [sys.executable, "-m", "marketfeed.cli.main", "watch", "--url", url, "--symbols", symbol]
    options = ["--count", "2", "--for", duration, "--format", "json"]
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=30, check=False).stdout


def test_from_apply_to_the_first_trade(new_feed: Callable[[Object], Feed]) -> None:
    """One resource, and within a minute a WebSocket client outside of the pods sees a trade."""
    begun = time.monotonic()
    feed = new_feed(manifest("first", rate=1000, symbols=20))
    quote = first_price_outside(feed, "AAPL", 90)
    took_s = time.monotonic() - begun
    print(f"\napply -> first trade at a WebSocket client: {took_s:.1f} s")
    assert quote["price"] > 0
    assert took_s <= 60
    feed.ready_within(30)
    table = feed.cluster.kubectl("get", "mf", feed.name)
    print(table)
    assert table.split("\n")[0].split() == ["NAME", "SOURCE", "SYMBOLS", "SHARDS", "READY", "RATE", "LAG", "AGE"]
    row = table.split("\n")[1].split()
    assert row[1:5] == ["generator", "20", "1", "True"]
    resource = feed.cluster.until("the status shows what pods say", lambda: with_rate(feed), 40)
    assert resource["status"]["observedGeneration"] == resource["metadata"]["generation"]
    assert "finalizers" not in resource["metadata"]
    shard = resource["status"]["shardStatus"][0]
    assert shard["connected"]
    assert shard["symbols"] == 20
    events = feed.cluster.kubectl("get", "events", "--field-selector", f"involvedObject.name={feed.name}")
    print(events)


def with_rate(feed: Feed) -> Object | None:
    """The MarketFeed once its status shows a rate that fits the generator's 1,000/s."""
    resource = feed.resource()
    rates = [shard.get("rate") or 0 for shard in resource["status"].get("shardStatus", [])]
    return resource if 500 < sum(map(float, rates)) < 2000 else None
