"""The store for everybody but its writer: migrations, reads at one position, imports, retention.

Each read that says where it stands runs in one REPEATABLE READ transaction together with the checkpoint, so bars and
position belong together. Connections come from a small pool; a read that would wait for one longer than its timeout
raises Unavailable.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

import asyncpg
import numpy as np
import numpy.typing as npt

from marketfeed.adapters.postgres import bars as bar_tables
from marketfeed.adapters.postgres import days
from marketfeed.adapters.postgres.bars import READ_COLUMNS, TABLES, StoredBars
from marketfeed.adapters.postgres.connection import connect, migrate, open_pool, place_of, translated
from marketfeed.adapters.postgres.state import StoredState, read_checkpoint, read_rows, read_state
from marketfeed.domain.ownership import EpochRow, OwnerRow
from marketfeed.domain.position import Position
from marketfeed.domain.tape import TapeGap
from marketfeed.domain.trades import Int64Array

READ_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class SymbolRow:
    """A symbol of a feed as stored; scales are the finest decimals seen."""

    symbol_id: int
    symbol: str
    price_scale: int
    size_scale: int


@dataclass(frozen=True, slots=True)
class DayBar:
    """What a quote needs of a stored trading day."""

    trade_date: date
    close: float


class PostgresStore:
    """Reading access to the store of a feed, with a pool of connections. `open` first, `close` last."""

    def __init__(self, dsn: str, application: str = "marketfeed", connections_max: int = 4) -> None:
        self._dsn = dsn
        self._application = application
        self._connections_max = connections_max
        self._pool: asyncpg.Pool | None = None

    @property
    def place(self) -> str:
        """Host, port and database, without secrets."""
        return place_of(self._dsn)

    async def open(self) -> None:
        """Connect. Raises Unavailable or SettingError."""
        if self._pool is None:
            self._pool = await open_pool(self._dsn, self._application, self._connections_max)

    async def close(self) -> None:
        """Let all connections go."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    async def migrate(self) -> list[str]:
        """Apply missing migrations under an advisory lock; returns their names. Raises Unavailable or SettingError."""
        connection = await connect(self._dsn, f"{self._application}-migrate")
        try:
            async with translated(self._dsn):
                return await migrate(connection)
        finally:
            connection.terminate()

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[Any]:
        """A connection in a read-only REPEATABLE READ transaction."""
        assert self._pool is not None, "PostgresStore.open has not been called"
        async with (
            translated(self._dsn),
            self._pool.acquire(timeout=READ_TIMEOUT_S) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection

    async def is_migrated(self) -> bool:
        """Whether this release's tables are there."""
        async with self._reading() as connection:
            return await connection.fetchval("SELECT to_regclass('checkpoint') IS NOT NULL") is True

    async def symbols(self, feed: str) -> list[SymbolRow]:
        """All symbols of a feed by name."""
        async with self._reading() as connection:
            rows = await connection.fetch(
                "SELECT symbol_id, symbol, price_scale, size_scale FROM symbol WHERE feed = $1 ORDER BY symbol", feed
            )
        return [SymbolRow(r["symbol_id"], r["symbol"], r["price_scale"], r["size_scale"]) for r in rows]

    async def read_checkpoint(self, feed: str) -> Position | None:
        """How far the feed's log was applied, None if it never was."""
        async with self._reading() as connection:
            topic_id, rows = await read_checkpoint(connection, feed)
        return Position(topic_id, {p: row.next_offset for p, row in rows.items()}) if rows else None

    async def read_state(self, feed: str) -> StoredState:
        """Checkpoint, owners and epochs, as of one instant."""
        async with self._reading() as connection:
            return await read_state(connection, feed)

    async def read_owners(
        self, feed: str, start: Mapping[int, int]
    ) -> tuple[dict[int, list[OwnerRow]], dict[int, list[EpochRow]]]:
        """By partition the newest rows at or below the offset `start` names, for `ownership.state_at`."""
        async with self._reading() as connection:
            return await read_rows(connection, feed, start)

    async def read_bars(
        self, feed: str, symbol: str, interval_s: int, from_s: int, to_s: int
    ) -> tuple[Position | None, StoredBars]:
        """Bars of a symbol that start in [from_s, to_s) and the position they belong to.

        interval_s 1, 60, 3600 or 86400 (trading days). `state` is as of that position. Roll-ups follow the seconds
        by some seconds: read 1 s bars for the newest minutes.
        """
        async with self._reading() as connection:
            topic_id, rows = await read_checkpoint(connection, feed)
            stored = await bar_tables.fetch_bars(
                connection,
                f"SELECT {READ_COLUMNS} FROM {TABLES[interval_s]} b"
                " WHERE b.symbol_id = (SELECT symbol_id FROM symbol WHERE feed = $1 AND symbol = $2)"
                " AND b.start >= to_timestamp($3::int8) AND b.start < to_timestamp($4::int8) ORDER BY b.start",
                feed,
                symbol,
                from_s,
                to_s,
            )
        position = Position(topic_id, {p: row.next_offset for p, row in rows.items()}) if rows else None
        return position, stored

    async def read_all_bars(self, feed: str, interval_s: int, from_s: int, to_s: int) -> StoredBars:
        """Bars of all symbols of a feed that start in [from_s, to_s), symbol_id as in `symbols`."""
        async with self._reading() as connection:
            return await bar_tables.fetch_bars(
                connection,
                f"SELECT {READ_COLUMNS} FROM {TABLES[interval_s]} b"
                " WHERE b.symbol_id IN (SELECT symbol_id FROM symbol WHERE feed = $1)"
                " AND b.start >= to_timestamp($2::int8) AND b.start < to_timestamp($3::int8)"
                " ORDER BY b.symbol_id, b.start",
                feed,
                from_s,
                to_s,
            )

    async def read_window(self, symbol_id: Int64Array, from_s: Int64Array, rows_max: Int64Array) -> StoredBars:
        """The newest 1 s bars, as many and from a second on as said for each symbol."""
        async with self._reading() as connection:
            return await bar_tables.fetch_bars(
                connection,
                f"SELECT {READ_COLUMNS} FROM unnest($1::int[], $2::int8[], $3::int8[]) AS k (symbol_id, from_s, most)"
                " CROSS JOIN LATERAL (SELECT * FROM bar_1s WHERE symbol_id = k.symbol_id"
                " AND start >= to_timestamp(k.from_s) ORDER BY start DESC LIMIT k.most) b"
                " ORDER BY b.symbol_id, b.start",
                symbol_id.tolist(),
                from_s.tolist(),
                rows_max.tolist(),
            )

    async def read_changed(self, symbol_id: Int64Array, from_s: Int64Array, from_offset: Int64Array) -> StoredBars:
        """1 s bars, per symbol, that start at or after `from_s` and changed at or after `from_offset`."""
        async with self._reading() as connection:
            return await bar_tables.fetch_bars(
                connection,
                f"SELECT {READ_COLUMNS} FROM unnest($1::int[], $2::int8[], $3::int8[]) AS k (symbol_id, from_s, at)"
                " JOIN bar_1s b ON b.symbol_id = k.symbol_id AND b.start >= to_timestamp(k.from_s)"
                " WHERE b.changed_offset >= k.at ORDER BY b.symbol_id, b.start",
                symbol_id.tolist(),
                from_s.tolist(),
                from_offset.tolist(),
            )

    async def read_closes(self, feed: str, from_s: int, to_s: int) -> dict[str, npt.NDArray[Any]]:
        """symbol_id, start (Unix s), close and close_ts of all 1 s bars that start in [from_s, to_s), sorted."""
        async with self._reading() as connection:
            return await bar_tables.fetch_columns(
                connection,
                bar_tables.CLOSE_FIELDS,
                "SELECT b.symbol_id, b.start, b.close, b.close_ts FROM bar_1s b"
                " WHERE b.symbol_id IN (SELECT symbol_id FROM symbol WHERE feed = $1)"
                " AND b.start >= to_timestamp($2::int8) AND b.start < to_timestamp($3::int8)"
                " ORDER BY b.symbol_id, b.start",
                feed,
                from_s,
                to_s,
            )

    async def read_gaps(self, feed: str, from_ts: int, to_ts: int) -> list[TapeGap]:
        """Gaps that touch [from_ts, to_ts], in the order of the log; symbol_id is the store's."""
        async with self._reading() as connection:
            rows = await connection.fetch(
                "SELECT partition, log_offset, symbol_ids, from_ts, to_ts, reason, dropped FROM gap"
                " WHERE feed = $1 AND to_ts >= $2 AND from_ts <= $3 ORDER BY partition, log_offset",
                feed,
                from_ts,
                to_ts,
            )
        return [
            TapeGap(
                r["partition"],
                r["log_offset"],
                np.array(r["symbol_ids"], np.int64),
                r["from_ts"],
                r["to_ts"],
                r["reason"],
                r["dropped"],
            )
            for r in rows
        ]

    async def previous_close(self, feed: str, symbols: Sequence[str], before: date) -> dict[str, DayBar]:
        """The close of the newest trading day before `before`, for those of the symbols that have one."""
        async with self._reading() as connection:
            rows = await connection.fetch(
                "SELECT s.symbol, d.trade_date, d.close FROM symbol s CROSS JOIN LATERAL ("
                " SELECT trade_date, close FROM bar_1d WHERE symbol_id = s.symbol_id AND trade_date < $3"
                " ORDER BY start DESC LIMIT 1) d WHERE s.feed = $1 AND s.symbol = ANY($2::text[])",
                feed,
                list(symbols),
                before,
            )
        return {row["symbol"]: DayBar(row["trade_date"], row["close"]) for row in rows}

    async def keep_days(self, feed_days_ahead: Sequence[date], bar_days: int, trade_days: int) -> dict[str, int]:
        """Make the partitions of these days and drop what is older than the retention; counts by what was done."""
        connection = await connect(self._dsn, f"{self._application}-retention")
        try:
            async with translated(self._dsn):
                made = dropped = 0
                for parent, keep in (("bar_1s", bar_days), ("trade", trade_days)):
                    made += len(await days.make_days(connection, parent, feed_days_ahead))
                    dropped += len(await days.drop_days(connection, parent, keep))
                return {"made": made, "dropped": dropped}
        finally:
            connection.terminate()

    async def forget_states(self, feed: str, log_begins: Mapping[int, int], quarantine_days: int) -> None:
        """Delete owner and epoch rows that only explain offsets the log no longer has, and old quarantine rows."""
        arguments = (feed, list(log_begins), list(log_begins.values()))
        connection = await connect(self._dsn, f"{self._application}-retention")
        try:
            async with translated(self._dsn):
                for table, key, as_of in (
                    ("owner", "symbol_id", "from_offset"),
                    ("epoch_state", "epoch", "as_of_offset"),
                ):
                    # The newest row at or below the log's beginning still tells what holds there.
                    await connection.execute(
                        f"DELETE FROM {table} t USING unnest($2::int[], $3::int8[]) AS at (partition, begins)"
                        f" WHERE t.feed = $1 AND t.partition = at.partition AND t.{as_of} < at.begins AND EXISTS ("
                        f"  SELECT FROM {table} n WHERE n.feed = t.feed AND n.partition = t.partition"
                        f"  AND n.{key} = t.{key} AND n.{as_of} > t.{as_of} AND n.{as_of} <= at.begins)",
                        *arguments,
                    )
                await connection.execute(
                    "DELETE FROM quarantine WHERE feed = $1 AND noted_at < now() - make_interval(days => $2)",
                    feed,
                    quarantine_days,
                )
        finally:
            connection.terminate()
