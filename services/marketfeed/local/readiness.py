"""Waiting for a server that has just been started: until it answers, or until it has died, whichever comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from marketfeed.local.children import Child


async def until_ready(child: Child, readiness: Coroutine[None, None, None]) -> None:
    """Wait for `readiness`. Raises what it raises, or ChildDied as soon as the server ends instead."""
    async with asyncio.TaskGroup() as group:
        ready = group.create_task(readiness, name=f"{child.name}/ready")
        died = group.create_task(child.wait(), name=f"{child.name}/died")
        await asyncio.wait({ready, died}, return_when=asyncio.FIRST_COMPLETED)
        if died.done():
            ready.cancel()
        else:
            died.cancel()
    if died.done() and not died.cancelled():
        raise died.result()
