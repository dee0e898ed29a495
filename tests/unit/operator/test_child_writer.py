"""When a child is applied again and which children go."""

from __future__ import annotations

from typing import Any

import pytest

from marketfeed_operator.child_writer import Applied, ChildWriter, must_apply, superfluous
from marketfeed_operator.cluster_errors import ClusterError, of_status
from marketfeed_operator.kinds import BY_NAME, POD_MONITOR, Kind
from marketfeed_operator.observed_objects import Observed, observe

APPLIED = Applied("intent", "print", "10")


def seen(
    kind: str = "Deployment", name: str = "x-mds", print_: str = "print", version: str = "10", **meta: Any
) -> Observed:
    metadata = {"name": name, "namespace": "demo", "uid": f"uid-{name}", "ownerReferences": [{"uid": "feed"}], **meta}
    child = observe(BY_NAME[kind], {"metadata": metadata})
    return Observed(kind, "demo", name, child.uid, "x", version, print_, "", child.body)


@pytest.mark.parametrize(
    ("intent", "applied", "watch", "expected"),
    [
        ("intent", None, None, True),
        ("intent", None, seen(), True),
        ("other", APPLIED, seen(), True),
        ("intent", APPLIED, seen(), False),
        ("intent", APPLIED, seen(version="12"), False),
        ("intent", APPLIED, None, True),
        ("intent", APPLIED, seen(print_="changed", version="11"), True),
        ("intent", APPLIED, seen(print_="before", version="9"), False),
        ("intent", APPLIED, seen(print_="changed", version="opaque"), True),
    ],
    ids=[
        "new",
        "new leader",
        "new intent",
        "same",
        "status only",
        "deleted",
        "drift",
        "watch is behind",
        "opaque version",
    ],
)
def test_a_child_is_applied_when_it_differs_and_left_alone_otherwise(
    intent: str, applied: Applied | None, watch: Observed | None, expected: bool
) -> None:
    """New, deleted and changed children are applied; status changes and a watch that lags behind cause no write."""
    assert must_apply(intent, applied, watch, watched=True) is expected


def test_a_kind_that_is_not_watched_is_applied_when_its_intent_changes() -> None:
    """A PodMonitor's absence from the watch says nothing."""
    assert not must_apply("intent", APPLIED, None, watched=False)
    assert must_apply("other", APPLIED, None, watched=False)


@pytest.mark.parametrize("status", [None, 403])
async def test_a_kind_that_is_not_watched_is_applied_again_with_each_resync(status: int | None) -> None:
    """A PodMonitor that somebody changed or deleted is mended then, and one that was refused is tried again then."""
    cluster: Any = Stored(**({"x": of_status("PATCH", status, "no")} if status else {}))
    writer, key = ChildWriter(cluster), ("n", "x")
    wanted = [child("PodMonitor", "x"), child("Service", "x-mds")]
    for expected in (2, 0, 0):
        cluster.tried.clear()
        await writer.converge(key, "feed", wanted, frozenset(), writer.view(key, ()))
        assert len(cluster.tried) == expected
    for _ in range(2):
        writer.recheck_unwatched(key)
        await writer.converge(key, "feed", wanted, frozenset(), writer.view(key, ()))
        await writer.converge(key, "feed", wanted, frozenset(), writer.view(key, ()))
    assert cluster.tried == ["x", "x"]


def test_only_this_feeds_own_children_go_and_deployments_first() -> None:
    """A stranger's object with our labels, an earlier feed's child, one that is going and pods all stay."""
    children = [
        seen("ConfigMap", "x-old"),
        seen("Deployment", "x-ingest-1-0"),
        seen("Deployment", "x-mds"),
        seen("Deployment", "strangers", ownerReferences=[]),
        seen("Deployment", "earlier", ownerReferences=[{"uid": "feed-before"}]),
        seen("Deployment", "going", deletionTimestamp="now"),
        seen("Pod", "x-mds-abc"),
    ]
    gone = superfluous("feed", [("Deployment", "x-mds")], children)
    assert [child.name for child in gone] == ["x-ingest-1-0", "x-old"]


