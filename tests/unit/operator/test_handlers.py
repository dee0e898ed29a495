"""What of kopf is used, and what is told on."""

from __future__ import annotations

from typing import Any

import kopf
import pytest

from marketfeed_operator.handlers import Bridge, Change, configure, registry_of
from marketfeed_operator.kinds import WATCHED_KINDS
from marketfeed_operator.settings import OperatorSettings


async def nobody() -> kopf.AiohttpSession:
    raise AssertionError("nobody logs in here")


def bridge(told: list[Change]) -> Bridge:
    return Bridge(tell=told.append, log_in=nobody)


def test_no_handler_is_used_for_which_kopf_writes_onto_resources() -> None:
    """Events and indices only: change handlers, daemons and timers would add finalizers and annotations."""
    registry: Any = registry_of(bridge([]), OperatorSettings())
    assert list(registry._changing.get_all_handlers()) == []
    assert list(registry._spawning.get_all_handlers()) == []
    assert list(registry._webhooks.get_all_handlers()) == []
    assert len(list(registry._watching.get_all_handlers())) == 1 + len(WATCHED_KINDS)


def test_kopf_posts_nothing_and_waits_for_nothing_for_long() -> None:
    """No events, no scanning, bounded requests, children by label only."""
    settings = kopf.OperatorSettings()
    configure(settings, OperatorSettings(request_timeout_s=7.0, watch_silence_s=33.0))
    assert not settings.posting.enabled
    assert settings.scanning.disabled
    assert settings.networking.request_timeout == 7.0
    assert settings.watching.inactivity_timeout == 33.0
    assert isinstance(settings.watching.server_timeout, int)
    assert len(settings.watching.label_selectors) == len(WATCHED_KINDS)


def event(kind: str | None, **metadata: Any) -> dict[str, Any]:
    labels = {"marketfeed.dev/feed": "x"}
    whole = {"name": "x-mds", "namespace": "n", "uid": "u", "labels": labels, **metadata}
    return {"type": kind, "object": {"metadata": whole, "spec": {}}}


async def tell(registry: Any, name: str, raw: dict[str, Any]) -> None:
    (handler,) = [one for one in registry._watching.get_all_handlers() if one.id == name]
    await handler.fn(event=raw, body=kopf.Body(raw["object"]))


async def test_children_are_told_on_when_they_change_and_only_then() -> None:
    """Not by the first listing, not by an event that shows nothing new, always when they go."""
    told: list[Change] = []
    registry = registry_of(bridge(told), OperatorSettings())
    await tell(registry, "event_services", event(None))
    await tell(registry, "event_services", event("MODIFIED", resourceVersion="2"))
    assert told == []
    await tell(registry, "event_services", event("MODIFIED", labels={"marketfeed.dev/feed": "x", "a": "b"}))
    await tell(registry, "event_services", event("DELETED"))
    assert told == [Change(("n", "x"), "Service", "x-mds"), Change(("n", "x"), "Service", "x-mds", gone=True)]


async def test_a_later_listing_tells_what_changed_meanwhile() -> None:
    """After a watch had to start anew, an object that differs from what was known is told on; an equal one is not."""
    told: list[Change] = []
    registry = registry_of(bridge(told), OperatorSettings())
    await tell(registry, "event_services", event(None))
    await tell(registry, "event_services", event(None, resourceVersion="5"))
    assert told == []
    await tell(registry, "event_services", event(None, labels={"marketfeed.dev/feed": "x", "a": "b"}))
    assert told == [Change(("n", "x"), "Service", "x-mds")]


async def test_a_feed_is_told_on_by_the_first_listing_and_when_its_user_changes_it() -> None:
    """Our own status writes are not told on."""
    told: list[Change] = []
    registry = registry_of(bridge(told), OperatorSettings())
    for raw in (
        event(None, generation=1),
        event("MODIFIED", generation=1, resourceVersion="9"),
        event("MODIFIED", generation=2),
        event("DELETED", generation=2),
    ):
        await tell(registry, "feed_event", raw)
    assert [(change.urgent, change.gone) for change in told] == [(True, False), (True, False), (True, True)]


@pytest.mark.parametrize("name", ["feed_event", *(f"event_{kind.plural}" for kind in WATCHED_KINDS)])
async def test_the_first_event_of_any_kind_says_that_the_indices_are_full(name: str) -> None:
    """kopf handles no event before everything is indexed, so the first one opens the indices to reconciles."""
    between = bridge([])
    registry = registry_of(between, OperatorSettings())
    assert not between.full
    await tell(registry, name, event(None))
    assert between.full
