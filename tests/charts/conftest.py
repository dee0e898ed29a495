"""A control plane without nodes, for tests that change something in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from localcluster.control_plane import ControlPlane, control_plane


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """An API server of the tests' own, with the namespace `md` that renderings are for."""
    with control_plane(tmp_path_factory.mktemp("plane")) as plane:
        plane.kubectl("create", "namespace", "md")
        yield plane
