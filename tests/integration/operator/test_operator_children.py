"""A MarketFeed becomes children, they stay what they should be, and nothing is left of it: on a real API server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.integration.operator.control_plane import ControlPlane
from tests.integration.operator.plane import DEPLOYMENT, JOB, Admin, FakeKubelet, Object, eventually, feed, replica

from marketfeed_operator.cluster_errors import ClusterError
from marketfeed_operator.kinds import BY_NAME, CONFIG_MAP, MARKETFEED, Kind

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
SERVICE = BY_NAME["Service"]


async def ready(admin: Admin, name: str, within_s: float = 40.0) -> None:
    await eventually(lambda: admin.is_condition(name, "Ready", "True"), within_s)


async def test_a_feed_comes_up_and_the_operator_leaves_no_trace_on_it(
    plane: ControlPlane, admin: Admin, kubelet: FakeKubelet, settings: dict[str, object], tmp_path: Path
) -> None:
    """Children appear, prepare first; the feed becomes Ready; it has no finalizer and no annotation that is not its
    user's; its status and its children have field managers of their own."""
    async with replica(tmp_path, plane.kubeconfig, **settings) as operator:
        await admin.apply(feed("x", admin.namespace, shards=2))
        await eventually(lambda: admin.names(JOB))
        await ready(admin, "x")
        assert await admin.names(DEPLOYMENT) == {"x-ingest-0-0", "x-ingest-1-0", "x-recorder", "x-mds", "x-generator"}
        assert {"x-mds", "x-mds-headless", "x-generator"} <= await admin.names(SERVICE)
        assert "x-plan" in await admin.names(CONFIG_MAP)
        found = await admin.get(MARKETFEED, "x")
        assert found is not None
        assert "finalizers" not in found["metadata"]
        assert "annotations" not in found["metadata"]
        assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
        managers = {(one["manager"], one.get("subresource", "")) for one in found["metadata"]["managedFields"]}
        assert managers == {("test", ""), ("marketfeed.dev/operator-status", "status")}
        child = await admin.get(DEPLOYMENT, "x-mds")
        assert child is not None
        assert child["metadata"]["ownerReferences"][0]["uid"] == found["metadata"]["uid"]
        assert "marketfeed.dev/operator" in {one["manager"] for one in child["metadata"]["managedFields"]}
        status, text = await operator.page("/healthz")
        assert (status, '"ok": true' in text) == (200, True)


async def test_drift_is_repaired_within_ten_seconds(
    plane: ControlPlane, admin: Admin, kubelet: FakeKubelet, settings: dict[str, object], tmp_path: Path
) -> None:
    """A deleted Deployment, Job, Service and plan come back; a changed image, port and label are set right."""
    async with replica(tmp_path, plane.kubeconfig, **settings) as operator:
        await admin.apply(feed("x", admin.namespace))
        await ready(admin, "x")
        plan = await admin.get(CONFIG_MAP, "x-plan")
        for kind in (DEPLOYMENT, JOB, SERVICE, CONFIG_MAP, BY_NAME["NetworkPolicy"]):
            before = await admin.names(kind)
            assert before
            for name in before:
                await admin.delete(kind, name)
            await eventually(lambda kind=kind, before=before: _same(admin, kind, before), within_s=10.0)
        again = await admin.get(CONFIG_MAP, "x-plan")
        assert plan is not None
        assert again is not None
        lost, made = (json.loads(one["data"]["plan.json"]) for one in (plan, again))
        assert (made["assigned"], made["revision"]) == (lost["assigned"], lost["revision"] + 1)

        container = [{"name": "mds", "image": "evil:latest"}]
        await admin.merge(
            DEPLOYMENT, "x-mds", {"spec": {"replicas": 7, "template": {"spec": {"containers": container}}}}
        )
        await admin.merge(SERVICE, "x-mds", {"spec": {"ports": [{"name": "http", "port": 9999}]}})
        await admin.merge(CONFIG_MAP, "x-plan", {"metadata": {"labels": {"marketfeed.dev/feed": None}}})

        async def repaired() -> bool:
            mds, service = await admin.get(DEPLOYMENT, "x-mds"), await admin.get(SERVICE, "x-mds")
            assert mds is not None
            assert service is not None
            containers = mds["spec"]["template"]["spec"]["containers"]
            return (
                mds["spec"]["replicas"] == 1
                and "evil" not in containers[0]["image"]
                and [port["port"] for port in service["spec"]["ports"]] == [8080, 50051]
            )

        await eventually(repaired, within_s=10.0)
        await eventually(lambda: _same(admin, CONFIG_MAP, {"x-plan"}), within_s=10.0)
        assert await operator.metric("marketfeed_operator_drift_repaired_total") >= 3


