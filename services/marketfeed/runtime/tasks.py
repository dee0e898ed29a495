"""Tasks: every one has a name and a group, and a crash of one ends the service.

`TaskKit` is asyncio's TaskGroup with names. A pause before another try always has jitter and a cap, so that a thousand
clients of a dead server do not come back in step.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class TaskKit:
    """The one task group of a service, or of a part of it. Leaving the block waits for all; an error cancels all."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._group.__aexit__(kind, error, trace)

    def spawn(self, name: str, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start `coroutine` as the task `<kit>/<name>`."""
        return self._group.create_task(coroutine, name=f"{self.name}/{name}")


def backoff_s(attempt: int, base_s: float, cap_s: float, jitter: random.Random) -> float:
    """Pause before try number `attempt` (0 is the first repeat): doubling, capped, half of it random."""
    ceiling = min(cap_s, base_s * 2.0 ** min(attempt, 32))
    return ceiling * (0.5 + 0.5 * jitter.random())


async def stopped_within(stopping: asyncio.Event, pause_s: float) -> bool:
    """Wait `pause_s`, or less if `stopping` is set meanwhile; says whether it is set."""
    try:
        async with asyncio.timeout(pause_s):
            await stopping.wait()
    except TimeoutError:
        return False
    return True
