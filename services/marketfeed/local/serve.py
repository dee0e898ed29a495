"""`marketfeed stack`: run the embedded servers until stopped, and say where they are."""

from __future__ import annotations

import asyncio
import signal
import sys
import time

from marketfeed.local.children import Children
from marketfeed.local.settings import StackSettings
from marketfeed.local.stack import Addresses, open_stack


def say(text: str) -> None:
    """A line of progress, on stderr: stdout is for what other programs read."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def stop_on_signals() -> asyncio.Event:
    """An event that Ctrl-C, SIGTERM and a closed terminal set."""
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


async def serve(settings: StackSettings) -> None:
    """Start the servers, print their addresses as `export` lines, and stay until a signal comes or a server dies.

    Raises SettingError, Unavailable or ChildDied, each with one sentence.
    """
    stopping = stop_on_signals()
    began_s = time.monotonic()
    given = Addresses(settings.kafka, settings.redis, settings.postgres)
    async with Children() as children, open_stack(settings.state_dir, children, say, given.env()) as stack:
        for name, value in stack.addresses.env().items():
            sys.stdout.write(f"export {name}={value}\n")
        sys.stdout.flush()
        say(f"ready after {time.monotonic() - began_s:.1f} s; Ctrl-C stops the servers")
        async with asyncio.TaskGroup() as group:
            died = group.create_task(stack.died(), name="servers")
            stopped = group.create_task(stopping.wait(), name="signals")
            await asyncio.wait({died, stopped}, return_when=asyncio.FIRST_COMPLETED)
            died.cancel()
            stopped.cancel()
        if not died.cancelled():
            raise died.result()
        say("stopping the servers")
