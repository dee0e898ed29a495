"""Resharding under load: nothing lost, nothing twice, and the untouched symbols notice nothing."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable

import pytest
from tests.e2e.cluster.feeds import Feed, manifest
from tests.e2e.cluster.kube import GROUP, Object, condition

pytestmark = pytest.mark.timeout(900)


RATE = 20_000


def sent(feed: Feed) -> int:
    """Trades that the generator has made so far."""
    (pod,) = feed.pods("generator")
    status = feed.cluster.until("the generator answers", functools.partial(feed.status_of, pod), 30)
    return int(status["trades"])


def shares(feed: Feed, shards: int) -> dict[int, int] | None:
    """Symbols that each shard publishes for, once `shards` of them do, every symbol has one, and the feed settled."""
    live = {shard: status["symbols"]["live"] for shard, status in feed.live_shards().items()}
    return live if len(live) == shards and sum(live.values()) == 50 and feed.settled() else None


def test_scale_up_and_down_under_load(new_feed: Callable[[Object], Feed]) -> None:
    """1 -> 3 -> 2 shards by `kubectl scale` at 20,000 trades a second: 0 lost, 0 twice, no gap."""
    feed = new_feed(manifest("scaled", rate=RATE, symbols=50))
    feed.ready_within(120)
    sent_before, loaded_from = sent(feed), time.monotonic()
    time.sleep(5)  # Some load before the first change; its length decides nothing.
    for shards in (3, 2):
        begun = time.monotonic()
        feed.cluster.kubectl("scale", f"marketfeed/{feed.name}", f"--replicas={shards}")
        spread = feed.cluster.until(f"{shards} shards serve all symbols", functools.partial(shares, feed, shards), 180)
        print(f"\nscaled to {shards} after {time.monotonic() - begun:.1f} s: {spread}")
        assert feed.resource()["status"]["shards"] == shards
        time.sleep(3)
    left = feed.cluster.until("the third Deployment is gone", lambda: two_deployments(feed), 90)
    assert left == [f"{feed.name}-ingest-0-0", f"{feed.name}-ingest-1-0"]
    rate = (sent(feed) - sent_before) / (time.monotonic() - loaded_from)
    print(f"sent {rate:,.0f} trades a second meanwhile")
    assert rate >= 0.9 * RATE, "the generator did not make the load under which nothing is to be lost"
    events = feed.cluster.kubectl("get", "events", "--field-selector", f"involvedObject.name={feed.name}")
    print(events)
    assert "Plan" in events
    verdict = feed.verify()
    print(verdict.line())
    assert verdict.exact, verdict.report


def two_deployments(feed: Feed) -> list[str] | None:
    """Names of the ingest Deployments once there are two."""
    names = sorted(one["metadata"]["name"] for one in feed.cluster.objects("deployments", feed.component("ingest")))
    return names if len(names) == 2 else None


@pytest.mark.level(2)
def test_an_autoscaler_scales_the_shards(new_feed: Callable[[Object], Feed]) -> None:
    """Kubernetes' own HorizontalPodAutoscaler finds shards and pods by the scale subresource, and sets the shards.

    A bound that is not kept makes it scale before it asks for any figure, so no metrics API is needed.
    """
    feed = new_feed(manifest("auto", rate=1000, symbols=50))
    feed.ready_within(120)
    path = f"/apis/{GROUP}/v1alpha1/namespaces/{feed.cluster.namespace}/marketfeeds/{feed.name}/scale"
    scale = json.loads(feed.cluster.kubectl("get", "--raw", path))
    assert scale["spec"]["replicas"] == scale["status"]["replicas"] == 1
    counted = feed.cluster.pods(scale["status"]["selector"])
    assert [pod["metadata"]["name"] for pod in counted] == [pod["metadata"]["name"] for pod in feed.pods("ingest")]
    try:
        for shards in (2, 1):
            begun = time.monotonic()
            feed.cluster.apply(autoscaler(feed, shards))
            feed.cluster.until(f"{shards} shards serve", functools.partial(shares, feed, shards), 120)
            print(f"\n{shards} shards serve {time.monotonic() - begun:.1f} s after the autoscaler was told")
        able = condition(feed.cluster.get("hpa", feed.name), "AbleToScale")
    finally:
        feed.cluster.kubectl("delete", "hpa", feed.name, "--ignore-not-found")
    print(f"AbleToScale is {able['status']}: {able['message']}")
    assert able["status"] == "True"
    verdict = feed.verify()
    print(verdict.line())
    assert verdict.exact, verdict.report


def autoscaler(feed: Feed, shards: int) -> Object:
    """A HorizontalPodAutoscaler that wants exactly so many shards, and otherwise goes by CPU."""
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": feed.name},
        "spec": {
            "scaleTargetRef": {"apiVersion": f"{GROUP}/v1alpha1", "kind": "MarketFeed", "name": feed.name},
            "minReplicas": shards,
            "maxReplicas": shards,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
                }
            ],
        },
    }
