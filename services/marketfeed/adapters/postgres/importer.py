"""Bars of a file into the store: one transaction for the whole import, whatever its size.

An import owns the (symbol, UTC day) pairs that its file has trades of. The first time a pair comes up, `claim` looks
whether live bars are there and clears what an earlier import left, so that a repeat gives the same rows. New bars go
straight into their table by COPY; bars that were written before and got more trades since are read back and written
anew. Minutes and hours lie within a UTC day and come from the file alone, so the caller makes them (SQL needs 17 µs for
each second in them, the reducer 1 µs); trade dates are made at the end, from all hours there are. Until `finish` nobody
sees anything of it, and without it nothing remains.

Partitions of days are made on another connection: making one takes a lock that others must not wait for until the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
import numpy as np
import numpy.typing as npt

from marketfeed.adapters.postgres import bars as bar_tables
from marketfeed.adapters.postgres import days, rollups
from marketfeed.adapters.postgres.bars import COLUMN_NAMES, IMPORT, LIVE, READ_COLUMNS, TABLES, StoredBars
from marketfeed.adapters.postgres.connection import close_quietly, connect, place_of, translated
from marketfeed.domain.bars import BarColumns
from marketfeed.domain.errors import SettingError, Unavailable
from marketfeed.domain.rollup import INTERVALS
from marketfeed.domain.rollups_due import DueBuckets
from marketfeed.domain.sessions import DAY_S
from marketfeed.domain.trades import Int64Array

# A statement of an import may touch a day of every symbol.
_STATEMENT_TIMEOUT_S = 900.0
_BUCKETS_PER_STATEMENT = 20_000
_LIVE_SHOWN = 5

_PAIRS = "unnest($1::int[], $2::date[]) AS k (symbol_id, day)"
_WITHIN = "b.start >= k.day::timestamp AT TIME ZONE 'UTC' AND b.start < (k.day + 1)::timestamp AT TIME ZONE 'UTC'"
_LIVE = (
    f"SELECT s.symbol, k.day FROM {_PAIRS} JOIN symbol s USING (symbol_id) WHERE EXISTS (SELECT FROM bar_1s b"
    f" WHERE b.symbol_id = k.symbol_id AND b.source = {LIVE} AND {_WITHIN}) ORDER BY 2, 1"
)
_KEYS = "unnest($1::int[], $2::int8[]) AS k (symbol_id, start_s)"
_SAME_KEY = "b.symbol_id = k.symbol_id AND b.start = to_timestamp(k.start_s)"


class BarImport:
    """One import into one feed. Not for use by several tasks at a time. All methods raise Unavailable."""

    def __init__(self, dsn: str, feed: str, replace_live: bool) -> None:
        self.feed = feed
        self._dsn = dsn
        self._replace_live = replace_live
        self._claimed: set[tuple[int, int]] = set()
        self._connection: asyncpg.Connection | None = None
        self._side: asyncpg.Connection | None = None
        self._transaction: Any = None

    async def open(self) -> None:
        """Connect and begin; may be tried again. Raises SettingError, too, if the tables are missing."""
        await self.close()
        self._side = await connect(self._dsn, "marketfeed-history")
        self._connection = await connect(self._dsn, "marketfeed-history", synchronous_commit="off")
        async with translated(self._dsn):
            if not await self._side.fetchval("SELECT to_regclass('bar_1s') IS NOT NULL"):
                raise SettingError("--postgres", f"{place_of(self._dsn)} has no tables; run `marketfeed migrate` first")
            self._transaction = self._connection.transaction()
            await self._transaction.start()

    async def close(self) -> None:
        """Let go; what was not finished is undone."""
        for connection in (self._connection, self._side):
            if connection is not None:
                await close_quietly(connection)
        self._connection = self._side = None

    async def symbol_ids(self, names: Sequence[str]) -> list[int]:
        """The store's ids of symbols, given now to new ones; they stay if the import fails."""
        async with translated(self._dsn):
            side = self._beside()
            await side.execute(
                "INSERT INTO symbol (feed, symbol) SELECT $1, n FROM unnest($2::text[]) AS n"
                " WHERE NOT EXISTS (SELECT FROM symbol WHERE feed = $1 AND symbol = n) ON CONFLICT DO NOTHING",
                self.feed,
                list(names),
            )
            rows = await side.fetch(
                "SELECT symbol, symbol_id FROM symbol WHERE feed = $1 AND symbol = ANY($2::text[])",
                self.feed,
                list(names),
            )
        found = {row["symbol"]: row["symbol_id"] for row in rows}
        return [found[name] for name in names]

    async def claim(self, symbol_id: Int64Array, day: Int64Array) -> None:
        """Take these (symbol, day since 1970) pairs over, those that are not ours yet.

        Raises SettingError if one holds live bars and they are not to be replaced.
        """
        new = sorted(set(zip(symbol_id.tolist(), day.tolist(), strict=True)) - self._claimed)
        if not new:
            return
        pairs = ([symbol for symbol, _ in new], [days.day_of(number) for _, number in new])
        async with translated(self._dsn):
            if not self._replace_live and (
                live := await self._main().fetch(_LIVE, *pairs, timeout=_STATEMENT_TIMEOUT_S)
            ):
                shown = ", ".join(f"{row['symbol']} on {row['day']}" for row in live[:_LIVE_SHOWN])
                more = f" and {len(live) - _LIVE_SHOWN} more" if len(live) > _LIVE_SHOWN else ""
                raise SettingError(
                    "--replace",
                    f"live bars are stored for {shown}{more}; import into a feed of its own with --feed,"
                    " or give --replace to delete them",
                )
            await days.make_days(self._beside(), "bar_1s", {days.day_of(number) for _, number in new})
            for table in ("bar_1s", "bar_1m", "bar_1h"):
                await self._run(
                    f"DELETE FROM {table} b USING {_PAIRS} WHERE b.symbol_id = k.symbol_id AND {_WITHIN}", *pairs
                )
        self._claimed.update(new)

    @property
    def claimed(self) -> tuple[Int64Array, Int64Array]:
        """(symbol_id, day since 1970) of all pairs that this import owns."""
        pairs = np.array(sorted(self._claimed), np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    async def take_back(self, interval: str, symbol_id: Int64Array, start_s: Int64Array) -> BarColumns:
        """The bars among these keys that this import has written already; they are deleted, to be written anew."""
        table, keys = TABLES[INTERVALS[interval]], (symbol_id.tolist(), start_s.tolist())
        async with translated(self._dsn):
            stored = await bar_tables.fetch_bars(
                self._main(),
                f"SELECT {READ_COLUMNS} FROM {table} b JOIN {_KEYS} ON {_SAME_KEY} ORDER BY b.symbol_id, b.start",
                *keys,
            )
            await self._run(f"DELETE FROM {table} b USING {_KEYS} WHERE {_SAME_KEY}", *keys)
        return stored.bars

    async def write(
        self, interval: str, bars: BarColumns, trade_date: Int64Array, session: npt.NDArray[np.int8]
    ) -> None:
        """Add bars (1s, 1m, 1h) of claimed pairs that are not stored; trade dates are days since 1970."""
        if len(bars):
            async with translated(self._dsn):
                await self._main().copy_to_table(
                    TABLES[INTERVALS[interval]],
                    source=bar_tables.encode_bars(StoredBars(bars, trade_date, session), IMPORT),
                    columns=COLUMN_NAMES,
                    format="binary",
                    timeout=_STATEMENT_TIMEOUT_S,
                )

    async def finish(self, trade_days: DueBuckets, scales: tuple[Int64Array, Int64Array, Int64Array]) -> None:
        """Make the bars of trade dates, in place of what is there; raise the symbols' (symbol_id, price_scale,
        size_scale); commit."""
        async with translated(self._dsn):
            keys = (trade_days.symbol_id.tolist(), trade_days.start_s.tolist())
            await self._run(f"DELETE FROM bar_1d b USING {_KEYS} WHERE {_SAME_KEY}", *keys)
            await self._run("ANALYZE bar_1h")
            for first in range(0, len(trade_days.start_s), _BUCKETS_PER_STATEMENT):
                await rollups.recompute(self._main(), self.feed, DAY_S, _part(trade_days, first))
            await self._run(
                "UPDATE symbol s SET price_scale = greatest(s.price_scale, n.price_scale),"
                " size_scale = greatest(s.size_scale, n.size_scale)"
                " FROM unnest($1::int[], $2::int2[], $3::int2[]) AS n (symbol_id, price_scale, size_scale)"
                " WHERE s.symbol_id = n.symbol_id",
                *(column.tolist() for column in scales),
            )
            await self._transaction.commit()

    async def _run(self, statement: str, *arguments: object) -> None:
        await self._main().execute(statement, *arguments, timeout=_STATEMENT_TIMEOUT_S)

    def _main(self) -> Any:
        if self._connection is None:
            raise Unavailable("PostgreSQL", place_of(self._dsn), "the import is not open")
        return self._connection

    def _beside(self) -> Any:
        if self._side is None:
            raise Unavailable("PostgreSQL", place_of(self._dsn), "the import is not open")
        return self._side


def _part(due: DueBuckets, first: int) -> rollups.Buckets:
    """At most _BUCKETS_PER_STATEMENT buckets from the position `first` on."""
    chosen = slice(first, first + _BUCKETS_PER_STATEMENT)
    return rollups.Buckets(
        due.symbol_id[chosen], due.start_s[chosen], due.end_s[chosen], due.closed[chosen], due.final[chosen]
    )