async def test_budgets_come_back_and_hold_an_eviction_that_would_leave_a_shard_without_a_pod(
    plane: ControlPlane, admin: Admin, kubelet: FakeKubelet, settings: dict[str, object], tmp_path: Path
) -> None:
    """Of two members one may be evicted, and the other not until it is replaced; without a standby there is no budget,
    as it would keep a node from being drained for ever."""
    budgets, pods = BY_NAME["PodDisruptionBudget"], BY_NAME["Pod"]
    async with replica(tmp_path, plane.kubeconfig, **settings):
        await admin.apply(feed("x", admin.namespace, shards=1, redundancy=2, mds={"replicas": 2}))
        await ready(admin, "x")
        wanted = {"x-mds", "x-ingest-0"}
        assert await admin.names(budgets) == wanted
        for name in wanted:
            await admin.delete(budgets, name)
        await eventually(lambda: _same(admin, budgets, wanted), within_s=10.0)
        await admin.merge(budgets, "x-ingest-0", {"spec": {"minAvailable": 0}})

        async def counted() -> bool:
            found = await admin.get(budgets, "x-ingest-0")
            return found is not None and found["spec"]["minAvailable"] == 1 and _allowed(found) == 1

        await eventually(counted, within_s=20.0)
        first, second = sorted(name for name in await admin.names(pods) if name.startswith("x-ingest-0-"))
        await _evict(admin, first)
        with pytest.raises(ClusterError, match="disruption budget"):
            await _evict(admin, second)
        await admin.apply(feed("x", admin.namespace, shards=1, redundancy=1, mds={"replicas": 1}))
        await eventually(lambda: _same(admin, budgets, set()), within_s=20.0)


def _allowed(budget: Object) -> int:
    """Evictions that the budget allows now, by the controller that has seen its present form."""
    status = budget.get("status") or {}
    seen = status.get("observedGeneration") == budget["metadata"]["generation"]
    return int(status.get("disruptionsAllowed", 0)) if seen else 0


async def _evict(admin: Admin, pod: str) -> None:
    """As `kubectl drain` does. Raises ClusterError where a budget does not allow it now."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": admin.namespace}}
    await admin.cluster.create(Kind("Pod", "v1", f"pods/{pod}/eviction"), admin.namespace, body)


async def _same(admin: Admin, kind: object, before: set[str]) -> bool:
    return await admin.names(kind) == before  # type: ignore[arg-type]


async def test_what_vanished_while_the_operator_was_down_comes_back(
    plane: ControlPlane, admin: Admin, kubelet: FakeKubelet, settings: dict[str, object], tmp_path: Path
) -> None:
    """Children that were deleted with no operator running are there again soon after it starts."""
    async with replica(tmp_path, plane.kubeconfig, **settings):
        await admin.apply(feed("x", admin.namespace))
        await ready(admin, "x")
        before = await admin.names(DEPLOYMENT)
    await admin.delete(DEPLOYMENT, "x-mds")
    await admin.delete(SERVICE, "x-mds")
    async with replica(tmp_path, plane.kubeconfig, **settings):
        await eventually(lambda: _same(admin, DEPLOYMENT, before))
        await eventually(lambda: admin.get(SERVICE, "x-mds"))


async def test_scaling_goes_through_the_scale_subresource(
    plane: ControlPlane, admin: Admin, kubelet: FakeKubelet, settings: dict[str, object], tmp_path: Path
) -> None:
    """`kubectl scale` works: the plan is shown as an event before, shards and selector show in the status."""
    async with replica(tmp_path, plane.kubeconfig, **settings):
        await admin.apply(feed("x", admin.namespace))
        await ready(admin, "x")
        path = MARKETFEED.path(admin.namespace, "x", "scale")
        await admin.cluster._request(
            "patch", path, {"spec": {"replicas": 3}}, content="application/merge-patch+json"
        )  # fmt: skip
        await eventually(lambda: _has(admin, {"x-ingest-0-0", "x-ingest-1-0", "x-ingest-2-0"}))
        await eventually(lambda: _scaled(admin, 3))
        scale = await admin.cluster._request("get", path)
        assert "marketfeed.dev/feed=x" in scale["status"]["selector"]
        plan = await admin.get(CONFIG_MAP, "x-plan")
        assert plan is not None
        revision = json.loads(plan["data"]["plan.json"])["revision"]
        announced = [one for one in await events(admin) if f"revision {revision}:" in one.get("note", "")]
        assert [one["reason"] for one in announced] == ["Planned"]
        # Versions of the API server's store rise with every write, of whatever object.
        assert int(announced[0]["metadata"]["resourceVersion"]) < int(plan["metadata"]["resourceVersion"])


async def test_a_quota_is_told_and_heals(
    plane: ControlPlane, admin: Admin, kubelet: FakeKubelet, settings: dict[str, object], tmp_path: Path
) -> None:
    """Where not even the first Job gets its pod: the API server's own sentence; raised, it goes on by itself."""
    quota = {
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small", "namespace": admin.namespace},
        "spec": {"hard": {"pods": "0"}},
    }  # fmt: skip
    path = f"/api/v1/namespaces/{admin.namespace}/resourcequotas"
    await admin.cluster._request("post", path, quota)

    async def in_force() -> bool:
        found = await admin.cluster._request("get", f"{path}/small")
        return bool(found.get("status", {}).get("hard"))

    await eventually(in_force)
    async with replica(tmp_path, plane.kubeconfig, **settings):
        await admin.apply(feed("x", admin.namespace))
        await eventually(lambda: admin.is_condition("x", "Stalled", "True"), 40.0)
        told = await admin.condition("x", "Ready")
        assert told["reason"] == "QuotaExceeded"
        assert "exceeded quota: small" in told["message"]
        assert "raise the quota" in told["message"]
        await admin.cluster._request("delete", f"{path}/small")
        await ready(admin, "x", 90.0)


