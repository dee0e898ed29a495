"""Where a reader of the log that stores nothing itself begins: everything at one position, in one transaction.

Read are the readers' rule at the checkpoint, the newest 1 s bars, each symbol's trading day so far and its previous
close. Roll-ups follow the seconds, so a day is put together without a gap from what is exact at each distance: hours
up to H0, minutes up to W0, seconds from W0 on, where W0 is the minute of the first second that the roll-ups may still
lack (changed at or after `rolled_offset`, from `rolled_from_s` on), and H0 its hour. Costs a few rows per hour, minute
and second per symbol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from marketfeed.adapters.postgres.bars import READ_COLUMNS, StoredBars, fetch_bars, join_stored
from marketfeed.adapters.postgres.state import CheckpointRow, StoredState, read_state
from marketfeed.adapters.postgres.store import PostgresStore
from marketfeed.domain.bars import BarColumns, combine
from marketfeed.domain.ownership import PartitionState
from marketfeed.domain.partitions import partition_of
from marketfeed.domain.quotes import PreviousDay
from marketfeed.domain.tape import TapeGap
from marketfeed.domain.trades import NANOS, Int64Array

DAY_S = 86_400
LATENESS_S = 15 * 60


@dataclass(frozen=True, slots=True, eq=False)
class StartState:
    """All as of `state.position`; symbol ids are the store's.

    symbols   (store id, name) of every symbol of the feed
    seconds   1 s bars from `held_from_s` on, and all OPEN ones
    days      the newest trading day of each symbol that has one, as one bar; start_s is trade_date * 86400
    previous  the trading day before, by store id; its close is as exact as the day
    gaps      those that may still touch a bar that changes
    """

    state: StoredState
    symbols: tuple[tuple[int, str], ...]
    seconds: BarColumns
    held_from_s: int
    days: BarColumns
    previous: Mapping[int, PreviousDay]
    gaps: tuple[TapeGap, ...]


async def read_start(store: PostgresStore, feed: str, keep_s: int) -> StartState:
    """Read it; `state.rows` is empty for a feed that was never recorded. Raises Unavailable."""
    async with store._reading() as connection:
        state = await read_state(connection, feed)
        rows = await connection.fetch("SELECT symbol_id, symbol FROM symbol WHERE feed = $1 ORDER BY symbol_id", feed)
        symbols = tuple((r["symbol_id"], r["symbol"]) for r in rows)
        watermark_s = _watermarks_s(state, symbols)
        newest_s = int(watermark_s.max(initial=0))
        held_from_s = newest_s - keep_s
        ids = np.array([symbol_id for symbol_id, _ in symbols], np.int64)
        from_s = await _exact_from(connection, state, symbols, watermark_s, held_from_s)
        seconds = await _range(connection, "bar_1s", ids, from_s, np.full(len(ids), _FOR_EVER_S))
        days, previous = await _days(connection, ids, from_s, seconds)
        gaps = await _gaps(connection, feed, (newest_s - LATENESS_S - keep_s) * NANOS)
    return StartState(state, symbols, seconds.bars, held_from_s, days, previous, gaps)


_FOR_EVER_S = 2**40


def watermarks(state: PartitionState) -> dict[str, int]:
    """The watermark (Unix ns) of every symbol that a partition's stored state knows."""
    epochs = {number: epoch.watermark_ts for number, epoch in state.epochs.items()}
    return {symbol: max(row.watermark_ts, epochs.get(row.epoch, 0)) for symbol, row in state.owners.items()}


