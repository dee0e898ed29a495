"""What is deleted or killed comes back, and what that costs is what the design says it costs."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterator

import pytest
from tests.e2e.cluster.conftest import LEVEL
from tests.e2e.cluster.feeds import Feed, manifest, tool_pod
from tests.e2e.cluster.kube import Cluster, Object, condition, kill_without_notice

pytestmark = pytest.mark.timeout(900)

CHILD_KINDS = ("deployments", "services", "configmaps", "networkpolicies", "poddisruptionbudgets")


def children(feed: Feed) -> list[tuple[str, str, str]]:
    """(kind, name, uid) of the objects that the operator made for the feed, Jobs apart."""
    found = []
    for kind in CHILD_KINDS:
        for one in feed.cluster.objects(kind, feed.selector):
            if one["metadata"].get("ownerReferences", [{}])[0].get("kind") == "MarketFeed":
                found.append((kind, one["metadata"]["name"], one["metadata"]["uid"]))
    return found


def restored(cluster: Cluster, kind: str, name: str, old_uid: str) -> bool:
    """Whether there is a new object of that name."""
    found = cluster.find(kind, name)
    return found is not None and found["metadata"]["uid"] != old_uid


def test_each_deleted_child_is_restored(running_feed: Feed) -> None:
    """Each child of the feed, deleted by hand, is there again within 10 s."""
    cluster = running_feed.cluster
    found = children(running_feed)
    assert {"deployments", "services", "configmaps", "networkpolicies"} <= {kind for kind, _, _ in found}
    slowest = 0.0
    for kind, name, uid in found:
        cluster.kubectl("delete", kind, name, "--wait=false")
        begun = time.monotonic()
        cluster.until(
            f"{kind}/{name} is restored",
            functools.partial(restored, cluster, kind, name, uid), 10, every_s=0.25,
        )  # fmt: skip
        slowest = max(slowest, time.monotonic() - begun)
    print(f"\n{len(found)} children deleted, each restored; the slowest after {slowest:.1f} s")
    running_feed.ready_within(120)


def test_a_changed_child_is_changed_back(running_feed: Feed) -> None:
    """A field of the operator's, changed by hand, has its value again within 10 s."""
    cluster, name = running_feed.cluster, f"{running_feed.name}-recorder"
    image = image_of(cluster.get("deployment", name))
    cluster.kubectl("set", "image", f"deployment/{name}", "recorder=localhost/wrong:dev")
    cluster.until("the image is set back", lambda: image_of(cluster.get("deployment", name)) == image, 10)


def test_what_is_superfluous_is_removed(running_feed: Feed) -> None:
    """An object that belongs to the feed and that nothing asks for any more, of whatever kind, is deleted."""
    cluster = running_feed.cluster
    planted = [superfluous(running_feed, one) for one in superfluous_specs()]
    cluster.apply(*planted)
    for one in planted:
        kind, name = one["kind"], one["metadata"]["name"]
        cluster.until(f"{kind}/{name} is removed", functools.partial(gone, cluster, kind, name), 20, every_s=0.25)
    running_feed.ready_within(30)


def superfluous_specs() -> list[Object]:
    """One object of each kind that the operator makes, none of which runs anything."""
    nobody = {"matchLabels": {"app": "nobody"}}
    template = {"metadata": {"labels": {"app": "nobody"}}, "spec": tool_pod("x", "x", ["--version"])["spec"]}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "data": {}},
        {"apiVersion": "v1", "kind": "Service", "spec": {"clusterIP": "None", "selector": {"app": "nobody"}}},
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": {"maxUnavailable": 1, "selector": nobody}},
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": {"podSelector": nobody}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "spec": {
                "replicas": 0,
                "selector": nobody,
                "template": {**template, "spec": {**template["spec"], "restartPolicy": "Always"}},
            },
        },
        {"apiVersion": "batch/v1", "kind": "Job", "spec": {"suspend": True, "template": template}},
    ]


def superfluous(feed: Feed, spec: Object) -> Object:
    """`spec` as a child of the feed that an earlier version of the operator might have left."""
    like = feed.cluster.get("deployment", f"{feed.name}-recorder")["metadata"]
    metadata = {
        "name": f"{feed.name}-left-over",
        "labels": {**like["labels"], "app.kubernetes.io/component": "recorder"},
        "ownerReferences": like["ownerReferences"],
    }
    return {**spec, "metadata": metadata}


def gone(cluster: Cluster, kind: str, name: str) -> bool:
    """Whether there is no such object."""
    return cluster.find(kind, name) is None


def test_a_paused_feed_is_left_alone(running_feed: Feed) -> None:
    """While the annotation is there a deleted child stays away; without it the child is restored."""
    cluster, name = running_feed.cluster, f"{running_feed.name}-mds-headless"
    with paused(running_feed):
        cluster.kubectl("delete", "service", name)
        time.sleep(5)  # Ten times what a repair takes.
        assert cluster.find("service", name) is None
    cluster.until("the Service is restored", lambda: cluster.find("service", name), 10, every_s=0.25)