async def test_a_limit_range_that_refuses_pods_is_told_for_jobs_and_deployments_and_heals(
    plane: ControlPlane, admin: Admin, kubelet: FakeKubelet, settings: dict[str, object], tmp_path: Path
) -> None:
    """The Job's events and the Deployments' conditions say it in the API server's words; each time it is mended, the
    next thing happens by itself."""
    path = f"/api/v1/namespaces/{admin.namespace}/limitranges"

    async def most(memory: str) -> None:
        limit = {"type": "Container", "max": {"memory": memory}}
        body = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"}, "spec": {"limits": [limit]}}
        query = [("fieldManager", "test"), ("force", "true")]
        content = "application/apply-patch+yaml"
        await admin.cluster._request("patch", f"{path}/small", body, query=query, content=content)

    async def says(words: str) -> bool:
        told = await admin.condition("x", "Stalled")
        return told.get("reason") == "PodRefused" and words in told["message"] and "LimitRange" in told["message"]

    await most("300Mi")
    async with replica(tmp_path, plane.kubeconfig, **settings):
        little = {"resources": {"limits": {"memory": "200Mi"}}}
        await admin.apply(feed("x", admin.namespace, generator=little))
        await eventually(lambda: says("maximum memory usage per Container is 300Mi, but limit is 512Mi"), 40.0)
        await most("600Mi")
        await eventually(lambda: says("maximum memory usage per Container is 600Mi"), 90.0)
        await admin.cluster._request("delete", f"{path}/small")
        await ready(admin, "x", 90.0)


async def _has(admin: Admin, wanted: set[str]) -> bool:
    return wanted <= await admin.names(DEPLOYMENT)


async def _scaled(admin: Admin, shards: int) -> bool:
    found = await admin.get(MARKETFEED, "x")
    return found is not None and found["status"].get("shards") == shards


async def events(admin: Admin) -> list[Object]:
    """All events of the namespace that the operator reported."""
    listed = await admin.cluster._request("get", f"/apis/events.k8s.io/v1/namespaces/{admin.namespace}/events")
    return [one for one in listed["items"] if one.get("reportingController") == "marketfeed.dev/operator"]


