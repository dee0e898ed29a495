"""How a child in Python reads its commands beside its event loop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator


async def commands() -> AsyncIterator[list[str]]:
    """The words of each line until the parent has gone."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield line.split()
