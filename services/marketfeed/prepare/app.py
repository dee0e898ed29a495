"""`marketfeed prepare`, and its two halves `marketfeed topics` and `marketfeed migrate`.

`prepare` is for orchestrators: it waits for both servers, does both at once, shows on /status what it waits for, and
ends. The halves are for people: they try once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from marketfeed.domain.errors import Interrupted
from marketfeed.prepare.settings import MigrateSettings, PrepareSettings, TopicsSettings
from marketfeed.prepare.steps import ensure_tables, ensure_topics
from marketfeed.runtime.command import SERVICE_FIELDS
from marketfeed.runtime.command import run as run_command
from marketfeed.runtime.service import ServiceContext
from marketfeed.runtime.service import main as service_main
from marketfeed.runtime.settings import add_arguments, overrides_of
from marketfeed.runtime.tasks import TaskKit
from marketfeed.runtime.waiting import until_available


def main(argv: Sequence[str] | None = None) -> int:
    """Make a feed's topics and PostgreSQL's tables, once both servers are there. A repeat does nothing.

    Exit codes: 0 all is there, 1 a server did not come up within --timeout-s, 2 a setting is wrong.
    """
    return service_main("prepare", PrepareSettings, run, argv, main.__doc__)


async def run(context: ServiceContext[PrepareSettings]) -> None:
    """Both halves, side by side. Raises Unavailable, SettingError, or Interrupted when it was told to stop before."""
    settings, health = context.settings, context.health
    for part in ("kafka", "postgres"):
        health.ready(part, False, "not asked yet")
    health.status_source = lambda: {"feed": settings.feed}
    wait = partial(
        until_available, timeout_s=settings.timeout_s, stopping=context.stopping, health=health, log=context.log
    )
    async with TaskKit("prepare") as tasks:
        topics_made = tasks.spawn("topics", wait("kafka", lambda: ensure_topics(settings)))
        tables_made = tasks.spawn("tables", wait("postgres", lambda: ensure_tables(settings.postgres)))
    changed, applied = topics_made.result(), tables_made.result()
    if changed is None or applied is None:
        raise Interrupted("stopped before all was there; start it again")
    context.log.info(
        "all is there", feed=settings.feed, partitions=settings.partitions, changed=changed, applied=applied
    )


def topics(argv: Sequence[str]) -> int:
    """`marketfeed topics`."""
    parser = argparse.ArgumentParser(
        prog="marketfeed topics", description="Make the topics of a feed: FEED.trades, FEED.control and FEED.bars."
    )
    add_arguments(parser, TopicsSettings, skip=SERVICE_FIELDS)
    namespace = parser.parse_args(argv)

    async def make() -> None:
        settings = TopicsSettings.load(overrides_of(namespace, TopicsSettings))
        changed = await ensure_topics(settings)
        sys.stdout.write("".join(f"changed {what}\n" for what in changed))
        sys.stdout.write(f"{settings.feed}: its topics are there, trades in {settings.partitions} partitions\n")

    return run_command("topics", make)


def migrate_tables(argv: Sequence[str]) -> int:
    """`marketfeed migrate`."""
    parser = argparse.ArgumentParser(
        prog="marketfeed migrate",
        description="Bring PostgreSQL's tables up to date. Several at once wait for each other; a repeat does nothing.",
    )
    add_arguments(parser, MigrateSettings, skip=SERVICE_FIELDS)
    namespace = parser.parse_args(argv)

    async def migrate_now() -> None:
        applied = await ensure_tables(MigrateSettings.load(overrides_of(namespace, MigrateSettings)).postgres)
        sys.stdout.write("".join(f"applied {name}\n" for name in applied) or "nothing to do, all is up to date\n")

    return run_command("migrate", migrate_now)
