"""When a child is applied again and which children go."""

from __future__ import annotations

from typing import Any

import pytest

from marketfeed_operator.child_writer import Applied, ChildWriter, must_apply, superfluous
from marketfeed_operator.kinds import BY_NAME
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

    def __init__(self) -> None:
        self.applied: list[str] = []

    async def apply(self, wanted: dict[str, Any]) -> dict[str, Any]:
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
