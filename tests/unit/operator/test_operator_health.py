"""When the operator says that it should be restarted."""

from __future__ import annotations

from marketfeed_operator.health import Limits, Vital, troubles

LIMITS = Limits(renewal_s=15.0, watch_s=240.0, queue_s=180.0, blind_s=300.0)


def test_a_replica_that_waits_is_healthy() -> None:
    """Without the Lease there is nothing to judge."""
    assert troubles(Vital(), LIMITS) == []


def test_a_working_leader_is_healthy() -> None:
    """Bookmarks each minute, renewals each two seconds, nobody waiting."""
    assert troubles(Vital(True, 2.0, {"pods": 60.0}, 0.5), LIMITS) == []


def test_each_freeze_is_named() -> None:
    """A silent watch, a stuck queue and a Lease that is not renewed each make one sentence."""
    found = troubles(Vital(True, 16.0, {"pods": 241.0, "jobs": 10.0}, 181.0), LIMITS)
    assert len(found) == 3
    assert "watch of pods" in found[0]
    assert "waited" in found[1]
    assert "Lease" in found[2]


def test_a_namespace_that_was_not_seen_whole_for_long_is_named_with_the_reason() -> None:
    """One that is seen is not; where nothing at all may be read the sentence says which right is missing."""
    vital = Vital(True, blind_s={"a": 0.3, "b": 301.0}, unreadable={"b": "403: no right"})
    assert troubles(vital, LIMITS) == ["b has not been watched whole for 301 s: 403: no right"]
    assert troubles(Vital(True, blind_s={"a": 299.0}), LIMITS) == []
