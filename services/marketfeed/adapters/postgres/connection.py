"""Connections to PostgreSQL: one home for timeouts, for the translation of errors and for migrations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from marketfeed.domain.errors import SettingError, Unavailable

CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 60.0
# Any number that no other program uses: whoever holds it migrates or makes partitions, the others wait.
_MIGRATION_LOCK = 0x6D66_0001

Connection = asyncpg.pool.PoolConnectionProxy | asyncpg.Connection

# Rows are looked up by (symbol, time) through the primary keys, in tables of a hundred million rows. The planner cannot
# know how narrow the ranges are that come as parameters, and would rather hash whole days.
_PLANS = {"enable_hashjoin": "off", "enable_mergejoin": "off"}

# What means "not now": the server is gone, starting, stopping, full, read-only (a standby, before or after a failover)
# or has trouble with its disk. Anything else is a bug and stays what it is.
_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.CannotConnectNowError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.PostgresSystemError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.InternalClientError,
)
_WRONG_SETTING = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ClientConfigurationError,
)


def place_of(dsn: str) -> str:
    """Host, port and database of a connection string: what may be shown."""
    parts = urlsplit(dsn)
    return f"{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"


@asynccontextmanager
async def translated(dsn: str) -> AsyncIterator[None]:
    """Turn asyncpg's word for "the server is away" into Unavailable, and for a bad address into SettingError."""
    try:
        yield
    except _WRONG_SETTING as error:
        raise SettingError("--postgres", f"{place_of(dsn)} refuses: {error}; correct user or database") from error
    except _AWAY as error:
        raise Unavailable("PostgreSQL", place_of(dsn), str(error) or type(error).__name__) from error


async def connect(dsn: str, application: str, **server_settings: str) -> asyncpg.Connection:
    """One connection of its own, for whoever keeps temporary tables. Raises Unavailable or SettingError."""
    async with translated(dsn):
        return await asyncpg.connect(
            dsn,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings={"application_name": application, "timezone": "UTC", **_PLANS, **server_settings},
        )


async def open_pool(dsn: str, application: str, size_max: int) -> asyncpg.Pool:
    """A pool that opens connections when they are needed. Raises Unavailable or SettingError."""
    async with translated(dsn):
        pool = asyncpg.create_pool(
            dsn,
            min_size=0,  # a floor would be refilled, and its failures logged, behind our back while the server is away
            max_size=size_max,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings={"application_name": application, "timezone": "UTC", **_PLANS},
        )
        try:
            await pool
        except BaseException:
            pool.terminate()
            raise
        return pool


def migrations() -> list[tuple[str, str]]:
    """(name, SQL) of the versioned files that belong to this release, in order."""
    folder = resources.files("marketfeed.adapters") / "migrations"
    found = [(entry.name.removesuffix(".sql"), entry) for entry in folder.iterdir() if entry.name.endswith(".sql")]
    return [(name, entry.read_text(encoding="utf-8")) for name, entry in sorted(found, key=lambda pair: pair[0])]


async def migrate(connection: Any) -> list[str]:
    """Apply the migrations that are missing, each in a transaction, one program at a time; returns their names."""
    applied: list[str] = []
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATION_LOCK)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS migration"
            " (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        done = {row["name"] for row in await connection.fetch("SELECT name FROM migration")}
        for name, sql in migrations():
            if name not in done:
                await connection.execute(sql)
                await connection.execute("INSERT INTO migration (name) VALUES ($1)", name)
                applied.append(name)
    return applied


async def close_quietly(connection: asyncpg.Connection, timeout_s: float = 2.0) -> None:
    """Close in order if the server answers, else just let go."""
    try:
        await connection.close(timeout=timeout_s)
    except (TimeoutError, *_AWAY):
        connection.terminate()
