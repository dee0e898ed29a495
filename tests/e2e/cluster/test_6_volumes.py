"""Kafka and PostgreSQL on persistent volumes: their data outlive their pods, and even the release."""

from __future__ import annotations

import functools
import re
import secrets
import time
from collections.abc import Iterator

import pytest
from tests.e2e.cluster.conftest import delete_namespace, install, make_namespace
from tests.e2e.cluster.feeds import RELEASE, Feed, manifest
from tests.e2e.cluster.kube import Cluster, Object, condition

pytestmark = [pytest.mark.level(2), pytest.mark.timeout(600)]

STORES = ("kafka", "postgres")
PERSISTENT = tuple(part for store in STORES for part in ("--set", f"{store}.persistence.enabled=true"))


@pytest.fixture(scope="module")
def inside(cluster: Cluster) -> Iterator[Cluster]:
    """An installation of its own with volumes; skips where the cluster has no default StorageClass."""
    default = "storageclass.kubernetes.io/is-default-class"
    classes = [one["metadata"].get("annotations", {}).get(default) for one in cluster.objects("storageclasses")]
    if "true" not in classes:
        pytest.skip("the cluster has no default StorageClass")
    namespace = make_namespace(cluster, f"mf-kept-{secrets.token_hex(3)}")
    print(f"\ninstalled and ready after {install(namespace, *PERSISTENT):.1f} s")
    yield namespace
    namespace.helm("uninstall", RELEASE, "--wait", "--timeout", "2m", "--ignore-not-found")
    delete_namespace(namespace)


def claims(inside: Cluster) -> dict[str, str]:
    """The claims and their uids; all of them bound."""
    found = inside.objects("pvc")
    assert all(one["status"]["phase"] == "Bound" for one in found)
    return {one["metadata"]["name"]: one["metadata"]["uid"] for one in found}


def replaced(inside: Cluster, store: str, old: Object) -> bool:
    """Whether another pod of the store is ready."""
    pods = inside.pods(f"app.kubernetes.io/name={store}")
    return any(
        condition(pod, "Ready").get("status") == "True" and pod["metadata"]["uid"] != old["metadata"]["uid"]
        for pod in pods
    )


def bars_compared(report: str) -> int:
    """How many bars of the log were compared with PostgreSQL."""
    found = re.search(r"^log = PostgreSQL\s+([\d,]+)", report, re.MULTILINE)
    assert found, report
    return int(found[1].replace(",", ""))


def test_a_deleted_pod_finds_its_data_again(inside: Cluster) -> None:
    """Kafka's and PostgreSQL's pods deleted under load: new pods on the same volumes, nothing lost and no gap."""
    inside.apply(manifest("kept", rate=5_000, symbols=20))
    feed = Feed(inside, "kept")
    feed.ready_within(120)
    before = claims(inside)
    assert sorted(before) == [f"data-{RELEASE}-{store}-0" for store in STORES]
    for store in STORES:
        (old,) = inside.pods(f"app.kubernetes.io/name={store}")
        begun = time.monotonic()
        inside.kubectl("delete", "pod", old["metadata"]["name"], "--wait=false")
        inside.until(f"{store} is ready again", functools.partial(replaced, inside, store, old), 120)
        print(f"\n{store}'s pod deleted, another ready after {time.monotonic() - begun:.1f} s")
        time.sleep(3)  # Some load between the two.
    inside.until("the feed is settled", feed.settled, 120)
    verdict = feed.verify()
    print(verdict.line())
    assert verdict.exact, verdict.report
    assert claims(inside) == before


def test_a_new_release_finds_the_data_of_the_old_one(inside: Cluster) -> None:
    """Feed and release removed, both made anew: the log and the bars of before are there, with a new password.

    The second generator knows nothing of the first, so what was sent is compared from its start on.
    """
    feed = Feed(inside, "kept")
    held = bars_compared(feed.verify().report)
    before = claims(inside)
    password = inside.get("secret", f"{RELEASE}-postgres")["data"]["password"]
    inside.kubectl("delete", "marketfeed", feed.name)
    inside.helm("uninstall", RELEASE, "--wait", "--timeout", "2m", timeout_s=150)
    assert inside.find("secret", f"{RELEASE}-postgres") is None
    print(f"\ninstalled anew after {install(inside, *PERSISTENT):.1f} s")
    assert claims(inside) == before
    assert inside.get("secret", f"{RELEASE}-postgres")["data"]["password"] != password
    inside.apply(manifest("kept", rate=5_000, symbols=20))
    feed.ready_within(120)
    time.sleep(5)  # Some load.
    anew_s = feed.told_by_generator()["start_ms"] // 1000 + 1
    verdict = feed.verify(lost_max=0.01, from_s=anew_s)
    print(verdict.report)
    assert verdict.code == 0, verdict.report
    assert bars_compared(verdict.report) > held
