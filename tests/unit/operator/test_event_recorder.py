"""Kubernetes Events: equal ones share a name, and a talkative feed is held back."""

from __future__ import annotations

from datetime import UTC, datetime

from marketfeed_operator.event_recorder import Budget, FeedEvent, event_body, event_name

FEED = {
    "apiVersion": "marketfeed.dev/v1alpha1",
    "kind": "MarketFeed",
    "metadata": {"name": "x", "namespace": "demo", "uid": "u1"},
}


def test_equal_events_have_one_name_and_others_have_their_own() -> None:
    """The name is a function of the feed's uid, type, reason and note."""
    said = FeedEvent("Normal", "Planned", "2 symbols move")
    assert event_name(FEED["metadata"], said) == event_name(
        FEED["metadata"], FeedEvent("Normal", "Planned", "2 symbols move")
    )
    others = [
        event_name(FEED["metadata"], FeedEvent("Warning", "Planned", "2 symbols move")),
        event_name(FEED["metadata"], FeedEvent("Normal", "Planned", "3 symbols move")),
        event_name({**FEED["metadata"], "uid": "u2"}, said),
    ]
    assert len({event_name(FEED["metadata"], said), *others}) == 4


def test_a_note_fits_what_the_api_server_takes() -> None:
    """A longer note is cut and says so."""
    body = event_body(FEED, "n", FeedEvent("Normal", "Planned", "s" * 5000), "pod-1", datetime.now(UTC))
    assert len(body["note"]) == 1000
    assert body["note"].endswith("…")
    assert body["reportingController"] == "marketfeed.dev/operator"


def test_a_talkative_feed_is_held_back_and_others_are_not() -> None:
    """A burst of 25, then one a minute, for each feed alone."""
    budget = Budget(burst=25, refill_s=60.0)
    assert sum(budget.take("a", 0.0) for _ in range(100)) == 25
    assert budget.take("b", 0.0)
    assert sum(budget.take("a", 120.0) for _ in range(10)) == 2
    budget.forget("a")
    assert budget.take("a", 120.0)
