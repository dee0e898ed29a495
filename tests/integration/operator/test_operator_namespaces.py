"""Which namespaces are served, with the rights that the chart gives."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.integration.operator.control_plane import ControlPlane
from tests.integration.operator.plane import Admin, FakeKubelet, eventually, feed, make_namespace, replica
from tests.integration.operator.rights import install

from marketfeed_operator.kinds import BY_NAME

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
SERVICE = BY_NAME["Service"]


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
