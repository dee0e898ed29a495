"""A real API server with controllers and etcd, once for a session; a namespace for each test."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.integration.operator.control_plane import ControlPlane, Missing
from tests.integration.operator.plane import Admin, FakeKubelet, connect, make_namespace


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """The control plane."""
    try:
        running = ControlPlane(tmp_path_factory.mktemp("plane"))
    except Missing as error:
        pytest.skip(f"{error}; `make cluster` builds what a cluster needs")
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
async def admin(plane: ControlPlane) -> AsyncIterator[Admin]:
    """A fresh namespace with an administrator's hands, and the CustomResourceDefinition served."""
    cluster = await connect(plane.kubeconfig)
    await plane.install_crd(cluster)
    try:
        yield await make_namespace(cluster, f"t-{secrets.token_hex(4)}")
    finally:
        await cluster.close()
        # aiohttp closes TLS connections in the next turns of the loop.
        await asyncio.sleep(0.1)
        os.environ.pop("KUBECONFIG", None)


@pytest.fixture
async def kubelet(admin: Admin) -> AsyncIterator[FakeKubelet]:
    """Somebody who makes the namespace's pods run."""
    fake = FakeKubelet(admin)
    running = asyncio.get_running_loop().create_task(fake.run())
    yield fake
    running.cancel()
    await asyncio.wait({running})


@pytest.fixture
def settings(admin: Admin, tmp_path: Path) -> dict[str, object]:
    """Settings of a replica that serves the test's namespace only."""
    return {"namespaces": admin.namespace, "lease_namespace": admin.namespace, "log_level": "debug"}
