"""A step is tried until its server is there, with growing pauses, up to a deadline; what it waits for is said once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from marketfeed.domain.errors import Unavailable
from marketfeed.runtime.health import Health
from marketfeed.runtime.logs import Logger
from marketfeed.runtime.tasks import backoff_s, stopped_within

T = TypeVar("T")

PAUSE_S = 0.25
PAUSE_MAX_S = 5.0


async def until_available(
    part: str,
    attempt: Callable[[], Awaitable[T]],
    timeout_s: float,
    stopping: asyncio.Event,
    health: Health,
    log: Logger,
) -> T | None:
    """What `attempt` returns once its server (`part`, as /readyz names it) answers; None when told to stop before.

    Raises Unavailable with the server's last word when the time is over, and at once what waiting would not heal.
    """
    loop, jitter, tries = asyncio.get_running_loop(), random.Random(), 0
    deadline_s = loop.time() + timeout_s
    last = Unavailable(part, "its address", "no answer")
    while not stopping.is_set():
        try:
            async with asyncio.timeout_at(deadline_s):
                done = await attempt()
        except TimeoutError:
            break
        except Unavailable as error:
            last = error
            health.ready(part, False, str(error))
            if tries == 0:
                log.warning(f"waiting for {error.what}", at=error.where, reason=error.reason, up_to_s=timeout_s)
        else:
            health.ready(part, True)
            return done
        pause_s = backoff_s(tries, PAUSE_S, PAUSE_MAX_S, jitter)
        if loop.time() + pause_s >= deadline_s:
            break
        await stopped_within(stopping, pause_s)
        tries += 1
    if stopping.is_set():
        return None
    raise Unavailable(last.what, last.where, f"{last.reason}; gave up after {timeout_s:g} s (--timeout-s)") from last
