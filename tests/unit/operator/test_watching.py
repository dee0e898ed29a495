"""When the watches may be read, and what becomes of a namespace that may not be watched."""

from __future__ import annotations

import asyncio
from typing import Any

import kopf
import pytest

from marketfeed_operator.cluster_errors import Forbidden, Unavailable
from marketfeed_operator.handlers import Bridge
from marketfeed_operator.kinds import MARKETFEED, WATCHED_KINDS, Kind
from marketfeed_operator.settings import OperatorSettings
from marketfeed_operator.watches import Watches
from marketfeed_operator.watching import Watching

NO_RIGHT = "no right"


async def nobody() -> kopf.AiohttpSession:
    raise AssertionError("nobody logs in here")


class Feeds:
    """The API server's list of feeds in one namespace; `forbidden` lets nothing be listed."""

    def __init__(self, *feeds: dict[str, Any], forbidden: bool = False) -> None:
        self.feeds = list(feeds)
        self.down = False
        self.forbidden = forbidden
        self.looks = 0
        self.looked_often = asyncio.Event()

    async def list_metadata(self, kind: Kind, namespace: str, selector: str) -> list[dict[str, Any]]:
        assert (kind, namespace, selector) == (MARKETFEED, "b", "")
        if self.down:
            raise Unavailable("GET", 503, "later")
        return self.feeds

    async def check_list(self, kind: Kind, namespace: str) -> None:
        self.looks += 1
        if self.looks % 5 == 0:
            self.looked_often.set()
        if self.forbidden:
            raise Forbidden("GET", 403, NO_RIGHT)

    async def serves(self, kind: Kind) -> bool:
        return True


def watching_of(cluster: Any, begun: list[str | None] | None = None) -> Watching:
    settings = OperatorSettings(namespaces=("a", "b"), namespace_retry_s=0.01)
    told = [] if begun is None else begun
    return Watching(cluster, settings, "b", lambda change: None, told.append)


def begin(watching: Watching) -> Bridge:
    """As if kopf had begun and shown nothing yet."""
    between = Bridge(tell=lambda change: None, log_in=nobody)
    watching._bridge, watching._loop = between, asyncio.get_running_loop()
    watching._checked_empty_at = float("-inf")
    return between


async def set_aside(watching: Watching, cluster: Feeds) -> None:
    """Have it run for five looks."""
    over = asyncio.Event()
    cluster.looked_often.clear()
    running = asyncio.create_task(watching.run(over))
    async with asyncio.timeout(10.0):
        await cluster.looked_often.wait()
    over.set()
    await running


async def test_nothing_can_be_read_while_nothing_is_watched() -> None:
    """Between two leaderships a read says so in place of showing an empty cluster."""
    watching = watching_of(None)
    with pytest.raises(Unavailable):
        await watching.snapshot(("b", "x"))
    assert watching.ages_s() == {}


async def test_nothing_can_be_read_before_the_indices_are_full() -> None:
    """After a restart of kopf, half an index must not look like a feed whose children are all gone."""
    watching = watching_of(Feeds({}))
    between = begin(watching)
    await watching._note_if_empty()
    with pytest.raises(Unavailable):
        await watching.snapshot(("b", "x"))
    between.full = True
    assert (await watching.snapshot(("b", "x"))).feed is None


async def test_where_there_is_no_feed_the_indices_are_full_without_an_event() -> None:
    """A feed that went with the last event unseen can be forgotten; a server that is away proves nothing."""
    cluster = Feeds()
    cluster.down = True
    watching = watching_of(cluster)
    begin(watching)
    await watching._note_if_empty()
    with pytest.raises(Unavailable):
        await watching.snapshot(("b", "x"))
    cluster.down = False
    watching._checked_empty_at = float("-inf")
    await watching._note_if_empty()
    assert (await watching.snapshot(("b", "x"))).feed is None


async def test_a_namespace_that_may_not_be_listed_is_set_aside_and_looked_at_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No kopf is begun for it; its feeds count as gone, which is said once however often it is looked at."""
    cluster = Feeds(forbidden=True)
    begun: list[str | None] = []
    watching = watching_of(cluster, begun)
    await set_aside(watching, cluster)
    assert NO_RIGHT in watching.unreadable
    assert (await watching.snapshot(("b", "x"))).feed is None
    assert begun == ["b"]
    assert ["cannot be watched" in record.message for record in caplog.records] == [True]
    assert watching._bridge is None


async def test_a_namespace_is_back_only_when_each_of_its_watches_goes() -> None:
    """A Role that lets everything be listed and not watched would else have it back and lost by turns."""
    cluster = Feeds(forbidden=True)
    watching = watching_of(cluster)
    await set_aside(watching, cluster)
    between = begin(watching)
    between.full = True
    for kind in WATCHED_KINDS:
        watching.heard(kind.plural)
    watching._note_if_full()
    assert watching.unreadable
    with pytest.raises(Unavailable):
        await watching.snapshot(("b", "x"))
    watching.heard(MARKETFEED.plural)
    watching._note_if_full()
    assert watching.unreadable == ""
    assert (await watching.snapshot(("b", "x"))).feed is None


async def test_a_request_of_kopf_that_is_forbidden_ends_the_watching() -> None:
    """kopf would end by it, or live on without that watch."""
    watching = watching_of(Feeds())
    watching.refused("GET /api/v1/namespaces/b/pods (watch)")
    dead: Any = None
    with pytest.raises(Forbidden, match="pods"):
        watching._restart_if_blind(dead)


async def test_what_is_set_aside_does_not_count_as_blind_beside_others_and_does_alone() -> None:
    """No restart of the process gives rights, but a replica that can read nothing at all must say so."""
    cluster: Any = Feeds(forbidden=True)
    settings = OperatorSettings(namespaces=("a", "b"), namespace_retry_s=0.01)
    watches = Watches(cluster, settings, lambda change: None, lambda namespace: None)
    first, second = watches._of.values()
    for one in (first, second):
        one._full_at -= 100.0
    assert set(watches.blind_s()) == {"a", "b"}
    await set_aside(second, cluster)
    assert set(watches.blind_s()) == {"a"}
    assert set(watches.unreadable()) == {"b"}
    await set_aside(first, cluster)
    assert set(watches.blind_s()) == {"a", "b"}
    assert min(watches.blind_s().values()) >= 100.0


async def test_a_view_that_is_full_is_not_blind() -> None:
    """The age begins anew with each look at a full view, and grows without one."""
    watching = watching_of(Feeds())
    watching._full_at -= 100.0
    between = begin(watching)
    watching._note_if_full()
    assert watching.blind_s() >= 100.0
    between.full = True
    watching._note_if_full()
    assert watching.blind_s() < 10.0
