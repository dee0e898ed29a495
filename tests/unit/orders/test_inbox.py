"""The inbox: the order of arrival, bounds on both sides, nobody left waiting."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.domain.order_tapes import T0, Row, prints_of

from marketfeed.domain.errors import CallRefused, CallStatus
from marketfeed.domain.order_commands import Cancel
from marketfeed.orders import inbox
from marketfeed.orders.inbox import Inbox
from marketfeed.orders.ports import TapePasses, TapePrints
from marketfeed.runtime.tasks import TaskKit

COMMAND = Cancel("me", 1, "")


async def test_commands_and_tape_come_out_as_they_came_in() -> None:
    """One order for both, and all that waits at once."""
    box = Inbox(10)
    first = box.ask(COMMAND)
    await box.put(event := TapePasses(1, "a"))
    second = box.ask(COMMAND)
    assert await box.take(0.01) == [first, event, second]
    assert await box.take(0.01) == []


async def test_too_many_commands_are_refused() -> None:
    """Until somebody has taken what waits."""
    box = Inbox(2)
    box.ask(COMMAND)
    box.ask(COMMAND)
    with pytest.raises(CallRefused) as refused:
        box.ask(COMMAND)
    assert refused.value.status is CallStatus.RESOURCE_EXHAUSTED
    await box.take(0.01)
    box.ask(COMMAND)


async def test_tape_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """By events and by trades; it goes on when the box was emptied."""
    monkeypatch.setattr(inbox, "EVENTS_MAX", 3)
    monkeypatch.setattr(inbox, "TRADES_MAX", 5)
    box = Inbox(10)
    batch = TapePrints(prints_of([Row(0, "A", T0, 5, 1, T0)] * 6), "a")
    async with TaskKit("test") as tasks:
        await box.put(batch)
        second = tasks.spawn("second", box.put(batch))
        await asyncio.sleep(0)
        assert not second.done()
        assert await box.take(0.01) == [batch]
        await second
        await box.take(0.01)
        for _ in range(3):
            await box.put(TapePasses(1, "a"))
        fourth = tasks.spawn("fourth", box.put(TapePasses(2, "b")))
        await asyncio.sleep(0)
        assert not fourth.done()
        assert len(await box.take(0.01)) == 3


async def test_nobody_is_left_waiting() -> None:
    """Whoever has asked is refused when the box is given up; one who has gone is not minded."""
    box = Inbox(10)
    asked, gone = box.ask(COMMAND), box.ask(COMMAND)
    gone.answer.cancel()
    box.refuse_all(CallRefused(CallStatus.UNAVAILABLE, "RELOADING", "ask again"))
    with pytest.raises(CallRefused):
        await asked.answer
    assert await box.take(0.01) == []
