"""Commands that are no services: from a coroutine to an exit code, expected errors told in one sentence on stderr.

0 ended in order, 1 failed (a server died, a check found a difference), 2 a setting is wrong.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine

from marketfeed.domain.errors import MarketfeedError, SettingError
from marketfeed.runtime.logs import redact
from marketfeed.runtime.settings import Settings

# Fields that every service has and that mean nothing to a command that supervises services.
SERVICE_FIELDS = frozenset(Settings.__dataclass_fields__)


def run(name: str, command: Callable[[], Coroutine[None, None, int | None]]) -> int:
    """Run a command to its exit code."""
    try:
        return asyncio.run(_flat(command())) or 0
    except MarketfeedError as error:
        sys.stderr.write(redact(f"marketfeed {name}: {error}\n"))
        return 2 if isinstance(error, SettingError) else 1


async def _flat(command: Coroutine[None, None, int | None]) -> int | None:
    """As `command`, with the first expected error in place of a group of them."""
    try:
        return await command
    except BaseExceptionGroup as errors:
        expected, bugs = errors.split(MarketfeedError)
        if bugs is not None or expected is None:
            raise
        first: BaseException = expected
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
