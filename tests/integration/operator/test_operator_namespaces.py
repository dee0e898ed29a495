"""Which namespaces are served: a list of which one may become unreadable, and all of them, with the chart's rights."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.integration.operator.control_plane import ControlPlane
from tests.integration.operator.plane import Admin, FakeKubelet, Replica, eventually, feed, make_namespace, replica
from tests.integration.operator.rights import delete_namespace, install, is_gone

from marketfeed_operator.kinds import BY_NAME

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
SERVICE = BY_NAME["Service"]
UNREADABLE = "marketfeed_operator_namespaces_unreadable"


@pytest.fixture
def in_cluster(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica finds the API server as a pod does."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(plane.port))


@pytest.fixture
async def second(admin: Admin) -> Admin:
    """Another namespace."""
    return await make_namespace(admin.cluster, f"{admin.namespace}-second")


@asynccontextmanager
async def kubelets(*admins: Admin) -> AsyncIterator[None]:
    """Pods of these namespaces come up."""
    running = [asyncio.get_running_loop().create_task(FakeKubelet(admin).run()) for admin in admins]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)


async def comes_up(admin: Admin) -> None:
    await admin.apply(feed("x", admin.namespace))
    await eventually(lambda: admin.is_condition("x", "Ready", "True"), 60.0)


async def repaired_in_s(admin: Admin, within_s: float = 10.0) -> float:
    """Delete the mds Service and say how long it takes to come back."""
    await admin.delete(SERVICE, "x-mds")
    began = time.monotonic()
    await eventually(lambda: admin.get(SERVICE, "x-mds"), within_s)
    return time.monotonic() - began


async def counts_unreadable(operator: Replica, number: int) -> None:
    async def counted() -> bool:
        return await operator.metric(UNREADABLE) == number

    await eventually(counted, 45.0)


@pytest.mark.usefixtures("in_cluster")
async def test_a_namespace_that_may_not_be_read_any_more_holds_up_no_other(
    plane: ControlPlane, admin: Admin, second: Admin, tmp_path: Path
) -> None:
    """Of two namespaces one loses its RoleBinding, and later goes altogether: it is named, the other is repaired as
    ever, and each time it is taken up again by the same process once it may be read."""
    chart = await install(plane, admin, tmp_path, {"namespaces": [admin.namespace, second.namespace]})
    # Short watches: the API server looks at the rights of a watch only when it begins.
    async with (
        kubelets(admin, second),
        replica(tmp_path, None, **chart.settings, watch_timeout_s=5, namespace_retry_s=1) as operator,
    ):
        await comes_up(admin)
        await comes_up(second)
        await counts_unreadable(operator, 0)

        await chart.revoke(second.namespace)
        await counts_unreadable(operator, 1)
        for _ in range(3):
            print(f"a namespace without its RoleBinding: the other repaired after {await repaired_in_s(admin):.1f} s")
            await asyncio.sleep(3.0)
        assert second.namespace in (await operator.page("/status"))[1]
        assert '"ok": true' in (await operator.page("/healthz"))[1]
        await second.delete(SERVICE, "x-mds")
        await chart.grant(second.namespace)
        await eventually(lambda: second.get(SERVICE, "x-mds"), 30.0)
        await counts_unreadable(operator, 0)

        await delete_namespace(second)
        await eventually(lambda: is_gone(second), 60.0)
        await counts_unreadable(operator, 1)
        print(f"a namespace that is gone: the other repaired after {await repaired_in_s(admin):.1f} s")
        await make_namespace(second.cluster, second.namespace)
        await chart.grant(second.namespace)
        await counts_unreadable(operator, 0)
        await comes_up(second)
        assert await repaired_in_s(second) < 10.0
        assert await operator.leads()
        assert await operator.metric("marketfeed_operator_lease_transitions_total") == 1
        assert operator.log.read_text().count("the namespace cannot be watched") == 2


@pytest.mark.usefixtures("in_cluster")
async def test_with_no_namespace_that_may_be_read_the_probe_fails_after_a_while(
    plane: ControlPlane, admin: Admin, tmp_path: Path
) -> None:
    """A freeze of everything is never silent: /healthz says since when nothing can be watched, and is well again when
    it can."""
    chart = await install(plane, admin, tmp_path)
    limits = {"watch_timeout_s": 5, "namespace_retry_s": 1, "blind_dead_s": 4}
    async with kubelets(admin), replica(tmp_path, None, **chart.settings, **limits) as operator:
        await comes_up(admin)
        assert (await operator.page("/healthz"))[0] == 200
        await admin.cluster._request("delete", _binding_of_the_namespace(admin))

        async def fails() -> str:
            status, text = await operator.page("/healthz")
            return text if status == 503 else ""

        assert f"{admin.namespace} has not been watched whole" in await eventually(fails, 45.0)
        await chart.grant(admin.namespace)

        async def well() -> bool:
            return (await operator.page("/healthz"))[0] == 200

        await eventually(well, 30.0)
        assert await repaired_in_s(admin) < 10.0


def _binding_of_the_namespace(admin: Admin) -> str:
    """The path of the RoleBinding for feeds; the Lease has its own, which stays."""
    root = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{admin.namespace}/rolebindings"
    return f"{root}/{admin.namespace}-marketfeed-operator"


@pytest.mark.usefixtures("in_cluster")
async def test_all_namespaces_are_served_with_the_charts_cluster_role(
    plane: ControlPlane, admin: Admin, second: Admin, tmp_path: Path
) -> None:
    """With `allNamespaces` feeds of two namespaces come up and are repaired, and so does one of a namespace that is
    made later; no request of theirs is forbidden."""
    chart = await install(plane, admin, tmp_path, {"allNamespaces": True})
    assert chart.settings["namespaces"] == ""
    late = Admin(admin.cluster, f"{admin.namespace}-late-{secrets.token_hex(2)}")
    async with kubelets(admin, second, late), replica(tmp_path, None, **chart.settings) as operator:
        for one in (admin, second):
            await comes_up(one)
        await make_namespace(late.cluster, late.namespace)
        await comes_up(late)
        for one in (admin, second, late):
            print(f"clusterwide: repaired after {await repaired_in_s(one):.1f} s")
        assert (await operator.page("/healthz"))[0] == 200
        assert await operator.metric("marketfeed_operator_api_requests_total", status="403") == 0
        assert '"Forbidden' not in operator.log.read_text()
