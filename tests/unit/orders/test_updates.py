"""Followers: their bound, their end, and that they are forgotten; what they are told is in test_orders_pipeline.py."""

from __future__ import annotations

import pytest
from tests.unit.domain.order_tapes import NO_PRICE, T0, desk, limit

from marketfeed.domain.errors import CallRefused, CallStatus
from marketfeed.domain.orders import Side
from marketfeed.orders.updates import Updates

END = CallRefused(CallStatus.UNAVAILABLE, "RELOADING", "come back")


async def test_only_the_account_is_told() -> None:
    """And nothing, a sign of life, when nothing happens."""
    place = desk()
    place.submit("me", limit(Side.BUY, 5, 10), NO_PRICE, T0)
    place.submit("you", limit(Side.BUY, 5, 10), NO_PRICE, T0)
    changes, updates = place.take_changes(), Updates(10)
    with updates.following("me") as mine:
        updates.publish(changes)
        assert await mine.take(0.01) is changes[0]
        assert await mine.take(0.01) is None


async def test_an_end_is_an_end() -> None:
    """What waits is not told any more: its client asks storage."""
    place, updates = desk(), Updates(10)
    place.submit("me", limit(Side.BUY, 5, 10), NO_PRICE, T0)
    with updates.following("me") as mine:
        updates.publish(place.take_changes())
        updates.end_all(END)
        with pytest.raises(CallRefused, match="RELOADING"):
            await mine.take(0.01)


def test_streams_are_bounded() -> None:
    """One that has gone leaves room."""
    updates = Updates(1)
    with updates.following("me"):
        with pytest.raises(CallRefused) as refused, updates.following("you"):
            pass
        assert refused.value.reason == "TOO_MANY_STREAMS"
    with updates.following("you"):
        pass
