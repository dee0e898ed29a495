"""Bars of one symbol over a span of any length, a bounded number at a time."""

from __future__ import annotations

from marketfeed.adapters.postgres.bars import READ_COLUMNS, TABLES, StoredBars, fetch_bars
from marketfeed.adapters.postgres.state import read_checkpoint
from marketfeed.adapters.postgres.store import PostgresStore
from marketfeed.domain.position import Position


async def read_span(
    store: PostgresStore, feed: str, symbol: str, interval_s: int, from_s: int, to_s: int, rows_max: int
) -> tuple[Position | None, StoredBars]:
    """The first `rows_max` bars that start in [from_s, to_s), and the position they belong to. Raises Unavailable."""
    async with store._reading() as connection:
        topic_id, rows = await read_checkpoint(connection, feed)
        stored = await fetch_bars(
            connection,
            f"SELECT {READ_COLUMNS} FROM {TABLES[interval_s]} b"
            " WHERE b.symbol_id = (SELECT symbol_id FROM symbol WHERE feed = $1 AND symbol = $2)"
            " AND b.start >= to_timestamp($3::int8) AND b.start < to_timestamp($4::int8) ORDER BY b.start LIMIT $5",
            feed,
            symbol,
            from_s,
            to_s,
            rows_max,
        )
    return (Position(topic_id, {p: row.next_offset for p, row in rows.items()}) if rows else None), stored
