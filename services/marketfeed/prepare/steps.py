"""What must be there before services start: a feed's topics and PostgreSQL's tables.

Each step may be repeated at any time and changes nothing then. Adapters are imported where they are used, so that each
command needs its own client library only.
"""

from __future__ import annotations

from marketfeed.prepare.settings import TopicsSettings


async def ensure_topics(settings: TopicsSettings) -> list[str]:
    """Make the feed's topics, and give those that are there the retention asked for; what was changed, in words.

    Raises Unavailable, or SettingError if they exist with other properties that cannot be changed.
    """
    from marketfeed.adapters.kafka import LogAdmin

    retention_bytes = round(settings.retention_gb * 1e9)
    retention_ms = round(settings.retention_h * 3_600_000)
    admin = LogAdmin(settings.kafka)
    await admin.ensure_topics(settings.feed, settings.partitions, retention_bytes, retention_ms)
    return await admin.set_retention(settings.feed, settings.partitions, retention_bytes, retention_ms)


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
