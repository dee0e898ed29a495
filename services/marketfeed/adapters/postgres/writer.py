"""The writing side of the store: one connection, one transaction per flush, and the position is its first statement.

`UPDATE checkpoint … WHERE next_offset = expected` takes the rows' locks, so writers of a feed go one after the other;
one whose expectation is stale changes no row, raises StalePosition and leaves nothing behind. Bars, owners, gaps and
offsets therefore always belong together, whoever is killed and however many write.

Commits do not wait for the disk (`synchronous_commit = off`): what a crash of the server loses is a whole tail of
transactions, positions included, and the log still has it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from typing import Any

import asyncpg
import msgspec
import numpy as np

from marketfeed.adapters.postgres import bars as bar_tables
from marketfeed.adapters.postgres import days, rollups
from marketfeed.adapters.postgres.bars import READ_COLUMNS, StoredBars
from marketfeed.adapters.postgres.connection import close_quietly, connect, translated
from marketfeed.adapters.postgres.state import read_checkpoint
from marketfeed.domain.bar_window import LATENESS_S
from marketfeed.domain.errors import StalePosition
from marketfeed.domain.ownership import EpochState, OwnerRow
from marketfeed.domain.partitions import partition_of
from marketfeed.domain.position import Position
from marketfeed.domain.rollups_due import NOTHING_DUE_S
from marketfeed.domain.trades import NANOS, Conditions, Float64Array, Int64Array
from marketfeed.wire.copy_binary import Field, encode_rows

_CHECKPOINT = """
UPDATE checkpoint c SET next_offset = n.next_offset, append_ts = greatest(c.append_ts, n.append_ts), updated_at = now()
FROM unnest($3::int[], $4::int8[], $5::int8[], $6::int8[]) AS n (partition, expected, next_offset, append_ts)
WHERE c.feed = $1 AND c.topic_id = $2 AND c.partition = n.partition AND c.next_offset = n.expected
"""
_PROGRESS = """
UPDATE checkpoint c SET rolled_offset = n.rolled_offset, rolled_from_s = n.rolled_from_s,
       published_offset = n.published_offset, published_from_s = n.published_from_s
FROM unnest($2::int[], $3::int8[], $4::int8[], $5::int8[], $6::int8[])
     AS n (partition, rolled_offset, rolled_from_s, published_offset, published_from_s)
WHERE c.feed = $1 AND c.partition = n.partition
"""
_INCOMPLETE = """
UPDATE bar_1s b SET incomplete = true, changed_offset = k.at
FROM unnest($1::int[], $2::int8[], $3::int8[], $4::int8[]) AS k (symbol_id, from_s, until_s, at)
WHERE b.symbol_id = k.symbol_id AND b.start >= to_timestamp(k.from_s) AND b.start < to_timestamp(k.until_s)
  AND NOT b.incomplete
"""
_SETTLE = """
UPDATE {table} b SET state = CASE WHEN b.start < to_timestamp(k.final_s) THEN 3 WHEN b.revision > 0 THEN 2 ELSE 1 END
FROM unnest($1::int[], $2::int8[], $3::int8[], $4::int8[]) AS k (symbol_id, from_s, closed_s, final_s)
WHERE b.symbol_id = k.symbol_id AND b.start >= to_timestamp(k.from_s) AND b.start < to_timestamp(k.closed_s)
  AND b.state < CASE WHEN b.start < to_timestamp(k.final_s) THEN 3 WHEN b.revision > 0 THEN 2 ELSE 1 END
"""
_OLDER = (
    f"SELECT {READ_COLUMNS} FROM bar_1s b JOIN unnest($1::int[], $2::int8[]) AS k (symbol_id, start_s)"
    " ON b.symbol_id = k.symbol_id AND b.start = to_timestamp(k.start_s) ORDER BY b.symbol_id, b.start"
)
_TRADE_FIELDS = (
    Field("day", "date"),
    Field("log_id", "int4"),
    Field("partition", "int2"),
    Field("log_offset", "int8"),
    Field("idx", "int4"),
    Field("symbol_id", "int4"),
    Field("event_ts", "int8"),
    Field("price", "float8"),
    Field("size", "float8"),
    Field("condition_set_id", "int4"),
)


@dataclass(frozen=True, slots=True)
class Advance:
    """A partition's step from `expected` to `next_offset`, and the newest LogAppendTime in between."""

    partition: int
    expected: int
    next_offset: int
    append_ts: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far what follows from the bars has come; see the table `checkpoint`."""

    partition: int
    rolled_offset: int
    rolled_from_s: int
    published_offset: int
    published_from_s: int


@dataclass(frozen=True, slots=True)
class GapRow:
    """Trades of symbols (the store's ids) stamped in [from_ts, to_ts] may be missing."""

    partition: int
    log_offset: int
    reason: str
    from_ts: int
    to_ts: int
    dropped: int
    symbol_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """Something of the log that was not used, and why; `idx` is a trade's place in its record, 0 for a record."""

    partition: int
    log_offset: int
    idx: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, eq=False)
