"""Going away: in any order, and without hanging."""

from __future__ import annotations

import secrets
import time

import pytest
from tests.e2e.cluster.conftest import delete_namespace, install, make_namespace
from tests.e2e.cluster.feeds import RELEASE, Feed, manifest
from tests.e2e.cluster.kube import Cluster

pytestmark = [pytest.mark.timeout(600)]


def test_uninstall_and_namespace_delete_do_not_hang(cluster: Cluster) -> None:
    """The operator is removed first, the feed still there; then the namespace goes with all that is in it."""
    inside = make_namespace(cluster, f"mf-gone-{secrets.token_hex(3)}")
    install(inside)
    inside.apply(manifest("left", rate=100, symbols=5))
    Feed(inside, "left").ready_within(120)
    begun = time.monotonic()
    inside.helm("uninstall", RELEASE, "--wait", "--timeout", "2m")
    print(f"\nuninstalled after {time.monotonic() - begun:.1f} s")
    left = inside.get("marketfeed", "left")
    assert "finalizers" not in left["metadata"], "the CRD and its resources stay, and nothing holds them"
    took_s = delete_namespace(inside)
    print(f"namespace gone after {took_s:.1f} s")
    assert cluster.find("crd", "marketfeeds.marketfeed.dev"), "helm keeps the CRD"
