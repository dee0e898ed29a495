"""What must be there before services start: a feed's topics, PostgreSQL's tables; as functions and as commands.

Both may be repeated at any time and change nothing then. Adapters are imported where they are used, so that each
command needs its own client library only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from marketfeed.local.entry import SERVICE_FIELDS, run
from marketfeed.local.settings import MigrateSettings, TopicsSettings
from marketfeed.runtime.settings import add_arguments, overrides_of


async def ensure_topics(settings: TopicsSettings) -> None:
    """Make the feed's topics. Raises Unavailable, or SettingError if they exist with other properties."""
    from marketfeed.adapters.kafka import LogAdmin

    retention_bytes = round(settings.retention_gb * 1e9)
    retention_ms = round(settings.retention_h * 3_600_000)
    await LogAdmin(settings.kafka).ensure_topics(settings.feed, settings.partitions, retention_bytes, retention_ms)


async def delete_topics(kafka: str, feed: str) -> None:
    """Delete a feed's topics. Raises Unavailable."""
    from marketfeed.adapters.kafka import LogAdmin

    await LogAdmin(kafka).delete_feed(feed)


async def ensure_tables(dsn: str) -> list[str]:
    """Bring PostgreSQL up to date; the migrations applied now. Raises Unavailable or SettingError."""
    from marketfeed.adapters.postgres.connection import close_quietly, connect, migrate

    connection = await connect(dsn, "migrate")
    try:
        return await migrate(connection)
    finally:
        await close_quietly(connection)


def topics(argv: Sequence[str]) -> int:
    """`marketfeed topics`."""
    parser = argparse.ArgumentParser(
        prog="marketfeed topics", description="Make the topics of a feed: FEED.trades, FEED.control and FEED.bars."
    )
    add_arguments(parser, TopicsSettings, skip=SERVICE_FIELDS)
    namespace = parser.parse_args(argv)

    async def make() -> None:
        settings = TopicsSettings.load(overrides_of(namespace, TopicsSettings))
        await ensure_topics(settings)
        sys.stdout.write(f"{settings.feed}: its topics are there, trades in {settings.partitions} partitions\n")

    return run("topics", make)


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

    return run("migrate", migrate_now)