def _watermarks_s(state: StoredState, symbols: Sequence[tuple[int, str]]) -> Int64Array:
    """Seconds, in the order of `symbols`; 0 for one without."""
    known: dict[str, int] = {}
    for partition in state.partitions.values():
        known.update(watermarks(partition))
    return np.array([known.get(name, 0) // NANOS for _, name in symbols], np.int64)


async def _exact_from(
    connection: Any, state: StoredState, symbols: Sequence[tuple[int, str]], watermark_s: Int64Array, held_from_s: int
) -> Int64Array:
    """W0 of each symbol: the minute from which on only seconds are exact; not after `held_from_s` or an OPEN bar."""
    partitions = max(len(state.rows), 1)
    none = CheckpointRow(0, 0, 0, 0, 0, 0, 0)
    due = [state.rows.get(partition_of(name, partitions), none) for _, name in symbols]
    rows = await connection.fetch(
        "SELECT k.symbol_id, extract(epoch FROM min(b.start))::int8 AS first_s"
        " FROM unnest($1::int[], $2::int8[], $3::int8[]) AS k (symbol_id, rolled, from_s)"
        " JOIN bar_1s b ON b.symbol_id = k.symbol_id AND b.start >= to_timestamp(k.from_s)"
        " WHERE b.changed_offset >= k.rolled GROUP BY k.symbol_id",
        [symbol_id for symbol_id, _ in symbols],
        [row.rolled_offset for row in due],
        [row.rolled_from_s for row in due],
    )
    first = {r["symbol_id"]: r["first_s"] for r in rows}
    lacking = np.array([first.get(symbol_id, _FOR_EVER_S) for symbol_id, _ in symbols], np.int64)
    still_open = np.maximum(watermark_s - 2, 0)
    return np.minimum(np.minimum(lacking, still_open), held_from_s) // 60 * 60


async def _range(connection: Any, table: str, ids: Int64Array, from_s: Int64Array, to_s: Int64Array) -> StoredBars:
    """Rows of a table that start in [from_s, to_s) of each symbol."""
    return await fetch_bars(
        connection,
        f"SELECT {READ_COLUMNS} FROM unnest($1::int[], $2::int8[], $3::int8[]) AS k (symbol_id, from_s, to_s)"
        f" JOIN {table} b ON b.symbol_id = k.symbol_id AND b.start >= to_timestamp(k.from_s)"
        " AND b.start < to_timestamp(k.to_s) ORDER BY b.symbol_id, b.start",
        ids.tolist(),
        from_s.tolist(),
        to_s.tolist(),
    )


async def _days(
    connection: Any, ids: Int64Array, from_s: Int64Array, seconds: StoredBars
) -> tuple[BarColumns, dict[int, PreviousDay]]:
    """The newest trading day of each symbol, and the day before."""
    rows = await connection.fetch(
        "SELECT b.symbol_id, b.trade_date - date '1970-01-01' AS day, b.close, b.close_ts, b.close_offset,"
        " b.close_index, extract(epoch FROM b.start)::int8 AS start_s"
        " FROM unnest($1::int[]) AS k (symbol_id) CROSS JOIN LATERAL ("
        " SELECT * FROM bar_1d WHERE symbol_id = k.symbol_id ORDER BY start DESC LIMIT 2) b ORDER BY b.start",
        ids.tolist(),
    )
    # The newest day by the seconds wins over bar_1d's, which may not have it yet.
    newest = dict(zip(seconds.bars.symbol_id.tolist(), seconds.trade_date.tolist(), strict=True))
    for r in rows:
        newest[r["symbol_id"]] = max(r["day"], newest.get(r["symbol_id"], r["day"]))
    day_start_s: dict[int, int] = {}
    stored: list[tuple[int, PreviousDay]] = []
    for r in rows:
        if r["day"] < newest[r["symbol_id"]]:
            before = PreviousDay(r["day"], r["close"], r["close_ts"], r["close_offset"], r["close_index"])
            stored.append((r["symbol_id"], before))
        else:
            day_start_s[r["symbol_id"]] = r["start_s"]
    hour_s = from_s // 3600 * 3600
    begin_s = np.array([day_start_s.get(one, _FOR_EVER_S) for one in ids.tolist()], np.int64)
    hours = await _range(connection, "bar_1h", ids, begin_s, hour_s)
    minutes = await _range(connection, "bar_1m", ids, np.maximum(begin_s, hour_s), from_s)
    return _as_days(join_stored([hours, minutes, seconds]), newest), _previous(stored, seconds, newest)


def _previous(
    stored: Sequence[tuple[int, PreviousDay]], seconds: StoredBars, newest: Mapping[int, int]
) -> dict[int, PreviousDay]:
    """The last trade of the newest day before each symbol's newest one, by bar_1d and by what that may lack."""
    bars, found = seconds.bars, dict[int, PreviousDay]()
    rows = zip(
        *(c.tolist() for c in (bars.symbol_id, seconds.trade_date, bars.close)),
        *(c.tolist() for c in (bars.close_ts, bars.close_offset, bars.close_index)),
        strict=True,
    )
    lacking = ((symbol_id, PreviousDay(*day)) for symbol_id, *day in rows if day[0] < newest[symbol_id])
    for symbol_id, before in (*stored, *lacking):
        held = found.get(symbol_id)
        if held is None or _key(before) > _key(held):
            found[symbol_id] = before
    return found


def _key(day: PreviousDay) -> tuple[int, int, int, int]:
    return day.date, day.event_ts, day.offset, day.index


def _as_days(parts: StoredBars, newest: Mapping[int, int]) -> BarColumns:
    """Parts of the newest day of each symbol made one bar."""
    wanted = np.array([newest[one] for one in parts.bars.symbol_id.tolist()], np.int64)
    chosen = parts.trade_date == wanted
    bars = parts.bars.take(chosen)
    return combine(replace(bars, start_s=parts.trade_date[chosen] * DAY_S))


async def _gaps(connection: Any, feed: str, from_ts: int) -> tuple[TapeGap, ...]:
    rows = await connection.fetch(
        "SELECT partition, log_offset, symbol_ids, from_ts, to_ts, reason, dropped FROM gap"
        " WHERE feed = $1 AND to_ts >= $2 ORDER BY partition, log_offset",
        feed,
        from_ts,
    )
    return tuple(
        TapeGap(
            r["partition"], r["log_offset"], np.array(r["symbol_ids"], np.int64), r["from_ts"], r["to_ts"],
            r["reason"], r["dropped"],
        )
        for r in rows
    )  # fmt: skip