class TradeRows:
    """Raw trades as equally long columns; symbol and condition ids are the store's."""

    partition: Int64Array
    log_offset: Int64Array
    idx: Int64Array
    symbol_id: Int64Array
    event_ts: Int64Array
    price: Float64Array
    size: Float64Array
    condition_set_id: Int64Array


class StoreWriter:
    """One writer of one feed. Not for use by several tasks at a time."""

    def __init__(self, dsn: str, feed: str, application: str = "marketfeed-recorder") -> None:
        self.feed = feed
        self._dsn = dsn
        self._application = application
        self._connection: asyncpg.Connection | None = None
        self._log_id = 0
        self._days: dict[str, set[date]] = {}
        self._condition_ids: dict[Conditions, int] = {}

    async def open(self) -> None:
        """Connect and make the temporary table. Raises Unavailable or SettingError."""
        await self.close()
        # A server that crashed may have lost ids that it had given.
        self._condition_ids = {}
        connection = await connect(self._dsn, self._application, synchronous_commit="off")
        try:
            async with translated(self._dsn):
                await connection.execute(bar_tables.STAGE)
                self._days = {parent: await days.existing_days(connection, parent) for parent in days.PARENTS}
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection

    async def close(self) -> None:
        """Let the connection go; may be called at any time."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await close_quietly(connection)

    @property
    def connection(self) -> asyncpg.Connection:
        """The connection; `open` comes first."""
        assert self._connection is not None, "StoreWriter.open has not been called"
        return self._connection

    async def symbol_ids(self, names: Sequence[str]) -> list[int]:
        """The store's ids of symbols, given now to new ones. Raises Unavailable."""
        async with translated(self._dsn):
            await self.connection.execute(
                "INSERT INTO symbol (feed, symbol) SELECT $1, n FROM unnest($2::text[]) AS n"
                " WHERE NOT EXISTS (SELECT FROM symbol WHERE feed = $1 AND symbol = n) ON CONFLICT DO NOTHING",
                self.feed,
                list(names),
            )
            rows = await self.connection.fetch(
                "SELECT symbol, symbol_id FROM symbol WHERE feed = $1 AND symbol = ANY($2::text[])",
                self.feed,
                list(names),
            )
        found = {row["symbol"]: row["symbol_id"] for row in rows}
        return [found[name] for name in names]

    async def condition_ids(self, sets: Sequence[Conditions]) -> list[int]:
        """The store's ids of condition sets, given now to new ones; each is asked for once. Raises Unavailable."""
        new = [codes for codes in sets if codes not in self._condition_ids]
        if new:
            await self._learn_conditions(new)
        return [self._condition_ids[codes] for codes in sets]

    async def _learn_conditions(self, sets: Sequence[Conditions]) -> None:
        keys = [msgspec.json.encode(codes).decode() for codes in sets]
        async with translated(self._dsn):
            for key, codes in zip(keys, sets, strict=True):
                await self.connection.execute(
                    "INSERT INTO condition_set (codes, key) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                    None if codes is None else list(codes),
                    key,
                )
            rows = await self.connection.fetch(
                "SELECT key, condition_set_id FROM condition_set WHERE key = ANY($1::text[])", keys
            )
        found = {row["key"]: row["condition_set_id"] for row in rows}
        self._condition_ids.update((codes, found[key]) for key, codes in zip(keys, sets, strict=True))

    async def ensure_days(self, parent: str, day_numbers: Iterable[int]) -> None:
        """See to partitions of `parent` for days since 1970. Raises Unavailable."""
        wanted = {days.day_of(number) for number in day_numbers}
        if missing := wanted - self._days[parent]:
            async with translated(self._dsn):
                await days.make_days(self.connection, parent, missing)
            self._days[parent] |= missing

    async def begin_log(self, topic_id: str, partitions: int, now_ns: int) -> bool:
        """Make checkpoint rows for partitions that have none. If the rows are of another log, void them: offset 0, no
        owners, and a gap from the lateness before the last record applied until now. Says whether that was so.

        Raises Unavailable.
        """
        async with translated(self._dsn), self.connection.transaction():
            await self.connection.execute("SELECT FROM checkpoint WHERE feed = $1 FOR UPDATE", self.feed)
            log = self.feed, topic_id
            await self.connection.execute(
                "INSERT INTO log (feed, topic_id) VALUES ($1, $2) ON CONFLICT DO NOTHING", *log
            )
            self._log_id = await self.connection.fetchval(
                "SELECT log_id FROM log WHERE feed = $1 AND topic_id = $2", *log
            )
            found, rows = await read_checkpoint(self.connection, self.feed)
            replaced = bool(found) and found != topic_id
            # Of a new log nothing is stored, so neither roll-ups nor <feed>.bars can lack anything of it. What they
            # lack of the old one, and what the gap marks, has offsets that mean nothing now: all from that second on.
            rolled_s = published_s = NOTHING_DUE_S
            if replaced:
                for table in ("owner", "epoch_state", "checkpoint"):
                    await self.connection.execute(f"DELETE FROM {table} WHERE feed = $1", self.feed)
                from_ts = max(row.append_ts for row in rows.values()) - LATENESS_S * NANOS
                rolled_s = min(from_ts // NANOS, *(row.rolled_from_s for row in rows.values()))
                published_s = min(from_ts // NANOS, *(row.published_from_s for row in rows.values()))
                await self._note_replaced(partitions, from_ts, now_ns)
            await self.connection.execute(
                "INSERT INTO checkpoint (feed, partition, topic_id, next_offset, rolled_offset, rolled_from_s,"
                " published_offset, published_from_s, append_ts)"
                " SELECT $1, p, $2, 0, 0, $4, 0, $5, 0 FROM generate_series(0, $3::int - 1) AS p"
                " ON CONFLICT DO NOTHING",
                self.feed,
                topic_id,
                partitions,
                rolled_s,
                published_s,
            )
            return replaced

    async def _note_replaced(self, partitions: int, from_ts: int, to_ts: int) -> None:
        """The gap between two logs: its rows, and the stored bars that it touches."""
        transaction = StoreTransaction(self.connection, self.feed, self._log_id)
        symbols = await self.connection.fetch("SELECT symbol_id, symbol FROM symbol WHERE feed = $1", self.feed)
        by_partition: dict[int, list[int]] = {}
        for row in symbols:
            by_partition.setdefault(partition_of(row["symbol"], partitions), []).append(row["symbol_id"])
        await transaction.add_gaps(
            [GapRow(p, 0, "log_replaced", from_ts, to_ts, 0, tuple(ids)) for p, ids in by_partition.items()]
        )
        span_s = from_ts // NANOS, to_ts // NANOS + 1
        await transaction.mark_incomplete([(row["symbol_id"], *span_s, 0) for row in symbols])

    @asynccontextmanager
    async def transaction(self, topic_id: str, advances: Sequence[Advance]) -> AsyncIterator[StoreTransaction]:
        """A transaction that moves the checkpoint; what is written in it is committed with it, or nothing is.

        Raises StalePosition if a partition is not where expected, Unavailable if the server is away.
        """
        async with translated(self._dsn), self.connection.transaction():
            columns = _columns([(a.partition, a.expected, a.next_offset, a.append_ts) for a in advances])
            done = await self.connection.execute(_CHECKPOINT, self.feed, topic_id, *columns)
            if done != f"UPDATE {len(advances)}":
                found_id, rows = await read_checkpoint(self.connection, self.feed)
                expected = Position(topic_id, {a.partition: a.expected for a in advances})
                found = Position(found_id, {p: row.next_offset for p, row in rows.items()})
                raise StalePosition("store", expected.text(), found.text())
            yield StoreTransaction(self.connection, self.feed, self._log_id)


class StoreTransaction:
    """What may be written between a checkpoint's move and its commit."""

    def __init__(self, connection: asyncpg.Connection, feed: str, log_id: int) -> None:
        self._connection: Any = connection
        self._feed = feed
        self._log_id = log_id

    async def read_older(self, symbol_id: Int64Array, start_s: Int64Array) -> StoredBars:
        """The stored 1 s bars among these (symbol, start) pairs."""
        return await bar_tables.fetch_bars(self._connection, _OLDER, symbol_id.tolist(), start_s.tolist())

    async def write_bars(self, stored: StoredBars) -> None:
        """Write whole 1 s bars."""
        await bar_tables.upsert_bars(self._connection, "bar_1s", stored)

    async def roll_up(self, interval_s: int, buckets: rollups.Buckets) -> None:
        """Recompute buckets of 60, 3600 or 86400 s; do the finer intervals first."""
        await rollups.recompute(self._connection, self._feed, interval_s, buckets)

    async def note_progress(self, progress: Sequence[Progress]) -> None:
        """Store how far roll-ups and publishing have come."""
        rows = [tuple(getattr(p, name) for name in Progress.__slots__) for p in progress]
        await self._connection.execute(_PROGRESS, self._feed, *_columns(rows))

    async def mark_incomplete(self, spans: Sequence[tuple[int, int, int, int]]) -> None:
        """Mark stored 1 s bars: (symbol id, from second, until second, offset of the gap's record)."""
        if spans:
            await self._connection.execute(_INCOMPLETE, *_columns(spans))

    async def settle(
        self, interval_s: int, symbol_id: Int64Array, from_s: Int64Array, closed_s: Int64Array, final_s: Int64Array
    ) -> None:
        """Give the bars of an interval that start in [from_s, closed_s) the state CLOSED or REVISED, and FINAL if they
        start before final_s. A bar that is further on stays so: the caller's spans may lag behind what made it."""
        if len(symbol_id):
            columns = (column.tolist() for column in (symbol_id, from_s, closed_s, final_s))
            await self._connection.execute(_SETTLE.format(table=bar_tables.TABLES[interval_s]), *columns)

    async def raise_scales(self, symbol_id: Int64Array, price_scale: Int64Array, size_scale: Int64Array) -> None:
        """Raise the scales of symbols to these, where they are finer."""
        await self._connection.execute(
            "UPDATE symbol s SET price_scale = greatest(s.price_scale, n.price_scale),"
            " size_scale = greatest(s.size_scale, n.size_scale)"
            " FROM unnest($1::int[], $2::int2[], $3::int2[]) AS n (symbol_id, price_scale, size_scale)"
            " WHERE s.symbol_id = n.symbol_id",
            symbol_id.tolist(),
            price_scale.tolist(),
            size_scale.tolist(),
        )

    async def add_owners(self, partition: int, rows: Sequence[OwnerRow], ids: Mapping[str, int]) -> None:
        """Append ownership; `ids` are the store's ids of the symbols."""
        if rows:
            await self._connection.execute(
                "INSERT INTO owner (feed, partition, symbol_id, epoch, from_offset, watermark_ts)"
                " SELECT $1, $2, * FROM unnest($3::int[], $4::int8[], $5::int8[], $6::int8[])",
                self._feed,
                partition,
                [ids[row.symbol] for row in rows],
                [row.epoch for row in rows],
                [row.from_offset for row in rows],
                [row.watermark_ts for row in rows],
            )

    async def add_epochs(self, rows: Sequence[tuple[int, int, EpochState]]) -> None:
        """Append epochs' states: (partition, as of offset, state)."""
        if rows:
            await self._connection.execute(
                "INSERT INTO epoch_state (feed, partition, as_of_offset, epoch, last_seq, watermark_ts)"
                " SELECT $1, * FROM unnest($2::int[], $3::int8[], $4::int8[], $5::int8[], $6::int8[])",
                self._feed,
                [partition for partition, _, _ in rows],
                [as_of for _, as_of, _ in rows],
                [state.epoch for _, _, state in rows],
                [state.last_seq for _, _, state in rows],
                [state.watermark_ts for _, _, state in rows],
            )

    async def add_gaps(self, rows: Sequence[GapRow]) -> None:
        """Note gaps; one that is known is left as it is."""
        log = self._feed, self._log_id
        await self._connection.executemany(
            "INSERT INTO gap (feed, log_id, partition, log_offset, reason, from_ts, to_ts, dropped, symbol_ids)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
            [
                (*log, r.partition, r.log_offset, r.reason, r.from_ts, r.to_ts, r.dropped, list(r.symbol_ids))
                for r in rows
            ],
        )

    async def add_quarantine(self, rows: Sequence[QuarantineRow]) -> None:
        """Keep what was not used."""
        await self._connection.executemany(
            "INSERT INTO quarantine (feed, log_id, partition, log_offset, idx, reason, detail)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            [(self._feed, self._log_id, r.partition, r.log_offset, r.idx, r.reason, r.detail) for r in rows],
        )

    async def add_trades(self, trades: TradeRows) -> None:
        """Copy raw trades into `trade`; the position's check keeps them from coming twice."""
        columns = {name: getattr(trades, name) for name in TradeRows.__slots__}
        columns["day"] = trades.event_ts // 86_400_000_000_000
        columns["log_id"] = np.full(len(trades.event_ts), self._log_id, np.int64)
        body = encode_rows(_TRADE_FIELDS, columns)
        names = [field.name for field in _TRADE_FIELDS]
        await self._connection.copy_to_table("trade", source=BytesIO(body), columns=names, format="binary")


def _columns(rows: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Rows as columns, the shape that unnest takes."""
    return [list(column) for column in zip(*rows, strict=True)]
