"""The periodic look at everything."""

from __future__ import annotations

from typing import Any

from marketfeed_operator.child_writer import ChildWriter, Key
from marketfeed_operator.cluster_errors import of_status
from marketfeed_operator.kinds import Kind
from marketfeed_operator.resync import Resync, by_feed


def test_listed_children_are_sorted_by_their_feed() -> None:
    """Those without a feed and those that are going are nobody's."""
    listed = [
        {"metadata": {"name": "x-mds", "namespace": "n", "labels": {"marketfeed.dev/feed": "x"}}},
        {
            "metadata": {
                "name": "x-old",
                "namespace": "n",
                "labels": {"marketfeed.dev/feed": "x"},
                "deletionTimestamp": "t",
            }
        },
        {"metadata": {"name": "other", "namespace": "n"}},
        {"metadata": {"name": "x-mds", "namespace": "m", "labels": {"marketfeed.dev/feed": "x"}}},
    ]
    assert by_feed("Deployment", listed) == {
        ("n", "x"): {("Deployment", "x-mds")},
        ("m", "x"): {("Deployment", "x-mds")},
    }


class Server:
    """The API server: takes everything, lists nothing."""

    def __init__(self) -> None:
        self.applied = 0

    async def apply(self, wanted: dict[str, Any]) -> dict[str, Any]:
        self.applied += 1
        return {**wanted, "metadata": {**wanted["metadata"], "uid": "u", "resourceVersion": "1"}}

    async def merge(self, kind: Kind, namespace: str, name: str, change: dict[str, Any]) -> dict[str, Any]:
        raise of_status("PATCH", 404, "not there")

    async def list_metadata(self, kind: Kind, namespace: str | None, selector: str) -> list[dict[str, Any]]:
        return []


async def test_a_look_has_what_no_watch_shows_applied_again() -> None:
    """The feed is asked for, and its PodMonitor is among what the reconcile then writes, once."""
    server: Any = Server()
    writer, key = ChildWriter(server), ("n", "x")
    asked: list[Key] = []
    monitor = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": {"name": "x"}}
    await writer.converge(key, "feed", [monitor], frozenset(), ())
    await writer.converge(key, "feed", [monitor], frozenset(), ())
    assert server.applied == 1
    await Resync(server, writer, (), 120.0, lambda key, after_s: asked.append(key)).look([key])
    assert asked == [key]
    await writer.converge(key, "feed", [monitor], frozenset(), ())
    await writer.converge(key, "feed", [monitor], frozenset(), ())
    assert server.applied == 2


class Forbidding(Server):
    """The API server that no longer lets one namespace be listed."""

    async def list_metadata(self, kind: Kind, namespace: str | None, selector: str) -> list[dict[str, Any]]:
        if namespace == "gone":
            raise of_status("GET", 403, "forbidden")
        return []

    async def find_metadata(self, kind: Kind, namespace: str, name: str) -> None:
        return None


async def test_a_namespace_that_cannot_be_listed_hides_no_other() -> None:
    """A child that vanished beside it is noticed at once; of its own feeds nothing is called lost."""
    server: Any = Forbidding()
    writer, here, there = ChildWriter(server), ("here", "x"), ("gone", "x")
    asked: dict[Key, float] = {}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}}
    for key in (here, there):
        await writer.converge(key, "feed", [service], frozenset(), ())
    resync = Resync(server, writer, ("gone", "here"), 120.0, lambda key, after_s: asked.update({key: after_s}))
    await resync.look([here, there])
    assert asked[here] == 0.0
    assert asked[there] > 0.0
