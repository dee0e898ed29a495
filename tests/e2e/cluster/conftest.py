"""The cluster under test, and the product installed in it by helm as a user would.

`KUBECONFIG` names the cluster; without it the local one that `make cluster` started is used. `E2E_LEVEL` (1 or 2)
chooses the depth: 1 is what every change is held to, 2 is everything.
"""

from __future__ import annotations

import functools
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.cluster.feeds import RELEASE, Feed, manifest
from tests.e2e.cluster.kube import Cluster, Object

ROOT = Path(__file__).parents[3]
CACHE = Path(os.environ.get("MARKETFEED_CACHE", Path.home() / ".cache" / "marketfeed")) / "cluster"
LEVEL = int(os.environ.get("E2E_LEVEL", "1"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what belongs to a deeper level than the one asked for."""
    for item in items:
        marker = item.get_closest_marker("level")
        if marker is not None and marker.args[0] > LEVEL:
            item.add_marker(pytest.mark.skip(reason=f"level {marker.args[0]}; this is a run of level {LEVEL}"))


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster, seen from its default namespace."""
    kubeconfig = Path(os.environ.get("KUBECONFIG") or CACHE / "run" / "kubeconfig")
    if not kubeconfig.exists():
        pytest.fail(f"no cluster: {kubeconfig} is not there. Run `make cluster`, or set KUBECONFIG")
    found = Cluster(kubeconfig, tools=CACHE / "bin")
    found.kubectl("get", "--raw", "/readyz")
    return found


def make_namespace(cluster: Cluster, name: str) -> Cluster:
    """A namespace that refuses every pod that is not restricted."""
    profile = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": profile}})
    return cluster.within(name)


def delete_namespace(cluster: Cluster, timeout_s: float = 120) -> float:
    """Delete the namespace that `cluster` looks into; seconds until it was gone."""
    begun = time.monotonic()
    cluster.kubectl("delete", "namespace", cluster.namespace, f"--timeout={timeout_s:.0f}s", timeout_s=timeout_s + 10)
    return time.monotonic() - begun


def install(cluster: Cluster, *options: str) -> float:
    """`helm install` of everything into the namespace, with the locally made images; seconds until all is ready."""
    begun = time.monotonic()
    values = ROOT / "k8s" / "cluster" / "values-local.yaml"
    cluster.helm(
        "upgrade", "--install", RELEASE, str(ROOT / "charts" / "marketfeed"), "-f", str(values), *options,
        "--take-ownership", "--wait", "--timeout", "5m", timeout_s=330,
    )  # fmt: skip
    return time.monotonic() - begun


@pytest.fixture(scope="session")
def installation(cluster: Cluster) -> Iterator[Cluster]:
    """A namespace with operator, Kafka, Valkey and PostgreSQL, all ready; removed at the end."""
    inside = make_namespace(cluster, f"mf-e2e-{secrets.token_hex(3)}")
    print(f"\ninstalled and ready after {install(inside):.1f} s in {inside.namespace}")
    yield inside
    if os.environ.get("E2E_KEEP"):
        return
    for feed in inside.objects("marketfeeds"):
        inside.kubectl("delete", "marketfeed", feed["metadata"]["name"])
    inside.helm("uninstall", RELEASE, "--wait", "--timeout", "2m")
    delete_namespace(inside)


@pytest.fixture
def new_feed(installation: Cluster) -> Iterator[Callable[[Object], Feed]]:
    """Applies MarketFeeds, and deletes them when the test ends."""
    made: list[Feed] = []

    def apply(resource: Object) -> Feed:
        installation.apply(resource)
        made.append(Feed(installation, resource["metadata"]["name"]))
        return made[-1]

    yield apply
    if os.environ.get("E2E_KEEP"):
        return
    for feed in made:
        installation.kubectl("delete", "marketfeed", feed.name, "--ignore-not-found")
    for feed in made:
        installation.until(f"the pods of {feed.name} are gone", functools.partial(_gone, feed), 90)


def _gone(feed: Feed) -> bool:
    """Whether it has no pod any more, not even one on its way out."""
    return not feed.cluster.objects("pods", feed.selector)


@pytest.fixture(scope="module")
def running_feed(installation: Cluster, request: pytest.FixtureRequest) -> Iterator[Feed]:
    """A small feed that runs, shared by the tests of a module, named after it."""
    name = "feed-" + request.module.__name__.rpartition("test_")[2].replace("_", "-")
    installation.apply(manifest(name))
    feed = Feed(installation, name)
    feed.ready_within(90)
    yield feed
    if not os.environ.get("E2E_KEEP"):
        installation.kubectl("delete", "marketfeed", name, "--ignore-not-found")
