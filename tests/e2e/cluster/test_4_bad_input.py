"""Wrong resources: refused with a sentence, or shown with a reason, and never anybody else's problem."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import pytest
from tests.e2e.cluster.feeds import Feed, manifest, secret_key
from tests.e2e.cluster.kube import Cluster, CommandFailed, Object, condition

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"source": {}}, "source"),
        ({"shards": 9, "symbols": ["AAPL"]}, "shards"),
        ({"kafka": {"bootstrapServers": "x:9092", "partitions": 0}}, "spec.kafka.partitions"),
    ],
)
def test_the_api_server_refuses(installation: Cluster, spec: Object, said: str) -> None:
    """A rule of the CRD is broken: refused by the API server with a sentence that names the field."""
    resource = manifest("refused")
    resource["spec"].update(spec)
    with pytest.raises(CommandFailed) as refusal:
        installation.apply(resource)
    assert said in refusal.value.said


def test_three_broken_feeds_beside_a_good_one(new_feed: Callable[[Object], Feed]) -> None:
    """A missing Secret, a missing ConfigMap and an absent Kafka show themselves, and delay no other feed.

    The Secret made afterwards heals its feed without a restart of anything else.
    """
    no_secret = new_feed(manifest("no-secret", postgres={"urlFrom": secret_key("not-there", "url")}))
    no_symbols = new_feed(manifest("no-symbols", symbolsFrom={"configMapKeyRef": {"name": "not-there", "key": "list"}}))
    no_kafka = new_feed(manifest("no-kafka", kafka={"bootstrapServers": "nobody.invalid:9092", "partitions": 8}))
    begun = time.monotonic()
    good = new_feed(manifest("good", rate=200, symbols=5))
    good.ready_within(90)
    print(f"\nthe good feed is Ready after {time.monotonic() - begun:.1f} s beside three broken ones")
    for feed, word in ((no_secret, "not-there"), (no_symbols, "not-there"), (no_kafka, "nobody.invalid")):
        told = feed.cluster.until(f"{feed.name} says why", functools.partial(complaint, feed, word), 120)
        print(f"{feed.name}: {told['type']} {told['reason']}: {told['message']}")
    secret = no_secret.cluster.get("secret", "mf-postgres")
    copy = {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "not-there"}, "data": secret["data"],
    }  # fmt: skip
    no_secret.cluster.apply(copy)
    try:
        no_secret.ready_within(150)
    finally:
        no_secret.cluster.kubectl("delete", "secret", "not-there")


def complaint(feed: Feed, word: str) -> Object | None:
    """The condition whose message names what is wrong, if Ready is False."""
    resource = feed.resource()
    if condition(resource, "Ready").get("status") != "False":
        return None
    conditions = [condition(resource, kind) for kind in ("Ready", "Stalled", "Degraded", "Reconciling")]
    return next((one for one in conditions if word in one.get("message", "")), None)


def test_a_quota_is_told_and_heals(installation: Cluster, new_feed: Callable[[Object], Feed]) -> None:
    """A quota that lets not even the first Job have its pod is quoted, with what to do; gone, all goes on by itself."""
    quota = {
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "no-room"}, "spec": {"hard": {"pods": "0"}},
    }  # fmt: skip
    installation.apply(quota)
    try:
        installation.until("the quota is in force", functools.partial(in_force, installation, "no-room"), 30)
        feed = new_feed(manifest("no-room", rate=200, symbols=5))
        told = installation.until("the quota is told", functools.partial(complaint, feed, "exceeded quota"), 60)
        print(f"\n{told['type']} {told['reason']}: {told['message']}")
        assert told["reason"] == "QuotaExceeded"
    finally:
        installation.kubectl("delete", "quota", "no-room")
    print(f"Ready {feed.ready_within(150):.1f} s after the quota went")


def in_force(cluster: Cluster, quota: str) -> bool:
    """Whether a quota is counted."""
    return bool(cluster.get("quota", quota).get("status", {}).get("hard"))


def test_a_pod_that_is_not_restricted_is_refused(installation: Cluster) -> None:
    """The namespace really enforces the profile that our pods pass."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "as-root"},
        "spec": {
            "containers": [{"name": "c", "image": "localhost/marketfeed:dev", "securityContext": {"privileged": True}}]
        },
    }
    with pytest.raises(CommandFailed, match="violates PodSecurity"):
        installation.apply(pod)