@contextlib.contextmanager
def paused(feed: Feed) -> Iterator[None]:
    """The feed is paused, and the status says so."""
    feed.cluster.kubectl("annotate", "marketfeed", feed.name, "marketfeed.dev/paused=true")
    try:
        feed.cluster.until("the feed is paused", lambda: reason(feed, "Reconciling") == "Paused", 15)
        yield
    finally:
        feed.cluster.kubectl("annotate", "marketfeed", feed.name, "marketfeed.dev/paused-")
    feed.cluster.until("the feed goes on", lambda: reason(feed, "Reconciling") != "Paused", 15)


def reason(feed: Feed, kind: str) -> str | None:
    """The reason of a condition."""
    found: str | None = condition(feed.resource(), kind).get("reason")
    return found


def image_of(deployment: Object) -> str:
    """The image of a Deployment's first container."""
    image: str = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    return image


def kill(feed: Feed, component: str) -> float:
    """Kill the processes of a part without notice; seconds until others are ready."""
    old = feed.pods(component)
    assert old, f"no pods of {component}"
    lives = {life(pod) for pod in old}
    begun = time.monotonic()
    kill_without_notice(feed.cluster, old)
    feed.cluster.until(f"{component} runs again", lambda: are_back(feed.pods(component), lives), 90)
    return time.monotonic() - begun


def life(pod: Object) -> tuple[str, int]:
    """What tells a pod's process from the one before: the pod, and how often it was started again."""
    return pod["metadata"]["uid"], restarts(pod)


def are_back(pods: list[Object], lives: set[tuple[str, int]]) -> bool:
    """Whether there are pods, and all are ready in another life than `lives`."""
    back = [pod for pod in pods if condition(pod, "Ready").get("status") == "True" and life(pod) not in lives]
    return bool(pods) and len(back) == len(pods)


def test_kill_each_pod_under_load(new_feed: Callable[[Object], Feed]) -> None:
    """Recorder, mds and ingest killed in turn under load: all is equal outside gaps, and a gap excuses little."""
    feed = new_feed(manifest("killed", rate=10_000, symbols=30))
    feed.ready_within(120)
    for component in ("recorder", "mds", "ingest"):
        print(f"\n{component} killed, ready again after {kill(feed, component):.1f} s")
        time.sleep(3)  # Some load between two kills.
    feed.cluster.until("the feed is settled", feed.settled, 90)
    time.sleep(3)
    # The killed ingest had a linger and what was in flight in memory, and its successor waits for 5 s of silence.
    verdict = feed.verify(lost_max=0.05)
    print(verdict.report)
    assert verdict.code == 0, verdict.report


@pytest.mark.level(2)
def test_a_killed_generator_leaves_a_gap_and_nothing_else(new_feed: Callable[[Object], Feed]) -> None:
    """The exchange killed under load: a gap is marked, trades flow again by themselves, all later ones are there.

    What the first one sent died with its manifest, so what was sent is compared from the second one's start on; log and
    stores are compared whole.
    """
    feed = new_feed(manifest("exchange", rate=10_000, symbols=30))
    feed.ready_within(120)
    time.sleep(5)  # Some load before the kill.
    begun = time.monotonic()
    print(f"\ngenerator killed, ready again after {kill(feed, 'generator'):.1f} s")
    feed.cluster.until("trades flow again", lambda: feed.told_by_generator()["trades"] > 0, 60, every_s=0.25)
    print(f"trades flow again {time.monotonic() - begun:.1f} s after the kill")
    feed.cluster.until("the feed is settled", feed.settled, 90)
    time.sleep(5)  # Some load afterwards.
    anew_s = feed.told_by_generator()["start_ms"] // 1000 + 1
    verdict = feed.verify(lost_max=0.01, from_s=anew_s)
    print(verdict.report)
    assert verdict.code == 0, verdict.report
    assert "gaps: connection_lost" in verdict.report


@pytest.mark.level(2)
@pytest.mark.parametrize("store", ["kafka", "redis", "postgres"])
def test_kill_each_store_under_load(new_feed: Callable[[Object], Feed], store: str) -> None:
    """A store killed without notice under load: what waited for it is there afterwards, nothing lost and no gap."""
    feed = new_feed(manifest(f"no-{store}", rate=5_000, symbols=20))
    feed.ready_within(120)
    pods_of_store = f"app.kubernetes.io/name={store}"
    killed = feed.cluster.pods(pods_of_store)
    assert killed
    lives = {life(pod) for pod in killed}
    begun = time.monotonic()
    kill_without_notice(feed.cluster, killed)
    feed.cluster.until(f"{store} is ready again", lambda: are_back(feed.cluster.pods(pods_of_store), lives), 120)
    print(f"\n{store} killed, ready again after {time.monotonic() - begun:.1f} s")
    feed.cluster.until("the feed is settled", feed.settled, 120)
    time.sleep(3)  # Some load afterwards.
    verdict = feed.verify()
    print(verdict.line())
    assert verdict.exact, verdict.report


