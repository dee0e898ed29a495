"""The commands of this package: arguments in, exit code out, expected errors told in one sentence on stderr.

0 ended in order, 1 failed (a server died, the check found a difference), 2 a setting is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence

from marketfeed.domain.errors import MarketfeedError, SettingError
from marketfeed.local.serve import serve
from marketfeed.local.settings import StackSettings
from marketfeed.runtime.logs import redact
from marketfeed.runtime.settings import Settings, add_arguments, overrides_of

# Fields that every service has and that mean nothing to a command that supervises services.
SERVICE_FIELDS = frozenset(Settings.__dataclass_fields__)


def stack(argv: Sequence[str]) -> int:
    """`marketfeed stack`: the embedded servers until stopped."""
    parser = argparse.ArgumentParser(
        prog="marketfeed stack",
        description="Run real Kafka, Valkey and PostgreSQL on free ports and print their addresses, until stopped.",
        epilog="example: marketfeed stack > stack.env &   and then   . ./stack.env",
    )
    add_arguments(parser, StackSettings, skip=SERVICE_FIELDS)
    namespace = parser.parse_args(argv)
    return run("stack", lambda: serve(StackSettings.load(overrides_of(namespace, StackSettings))))


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
