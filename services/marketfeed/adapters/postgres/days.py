"""Daily partitions of `bar_1s` and `trade`: made ahead, made on demand for old files, dropped by age.

A partition is made as a table of its own and then attached, which does not lock readers of the parent out. It is
dropped when both its day and its creation lie further back than the retention: a file imported today is kept as long as
a day recorded today.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

_DAY_LOCK = 0x6D66_0002
PARENTS = ("bar_1s", "trade")
_STORAGE = {
    # An OPEN bar is rewritten by every flush of its second: room on the page keeps those updates off the index.
    "bar_1s": "WITH (fillfactor = 80)",
    "trade": "",
}
EPOCH_DAY = date(1970, 1, 1)


def day_of(days_since_1970: int) -> date:
    """The date of a day number."""
    return EPOCH_DAY + timedelta(days=days_since_1970)


def partition_name(parent: str, day: date) -> str:
    """Name of the partition of `parent` for a UTC day."""
    return f"{parent}_{day:%Y%m%d}"


async def existing_days(connection: Any, parent: str) -> set[date]:
    """The days for which `parent` has a partition."""
    return {row["day"] for row in await connection.fetch("SELECT day FROM day_partition WHERE parent = $1", parent)}


async def make_days(connection: Any, parent: str, days: Iterable[date]) -> list[date]:
    """Make the missing partitions, in one transaction under a lock; returns the days made."""
    made: list[date] = []
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _DAY_LOCK)
        missing = sorted(set(days) - await existing_days(connection, parent))
        for day in missing:
            name, following = partition_name(parent, day), day + timedelta(days=1)
            bounds = (
                (f"'{day} 00:00+00'", f"'{following} 00:00+00'")
                if parent == "bar_1s"
                else (f"'{day}'", f"'{following}'")
            )
            await connection.execute(
                f"CREATE TABLE {name} (LIKE {parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)"
                f" {_STORAGE[parent]};"
                f"ALTER TABLE {parent} ATTACH PARTITION {name} FOR VALUES FROM ({bounds[0]}) TO ({bounds[1]})"
            )
            await connection.execute("INSERT INTO day_partition (parent, day) VALUES ($1, $2)", parent, day)
            made.append(day)
    return made


async def drop_days(connection: Any, parent: str, keep_days: int) -> list[date]:
    """Drop partitions older than `keep_days` days, both by their day and by their creation; returns the days."""
    dropped: list[date] = []
    rows = await connection.fetch(
        "SELECT day FROM day_partition WHERE parent = $1 AND day < (now() AT TIME ZONE 'UTC')::date - $2::int"
        " AND created_at < now() - make_interval(days => $2) ORDER BY day",
        parent,
        keep_days,
    )
    for row in rows:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _DAY_LOCK)
            # Waiting for a long query must not make everybody else wait behind us.
            await connection.execute("SET LOCAL lock_timeout = '5s'")
            await connection.execute(f"DROP TABLE IF EXISTS {partition_name(parent, row['day'])}")
            await connection.execute("DELETE FROM day_partition WHERE parent = $1 AND day = $2", parent, row["day"])
        dropped.append(row["day"])
    return dropped