async def test_a_paused_feed_is_left_alone_and_goes_on_after(
    plane: ControlPlane, admin: Admin, kubelet: FakeKubelet, settings: dict[str, object], tmp_path: Path
) -> None:
    """With the annotation nothing is repaired or changed; without it, everything at once."""
    async with replica(tmp_path, plane.kubeconfig, **settings):
        await admin.apply(feed("x", admin.namespace))
        await ready(admin, "x")
        await admin.merge(MARKETFEED, "x", {"metadata": {"annotations": {"marketfeed.dev/paused": "true"}}})
        await eventually(lambda: _reason(admin, "Paused"))
        await admin.delete(SERVICE, "x-mds")
        await admin.merge(MARKETFEED, "x", {"metadata": {"annotations": {"marketfeed.dev/resync": "1"}}})
        await eventually(lambda: _reason(admin, "Paused"))
        assert await admin.get(SERVICE, "x-mds") is None
        await admin.merge(MARKETFEED, "x", {"metadata": {"annotations": {"marketfeed.dev/paused": None}}})
        await eventually(lambda: admin.get(SERVICE, "x-mds"), within_s=10.0)


async def _reason(admin: Admin, reason: str) -> bool:
    found = await admin.get(MARKETFEED, "x")
    return found is not None and reason in {one["reason"] for one in found["status"]["conditions"]}


async def test_pods_are_replaced_on_demand_in_turn_and_what_kubectl_restarts_is_left_so(
    plane: ControlPlane, admin: Admin, kubelet: FakeKubelet, settings: dict[str, object], tmp_path: Path
) -> None:
    """With a new value of the annotation every pod is another one, and ingest members were never away together; the
    annotation that `kubectl rollout restart` writes is no drift that would be taken back."""
    by_hand = {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
    async with replica(tmp_path, plane.kubeconfig, **settings):
        await admin.apply(feed("x", admin.namespace, shards=3))
        await ready(admin, "x")
        await admin.merge(DEPLOYMENT, "x-mds", {"spec": {"template": {"metadata": {"annotations": by_hand}}}})
        await admin.merge(MARKETFEED, "x", {"metadata": {"annotations": {"marketfeed.dev/restarted-at": "now"}}})
        away = []

        async def restarted() -> bool:
            # One list, so that what it shows was so at one time.
            found = (await admin.cluster._request("get", DEPLOYMENT.path(admin.namespace)))["items"]
            away.append(sum("-ingest-" in one["metadata"]["name"] and not _serves(one) for one in found))
            return len(found) == 6 and all(_is_restarted(one) and _serves(one) for one in found)

        await eventually(restarted, 40.0)
        print(f"\ningest members away at once: {max(away)} in {len(away)} looks")
        assert max(away) <= 1
        mds = await admin.get(DEPLOYMENT, "x-mds")
        assert mds is not None
        assert by_hand.items() <= mds["spec"]["template"]["metadata"]["annotations"].items()


def _is_restarted(deployment: Object) -> bool:
    annotations = deployment["spec"]["template"]["metadata"].get("annotations") or {}
    return annotations.get("marketfeed.dev/restarted-at") == "now"


def _serves(deployment: Object) -> bool:
    status = deployment.get("status") or {}
    new = status.get("observedGeneration") == deployment["metadata"]["generation"]
    return new and status.get("updatedReplicas") == status.get("readyReplicas") == 1


async def test_deletion_takes_all_children_with_and_without_an_operator(
    plane: ControlPlane, admin: Admin, kubelet: FakeKubelet, settings: dict[str, object], tmp_path: Path
) -> None:
    """A feed and its children go at once; and with the operator uninstalled first nothing hangs, not even the
    namespace."""
    async with replica(tmp_path, plane.kubeconfig, **settings):
        for name in ("x", "y"):
            await admin.apply(feed(name, admin.namespace))
            await ready(admin, name)
        await admin.delete(MARKETFEED, "x")
        await eventually(lambda: _only(admin, "y-"), within_s=20.0)
    namespaces = f"/api/v1/namespaces/{admin.namespace}"
    await admin.cluster._request("delete", namespaces, {})

    async def gone() -> bool:
        listed = await admin.cluster._request("get", "/api/v1/namespaces")
        return admin.namespace not in {one["metadata"]["name"] for one in listed["items"]}

    await eventually(gone, within_s=60.0)


async def _only(admin: Admin, prefix: str) -> bool:
    names = set[str]()
    for kind in (DEPLOYMENT, SERVICE, CONFIG_MAP, JOB):
        names |= await admin.names(kind)
    return bool(names) and all(name.startswith(prefix) for name in names)
