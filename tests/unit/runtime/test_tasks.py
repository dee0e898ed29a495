"""Tasks are named, failures spread, retries back off."""

import asyncio
import random

import pytest

from marketfeed.runtime.tasks import TaskKit, backoff_s, stopped_within


async def test_tasks_carry_the_names_of_kit_and_part() -> None:
    """A task's name tells where it belongs."""
    async with TaskKit("ingest") as tasks:
        task = tasks.spawn("decode", asyncio.sleep(0))
    assert task.get_name() == "ingest/decode"


async def test_a_crash_cancels_the_others_and_is_raised() -> None:
    """Nothing runs on beside a dead part."""
    never = asyncio.Event()

    async def crash() -> None:
        raise RuntimeError("bug")

    started: list[asyncio.Task[object]] = []

    async def run() -> None:
        async with TaskKit("x") as tasks:
            started.append(tasks.spawn("wait", never.wait()))
            tasks.spawn("crash", crash())

    with pytest.raises(ExceptionGroup) as raised:
        await run()
    assert started[0].cancelled()
    assert isinstance(raised.value.exceptions[0], RuntimeError)


def test_backoff_doubles_up_to_its_cap_and_is_jittered() -> None:
    """Pauses lie between half and the whole of a doubling, capped ceiling."""
    jitter = random.Random(1)
    for attempt in range(40):
        ceiling = min(5.0, 0.2 * 2**attempt)
        pause = backoff_s(attempt, 0.2, 5.0, jitter)
        assert ceiling / 2 <= pause <= ceiling


async def test_stopped_within_tells_which_came_first() -> None:
    """It is False after the pause and True as soon as the event is set."""
    stopping = asyncio.Event()
    assert not await stopped_within(stopping, 0.001)
    stopping.set()
    assert await stopped_within(stopping, 60.0)