class Stored:
    """The API server's part: numbers what is applied."""

    def __init__(self, **errors: ClusterError) -> None:
        self.applied: list[str] = []
        self.tried: list[str] = []
        self.errors = errors
        self.there: dict[str, dict[str, Any]] = {}

    def _answer(self, name: str) -> None:
        self.tried.append(name)
        if error := self.errors.get(name):
            raise error

    async def find_metadata(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        return self.there.get(name)

    async def merge(self, kind: Kind, namespace: str, name: str, change: dict[str, Any]) -> dict[str, Any]:
        if kind is POD_MONITOR:
            assert change == {}, "it is looked at, not changed"
            if name not in self.there:
                raise of_status("PATCH", 404, "not there")
            return self.there[name]
        self._answer(name)
        return {}

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> bool:
        self._answer(name)
        return True

    async def apply(self, wanted: dict[str, Any]) -> dict[str, Any]:
        self._answer(wanted["metadata"]["name"])
        self.applied.append(wanted["metadata"]["name"])
        return {**wanted, "metadata": {**wanted["metadata"], "uid": "u", "resourceVersion": str(len(self.applied))}}


def child(kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": BY_NAME[kind].group_version, "kind": kind, "metadata": {"name": name, "namespace": "n"}}


async def test_what_a_fresh_list_does_not_show_is_applied_again() -> None:
    """A child that is gone although the watch still shows it is forgotten, and so applied by the next reconcile."""
    cluster: Any = Stored()
    writer, key = ChildWriter(cluster), ("n", "x")
    wanted = [child("Service", "x-mds"), child("ConfigMap", "x-plan")]
    await writer.converge(key, "feed", wanted, frozenset(), ())
    ghosts = writer.view(key, ())
    assert {ghost.name for ghost in ghosts} == {"x-mds", "x-plan"}
    await writer.converge(key, "feed", wanted, frozenset(), ghosts)
    assert cluster.applied == ["x-mds", "x-plan"]
    assert not writer.missing(key, frozenset({("Service", "x-mds"), ("ConfigMap", "x-plan")}))
    assert writer.missing(key, frozenset({("ConfigMap", "x-plan")}))
    await writer.converge(key, "feed", wanted, frozenset(), ghosts)
    assert cluster.applied == ["x-mds", "x-plan", "x-mds"]


async def test_our_own_write_counts_until_the_watch_shows_it() -> None:
    """An older view of a child is replaced by what was written; a newer one stands."""
    cluster: Any = Stored()
    writer, key = ChildWriter(cluster), ("n", "x")
    await writer.converge(key, "feed", [child("ConfigMap", "x-other"), child("ConfigMap", "x-plan")], frozenset(), ())
    shown = writer.view(key, [seen("ConfigMap", "x-plan", version="1")])
    assert {one.name: one.version for one in shown} == {"x-other": "1", "x-plan": "2"}
    newer = seen("ConfigMap", "x-plan", version="7")
    assert newer in writer.view(key, [newer])


@pytest.mark.parametrize("status", [403, 404, 409, 500, 503, 0])
async def test_one_child_that_fails_keeps_no_other_from_being_written_or_deleted(status: int) -> None:
    """Whatever the API server answers to one (a webhook that is down gives 500), all the others are tried."""
    cluster: Any = Stored(b=of_status("PATCH", status, "no"), gone=of_status("DELETE", 500, "no"))
    writer = ChildWriter(cluster)
    wanted = [child("Service", name) for name in ("a", "b", "c")]
    going = [seen("Deployment", "gone"), seen("Deployment", "too")]
    failed = await writer.converge(("n", "x"), "feed", wanted, frozenset(), going)
    assert cluster.tried == ["a", "b", "c", "gone", "too"]
    assert [(*which, error.status) for which, error in failed.items()] == [
        ("Service", "b", status),
        ("Deployment", "gone", 500),
    ]


async def test_a_server_that_does_not_answer_is_not_asked_for_ever() -> None:
    """After the second time-out the rest is left to the next reconcile, which tries all that failed again."""
    silent = of_status("PATCH", 0, "timed out")
    cluster: Any = Stored(a=silent, b=silent)
    writer = ChildWriter(cluster)
    wanted = [child("Service", name) for name in ("a", "b", "c")]
    failed = await writer.converge(("n", "x"), "feed", wanted, frozenset(), [seen("Deployment", "gone")])
    assert (cluster.tried, len(failed)) == (["a", "b"], 2)
    cluster.errors.clear()
    assert await writer.converge(("n", "x"), "feed", wanted, frozenset(), ()) == {}
    assert cluster.applied == ["a", "b", "c"]


async def test_a_pod_that_cannot_be_told_of_the_plan_stops_no_other() -> None:
    """A missing right to write pods comes back as what failed; a pod that is gone is no failure."""
    cluster: Any = Stored(a=of_status("PATCH", 403, "no"), b=of_status("PATCH", 404, "gone"))
    pods = [seen("Pod", name) for name in ("a", "b", "c")]
    failed = await ChildWriter(cluster).announce_plan(pods, 7)
    assert cluster.tried == ["a", "b", "c"]
    assert list(failed) == [("Pod", "a")]


OURS = {"app.kubernetes.io/managed-by": "marketfeed-operator", "marketfeed.dev/feed": "x"}


@pytest.mark.parametrize("kind", ["Service", "PodMonitor"])
@pytest.mark.parametrize(
    ("metadata", "ours"),
    [
        ({}, False),
        ({"ownerReferences": [{"kind": "Deployment", "name": "x"}]}, False),
        ({"ownerReferences": [{"kind": "MarketFeed", "name": "y"}]}, False),
        ({"labels": {"marketfeed.dev/feed": "x"}}, False),
        ({"labels": {**OURS, "marketfeed.dev/feed": "y"}}, False),
        ({"ownerReferences": [{"kind": "MarketFeed", "name": "x", "uid": "earlier"}]}, True),
        ({"labels": OURS}, True),
    ],
    ids=["nobody's", "another kind's", "another feed's", "labelled by a user", "orphan of another", "owned", "orphan"],
)
async def test_an_object_of_somebody_else_is_not_taken_over(kind: str, metadata: dict[str, Any], ours: bool) -> None:
    """It is named in the refusal and left as it is; once it is out of the way the child is made (by the next resync,
    where no watch shows it)."""
    cluster: Any = Stored()
    cluster.there = {"x-mds": {"metadata": {"name": "x-mds", **metadata}}}
    writer, key = ChildWriter(cluster), ("n", "x")
    wanted = [child(kind, "x-mds"), child("ConfigMap", "x-plan")]
    failed = await writer.converge(key, "feed", wanted, frozenset(), ())
    assert cluster.applied == (["x-mds", "x-plan"] if ours else ["x-plan"])
    assert [(error.status, f"{kind} n/x-mds" in error.message) for error in failed.values()] == (
        [] if ours else [(409, True)]
    )
    cluster.there = {}
    writer.recheck_unwatched(key)
    assert await writer.converge(key, "feed", wanted, frozenset(), writer.view(key, ())) == {}
    assert set(cluster.applied) == {"x-mds", "x-plan"}
