"""What of an object asks for work: drift shows in the fingerprint, news in the signature, our own status in neither."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from marketfeed_operator.kinds import BY_NAME, CONFIG_MAP, MARKETFEED, POD
from marketfeed_operator.observed_objects import feed_of, feed_signature, fingerprint, intent_hash, observe, signature

DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {
        "name": "x-mds",
        "namespace": "demo",
        "uid": "u1",
        "resourceVersion": "10",
        "generation": 1,
        "labels": {"marketfeed.dev/feed": "x"},
        "annotations": {"a": "b"},
        "managedFields": [{"manager": "m"}],
    },
    "spec": {"replicas": 1},
    "status": {"readyReplicas": 0},
}
POD_OBJECT: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "demo", "uid": "u2", "labels": {"marketfeed.dev/feed": "x"}},
    "spec": {"containers": []},
    "status": {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False", "lastProbeTime": "1"}]},
}
FEED: dict[str, Any] = {
    "metadata": {"name": "x", "namespace": "demo", "uid": "u3", "generation": 4, "resourceVersion": "1"},
    "spec": {"shards": 1},
}


def changed(what: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    copied = copy.deepcopy(what)
    *parents, last = path.split(".")
    place = copied
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return copied


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("status.readyReplicas", 1),
        ("metadata.resourceVersion", "11"),
        ("metadata.managedFields", []),
        ("metadata.annotations", {"a": "b", "deployment.kubernetes.io/revision": "2"}),
    ],
)
def test_what_the_server_and_controllers_write_is_no_drift(path: str, value: object) -> None:
    """Status, versions, managed fields and the Deployment controller's annotation leave the fingerprint alone."""
    assert fingerprint(changed(DEPLOYMENT, path, value)) == fingerprint(DEPLOYMENT)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.replicas", 5),
        ("metadata.labels", {}),
        ("metadata.annotations", {}),
        ("metadata.ownerReferences", [{"uid": "z"}]),
        ("metadata.uid", "another"),
    ],
)
def test_what_others_change_is_drift(path: str, value: object) -> None:
    """Specification, labels, annotations, owners, and an object made anew under the same name show."""
    assert fingerprint(changed(DEPLOYMENT, path, value)) != fingerprint(DEPLOYMENT)


def test_the_plan_revision_on_a_pod_is_no_drift() -> None:
    """The annotation by which the operator wakes a pod's kubelet is its own writing."""
    woken = changed(POD_OBJECT, "metadata.annotations", {"marketfeed.dev/plan-revision": "3"})
    assert fingerprint(woken) == fingerprint(POD_OBJECT)


def test_a_pods_news_are_phase_readiness_address_and_restarts() -> None:
    """A probe's time stamp is no news; becoming ready is, and so is going away."""
    ready = [{"type": "Ready", "status": "True", "lastProbeTime": "1"}]
    later = [{"type": "Ready", "status": "False", "lastProbeTime": "2"}]
    assert signature(POD, changed(POD_OBJECT, "status.conditions", later)) == signature(POD, POD_OBJECT)
    assert signature(POD, changed(POD_OBJECT, "status.conditions", ready)) != signature(POD, POD_OBJECT)
    assert signature(POD, changed(POD_OBJECT, "metadata.deletionTimestamp", "now")) == "going"


def test_our_own_status_write_is_no_news_of_a_feed() -> None:
    """Status and version of a MarketFeed change nothing; generation, our annotations and deletion do."""
    written = changed(changed(FEED, "status", {"shards": 1}), "metadata.resourceVersion", "2")
    assert feed_signature(written) == feed_signature(FEED)
    for path, value in (
        ("metadata.generation", 5),
        ("metadata.annotations", {"marketfeed.dev/paused": "true"}),
        ("metadata.deletionTimestamp", "now"),
        ("metadata.uid", "another"),
    ):
        assert feed_signature(changed(FEED, path, value)) != feed_signature(FEED)
    foreign = changed(FEED, "metadata.annotations", {"kubectl.kubernetes.io/last-applied-configuration": "{}"})
    assert feed_signature(foreign) == feed_signature(FEED)


def test_little_is_kept_of_each_object() -> None:
    """No managed fields, no pod specification; what decisions read stays: a plan's data, a feed's specification."""
    kept = observe(BY_NAME["Deployment"], DEPLOYMENT)
    assert kept.feed == "x"
    assert kept.body["spec"] == {"replicas": 1}
    assert "managedFields" not in kept.body["metadata"]
    assert "spec" not in observe(POD, POD_OBJECT).body
    assert observe(MARKETFEED, FEED).body["spec"] == {"shards": 1}
    plan = changed(POD_OBJECT, "data", {"plan.json": "{}"})
    assert observe(CONFIG_MAP, plan).body["data"] == {"plan.json": "{}"}


def test_equal_intents_have_equal_hashes_whatever_their_order() -> None:
    """The order of keys is no difference."""
    assert intent_hash({"a": 1, "b": [1, 2]}) == intent_hash({"b": [1, 2], "a": 1})
    assert intent_hash({"a": [1, 2]}) != intent_hash({"a": [2, 1]})


def test_a_child_whose_label_was_removed_still_belongs_to_its_owner() -> None:
    """The owner reference tells the feed where the label does not."""
    owner = {"ownerReferences": [{"kind": "MarketFeed", "name": "x"}]}
    assert feed_of(owner) == "x"
    assert feed_of({"labels": {"marketfeed.dev/feed": "y"}} | owner) == "y"
    assert feed_of({"ownerReferences": [{"kind": "ReplicaSet", "name": "x-1"}]}) == ""
