"""Jobs on a real API server: made anew when what kept them from succeeding is corrected, and never run twice else."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.operator.control_plane import ControlPlane
from tests.integration.operator.plane import DEPLOYMENT, JOB, Admin, FakeKubelet, Object, eventually, feed, replica

from marketfeed_operator.kinds import MARKETFEED

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
FILES = {"history": {"mode": "import", "files": {"configMap": "trades", "paths": ["a.csv"]}}}


def postgres(secret: str) -> Object:
    """spec.postgres with another Secret."""
    return {"postgres": {"urlFrom": {"secretKeyRef": {"name": secret, "key": "url"}}}}


async def history_job(admin: Admin) -> Object | None:
    """The Job that reads the files."""
    names = [name for name in await admin.names(JOB) if "-history-" in name]
    return await admin.get(JOB, names[0]) if names else None


async def reason(admin: Admin, kind: str, wanted: str) -> bool:
    """Whether a condition has a reason."""
    return (await admin.condition("x", kind)).get("reason") == wanted


async def test_a_failed_import_is_tried_again_when_its_secret_is_corrected_and_a_good_one_never(
    plane: ControlPlane, admin: Admin, kubelet: FakeKubelet, settings: dict[str, object], tmp_path: Path
) -> None:
    """The Job's name stays, the Job is another one; once it has succeeded a further Secret leaves it alone."""
    kubelet.fail("history", 2, "marketfeed history: MARKETFEED_POSTGRES: no such database")
    async with replica(tmp_path, plane.kubeconfig, **settings):
        await admin.apply(feed("x", admin.namespace, source=FILES, **postgres("wrong")))
        await eventually(lambda: reason(admin, "Stalled", "HistoryFailed"), 40.0)
        failed = await history_job(admin)
        assert failed is not None
        kubelet.release("history")
        await admin.merge(MARKETFEED, "x", {"spec": postgres("right")})
        await eventually(lambda: reason(admin, "Ready", "Finished"), 40.0)
        good = await history_job(admin)
        assert good is not None
        assert good["metadata"]["name"] == failed["metadata"]["name"]
        assert good["metadata"]["uid"] != failed["metadata"]["uid"]

        before = await admin.names(JOB)
        await admin.merge(MARKETFEED, "x", {"spec": postgres("another")})

        async def prepared_anew() -> bool:
            found = await admin.get(MARKETFEED, "x")
            assert found is not None
            seen = found["status"]["observedGeneration"] == found["metadata"]["generation"]
            settled = await admin.is_condition("x", "Reconciling", "False")
            return seen and settled and await admin.names(JOB) != before

        await eventually(prepared_anew, 40.0)
        assert await history_job(admin) == good


async def test_what_is_deleted_while_a_newer_image_is_prepared_comes_back_with_the_old_one(
    plane: ControlPlane, admin: Admin, kubelet: FakeKubelet, settings: dict[str, object], tmp_path: Path
) -> None:
    """Also by another operator, which has to know what ran before; the newer image follows once all is prepared."""

    async def has_image(image: str) -> bool:
        found = await admin.get(DEPLOYMENT, "x-mds")
        return found is not None and found["spec"]["template"]["spec"]["containers"][0]["image"] == image

    async with replica(tmp_path, plane.kubeconfig, **settings, image="old:1"):
        await admin.apply(feed("x", admin.namespace))
        await eventually(lambda: admin.is_condition("x", "Ready", "True"), 40.0)
        kubelet.hold("prepare", "ContainerCreating")
        await admin.merge(MARKETFEED, "x", {"spec": {"image": "new:1"}})
        await eventually(lambda: reason(admin, "Reconciling", "Preparing"))
        await admin.delete(DEPLOYMENT, "x-mds")
        await eventually(lambda: has_image("old:1"), 10.0)
    await admin.delete(DEPLOYMENT, "x-mds")
    async with replica(tmp_path, plane.kubeconfig, **settings, image="newest:1"):
        await eventually(lambda: has_image("old:1"), 20.0)
        kubelet.release("prepare")
        await eventually(lambda: has_image("new:1"), 20.0)
