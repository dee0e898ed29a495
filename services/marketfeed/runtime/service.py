"""The life of a service: settings, logs, health, signals, one task group, and an end in order.

SIGTERM and SIGINT set `stopping`; the service's main sees it, stops intake, drains, flushes, closes and returns. If it
has not returned when the shutdown time is over it is cancelled: one deadline for all steps, so that a supervisor's
grace period is never what ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import uvloop

from marketfeed.domain.errors import MarketfeedError, SettingError
from marketfeed.runtime import logs, tracing
from marketfeed.runtime.health import Health
from marketfeed.runtime.logs import Logger, get_logger, redact
from marketfeed.runtime.settings import Settings, add_arguments, overrides_of

S = TypeVar("S", bound=Settings)


def default_instance() -> str:
    """The name of this process among its kind: host and process id."""
    return f"{socket.gethostname()}-{os.getpid()}"


@dataclass(kw_only=True)
class ServiceContext(Generic[S]):
    """What a service's main is given."""

    name: str
    settings: S
    log: Logger
    health: Health
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    http_port: int = 0
    _deadline: float | None = None

    def stop(self) -> None:
        """Begin the shutdown, as a signal does; its time runs from the first call."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self.settings.shutdown_timeout_s
        self.stopping.set()

    def remaining_s(self) -> float:
        """Seconds left of the shutdown time; the whole of it while nothing is stopping."""
        if self._deadline is None:
            return self.settings.shutdown_timeout_s
        return max(0.0, self._deadline - time.monotonic())


ServiceMain = Callable[[ServiceContext[S]], Awaitable[None]]


async def run_service(name: str, settings: S, service_main: ServiceMain[S]) -> None:
    """Run a service until it returns or is told to stop. Raises what it raises."""
    log = get_logger(name)
    context = ServiceContext(name=name, settings=settings, log=log, health=Health(name))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, context.stop)
    log.info("starting", **settings.summary())
    try:
        async with asyncio.TaskGroup() as group:
            main_task = group.create_task(_main(context, service_main), name=name)
            watchdog = group.create_task(_enforce_deadline(context, main_task), name=f"{name}/shutdown")
            main_task.add_done_callback(lambda _: watchdog.cancel())
    finally:
        await context.health.close()
        tracing.shut_down()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    log.info("stopped")


async def _main(context: ServiceContext[S], service_main: ServiceMain[S]) -> None:
    settings = context.settings
    tracing.set_up(context.name, default_instance(), settings.otlp_endpoint)
    context.http_port = await context.health.start(settings.http_host, settings.http_port)
    context.log.info("health at", url=f"http://{settings.http_host}:{context.http_port}/status")
    await service_main(context)


async def _enforce_deadline(context: ServiceContext[S], main_task: asyncio.Task[None]) -> None:
    await context.stopping.wait()
    context.log.info("stopping", within_s=round(context.remaining_s(), 1))
    await asyncio.sleep(context.remaining_s())
    context.log.error("shutdown took too long, cancelling what is left", after_s=context.settings.shutdown_timeout_s)
    main_task.cancel()


def main(
    name: str,
    settings_cls: type[S],
    service_main: ServiceMain[S],
    argv: Sequence[str] | None = None,
    description: str | None = None,
) -> int:
    """Entry point of a service: flags and environment in, exit code out.

    0 ended in order, 1 failed, 2 a setting is wrong; an expected error is told in one sentence on stderr.
    """
    parser = argparse.ArgumentParser(prog=f"marketfeed {name}", description=description)
    add_arguments(parser, settings_cls)
    try:
        settings = settings_cls.load(overrides_of(parser.parse_args(argv), settings_cls))
    except SettingError as error:
        sys.stderr.write(f"marketfeed {name}: {error}\n")
        return 2
    return run_to_exit(name, settings, service_main)


def run_to_exit(name: str, settings: S, service_main: ServiceMain[S]) -> int:
    """`main` for settings that are there already: sets up logs, runs, and gives the exit code."""
    logs.set_up(name, settings.log_format, settings.log_level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run_service(name, settings, service_main))
    except BaseExceptionGroup as errors:
        expected, bugs = errors.split(MarketfeedError)
        if bugs is not None or expected is None:
            raise
        return _explain(name, expected)
    return 0


def _explain(name: str, errors: BaseExceptionGroup[BaseException]) -> int:
    first: BaseException = errors
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    sys.stderr.write(redact(f"marketfeed {name}: {first}\n"))
    return 2 if isinstance(first, SettingError) else 1
