"""Changes of a running installation, seen by a client: rolling update, upgrade."""

from __future__ import annotations

import time

import pytest
from tests.e2e.cluster.conftest import install
from tests.e2e.cluster.feeds import Feed, Watcher
from tests.e2e.cluster.kube import Object

pytestmark = pytest.mark.timeout(600)


def test_rolling_update_of_mds_with_a_client_attached(running_feed: Feed) -> None:
    """Two replicas replaced one after the other: the client is told to move, is back soon, and holds every bar."""
    cluster, name = running_feed.cluster, f"{running_feed.name}-mds"
    running_feed.patch({"spec": {"mds": {"replicas": 2}}})
    cluster.until("two replicas are ready", lambda: ready_replicas(cluster.get("deployment", name)) == 2, 90)
    watcher = Watcher.start(running_feed, ["AAPL", "MSFT"])
    before = {pod["metadata"]["name"] for pod in running_feed.pods("mds")}
    cluster.kubectl("rollout", "restart", f"deployment/{name}")
    cluster.until("all replicas are new", lambda: all_new(running_feed, before), 150)
    time.sleep(3)  # Some messages from the new ones.
    messages, summary = watcher.stop()
    print(f"\n{summary}")
    assert summary["reconnects"] >= 1
    assert summary["drains"] >= 1
    assert float(str(summary["longest_pause_s"])) < 5
    held = bars_held(messages, "AAPL")
    seconds = sorted(held)
    assert len(seconds) > 8
    assert seconds == list(range(seconds[0], seconds[-1] + 1)), "a bar is missing"


def ready_replicas(deployment: Object) -> int:
    """Replicas that are ready and of the newest template."""
    status = deployment["status"]
    return min(int(status.get("readyReplicas", 0)), int(status.get("updatedReplicas", 0)))


def all_new(feed: Feed, before: set[str]) -> bool:
    """Whether two pods are ready and none of them is of `before`."""
    names = {pod["metadata"]["name"] for pod in feed.pods("mds")}
    deployment = feed.cluster.get("deployment", f"{feed.name}-mds")
    return len(names) == 2 and not names & before and ready_replicas(deployment) == 2


def bars_held(messages: list[Object], symbol: str) -> dict[int, float]:
    """Closes by second that a client of the protocol holds after `messages`: part 0 of a snapshot replaces all."""
    held: dict[int, float] = {}
    for message in messages:
        if message.get("symbol") != symbol or not message.get("bars"):
            continue
        if message["type"] == "snapshot" and message["part"] == 0:
            held.clear()
        held.update(zip(message["bars"]["start"], message["bars"]["close"], strict=True))
    return held


def test_an_upgrade_of_the_chart_keeps_passwords_and_data(running_feed: Feed) -> None:
    """`helm upgrade` that replaces the operator: Secrets keep their content, stores and the feed keep running."""
    cluster = running_feed.cluster
    before = [cluster.get("secret", name)["data"] for name in ("mf-postgres", "mf-redis")]
    stores = {pod["metadata"]["uid"] for pod in cluster.pods("app.kubernetes.io/name=kafka")}
    pods = {pod["metadata"]["uid"] for pod in cluster.pods(running_feed.selector)}
    operators = {pod["metadata"]["uid"] for pod in cluster.pods("app.kubernetes.io/name=marketfeed-operator")}
    changed = ("--set", "marketfeed-operator.podAnnotations.changed-by=an-upgrade")
    print(f"\nupgraded after {install(cluster, *changed):.1f} s")
    after = {pod["metadata"]["uid"] for pod in cluster.pods("app.kubernetes.io/name=marketfeed-operator")}
    assert not operators & after
    assert {pod["metadata"]["uid"] for pod in cluster.pods(running_feed.selector)} == pods
    assert [cluster.get("secret", name)["data"] for name in ("mf-postgres", "mf-redis")] == before
    assert {pod["metadata"]["uid"] for pod in cluster.pods("app.kubernetes.io/name=kafka")} == stores
    running_feed.ready_within(60)
