"""When the operator says that it should be restarted."""

from __future__ import annotations

import aiohttp
import pytest

from marketfeed_operator.health import HealthServer, Limits, Vital, lacks, troubles

LIMITS = Limits(contact_ready_s=30.0, contact_dead_s=600.0, renewal_s=15.0, watch_s=240.0, queue_s=180.0, blind_s=300.0)


def test_a_replica_that_waits_is_healthy() -> None:
    """While the API server answers it about the Lease there is nothing else to judge."""
    assert troubles(Vital(contact_age_s=2.0), LIMITS) == []
    assert lacks(Vital(contact_age_s=2.0), LIMITS) == []


def test_a_working_leader_is_healthy() -> None:
    """Bookmarks each minute, renewals each two seconds, nobody waiting."""
    vital = Vital(True, renewal_age_s=2.0, watch_ages_s={"pods": 60.0}, queue_oldest_s=0.5)
    assert troubles(vital, LIMITS) == []


def test_each_freeze_is_named() -> None:
    """A silent watch, a stuck queue and a Lease that is not renewed each make one sentence."""
    ages = {"pods": 241.0, "jobs": 10.0}
    found = troubles(Vital(True, renewal_age_s=16.0, watch_ages_s=ages, queue_oldest_s=181.0), LIMITS)
    assert len(found) == 3
    assert "watch of pods" in found[0]
    assert "waited" in found[1]
    assert "Lease" in found[2]


def test_a_namespace_that_was_not_seen_whole_for_long_is_named_with_the_reason() -> None:
    """One that is seen is not; where nothing at all may be read the sentence says which right is missing."""
    vital = Vital(True, blind_s={"a": 0.3, "b": 301.0}, unreadable={"b": "403: no right"})
    assert troubles(vital, LIMITS) == ["b has not been watched whole for 301 s: 403: no right"]
    assert troubles(Vital(True, blind_s={"a": 299.0}), LIMITS) == []


@pytest.mark.parametrize("leading", [False, True])
def test_a_replica_that_the_api_server_does_not_answer_is_not_ready_and_later_not_healthy(leading: bool) -> None:
    """One that waits would be missed only when it is needed, and one that leads has lost the Lease by then."""
    said = ["the API server has not answered about the Lease for {} s"]
    assert lacks(Vital(leading, contact_age_s=30.0), LIMITS) == []
    assert lacks(Vital(leading, contact_age_s=31.0), LIMITS) == [one.format(31) for one in said]
    assert troubles(Vital(leading, contact_age_s=600.0), LIMITS) == []
    assert troubles(Vital(leading, contact_age_s=601.0), LIMITS) == [one.format(601) for one in said]


def test_a_replica_that_has_never_been_answered_is_not_ready() -> None:
    """A new pod that cannot reach the API server is shown as such by the rollout that made it."""
    assert lacks(Vital(reached=False, contact_age_s=0.1), LIMITS) != []
    assert troubles(Vital(reached=False, contact_age_s=0.1), LIMITS) == []


async def test_a_replica_that_leads_no_more_shows_no_watches_and_no_queue() -> None:
    """What it showed while it led would go on to raise alerts, or to hide that nobody watches."""
    vital = Vital(True, watch_ages_s={"pods": 60.0}, queue_oldest_s=40.0)
    server = HealthServer(lambda: vital, LIMITS, dict)
    port = await server.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session:

            async def shown() -> str:
                async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                    return await answer.text()

            leading = await shown()
            assert 'marketfeed_operator_watch_age_seconds{kind="pods"} 60.0' in leading
            assert "marketfeed_operator_queue_oldest_seconds 40.0" in leading
            vital = Vital()
            waiting = await shown()
            assert "marketfeed_operator_watch_age_seconds{" not in waiting
            assert "marketfeed_operator_queue_oldest_seconds 0.0" in waiting
    finally:
        await server.close()