def test_a_hot_standby_loses_nothing(new_feed: Callable[[Object], Feed]) -> None:
    """With two members per shard, the killed one's trades are all there, and the log marks no gap."""
    feed = new_feed(manifest("doubled", rate=10_000, symbols=30, redundancy=2))
    feed.ready_within(120)
    # What the other has not heard yet when one is killed is a gap, and rightly so.
    active = feed.cluster.until(
        "one member publishes, the other has heard 60,000 trades", lambda: active_and_standby(feed, 60_000), 90
    )
    kill_without_notice(feed.cluster, [feed.cluster.get("pod", active)])
    begun = time.monotonic()
    feed.cluster.until("the other member publishes", lambda: active_and_standby(feed) not in (None, active), 60)
    print(f"\nthe standby publishes {time.monotonic() - begun:.1f} s after the kill")
    feed.cluster.until("the feed is settled", feed.settled, 90)
    verdict = feed.verify()
    print(verdict.line())
    assert verdict.exact, verdict.report


def active_and_standby(feed: Feed, heard: int = 0) -> str | None:
    """The pod that publishes, if there are two members, exactly one does, and the other has heard so many trades."""
    said = {pod["metadata"]["name"]: feed.status_of(pod) for pod in feed.pods("ingest")}
    active = [name for name, status in said.items() if status and status["symbols"]["live"] > 0]
    ready = len(active) == 1 and len(said) == 2
    return active[0] if ready and all(s and s["trades"]["received"] >= heard for s in said.values()) else None


def test_the_operator_absent_changes_nothing(running_feed: Feed) -> None:
    """Without an operator the data plane goes on (a minute at level 2); what was deleted meanwhile is restored then."""
    cluster = running_feed.cluster
    operator = operator_deployment(cluster)
    replicas = cluster.get("deployment", operator)["spec"]["replicas"]
    before = {pod["metadata"]["uid"]: restarts(pod) for pod in cluster.pods(running_feed.selector)}
    cluster.kubectl("scale", f"deployment/{operator}", "--replicas=0")
    cluster.until("the operator is gone", lambda: not operator_pods(cluster), 60)
    name = f"{running_feed.name}-recorder"
    received = running_feed.status_of(running_feed.pods("ingest")[0])
    cluster.kubectl("delete", "poddisruptionbudgets,networkpolicies", "-l", running_feed.selector)
    time.sleep(60 if LEVEL > 1 else 15)
    after = {pod["metadata"]["uid"]: restarts(pod) for pod in cluster.pods(running_feed.selector)}
    assert after == before
    now = running_feed.status_of(running_feed.pods("ingest")[0])
    assert received is not None
    assert now is not None
    assert now["trades"]["published"] > received["trades"]["published"]
    cluster.kubectl("scale", f"deployment/{operator}", f"--replicas={replicas}")
    cluster.until("policies are back", lambda: cluster.objects("networkpolicies", running_feed.selector), 60)
    assert cluster.get("deployment", name)
    running_feed.ready_within(60)


def test_a_killed_leader_is_replaced(running_feed: Feed) -> None:
    """The leading operator killed without notice: a child deleted at that moment is restored within 20 s."""
    cluster = running_feed.cluster
    leader = leading_pod(cluster)
    assert leader
    service = cluster.get("service", f"{running_feed.name}-mds")
    kill_without_notice(cluster, [cluster.get("pod", leader)])
    cluster.kubectl("delete", "service", f"{running_feed.name}-mds", "--wait=false")
    begun = time.monotonic()
    uid = service["metadata"]["uid"]
    cluster.until(
        "the Service is restored", lambda: restored(cluster, "services", f"{running_feed.name}-mds", uid), 20, 0.25
    )
    print(f"\nleader killed; the next reconcile had its effect after {time.monotonic() - begun:.1f} s")
    with paused(running_feed):
        pass  # Said once before by the leader that is gone: the new one counts the event on.


def operator_deployment(cluster: Cluster) -> str:
    """The name of the operator's Deployment."""
    found = cluster.objects("deployments", "app.kubernetes.io/name=marketfeed-operator")
    assert len(found) == 1
    name: str = found[0]["metadata"]["name"]
    return name


def operator_pods(cluster: Cluster) -> list[Object]:
    """Pods of the operator, also those on their way out."""
    found: list[Object] = json.loads(
        cluster.kubectl("get", "pods", "-l", "app.kubernetes.io/name=marketfeed-operator", "-o", "json")
    )["items"]
    return found


def leading_pod(cluster: Cluster) -> str | None:
    """Who holds the operator's Lease."""
    leases = cluster.objects("leases", "")
    holders = [lease["spec"].get("holderIdentity") for lease in leases if "operator" in lease["metadata"]["name"]]
    return holders[0] if holders else None


def restarts(pod: Object) -> int:
    """How often the containers of a pod were started again."""
    return sum(one["restartCount"] for one in pod["status"].get("containerStatuses", []))
