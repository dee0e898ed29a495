"""Bar tables: the columns, and how `BarColumns` get in and out of them by COPY BINARY.

All four tables have the same columns, so one staging table and one reader serve them. Rows go in whole: the writer
holds the merged bar, and its transaction has checked that nobody wrote in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

from marketfeed.domain.bars import COLUMNS, DTYPES, BarColumns, stack
from marketfeed.domain.trades import Int64Array
from marketfeed.wire.copy_binary import Column, Field, Numeric, decode_rows, encode_rows

LIVE, IMPORT = 0, 1
ROWS_AT_ONCE = 5_000
RULES_ID = 1

# Table of each interval in seconds; the daily one goes by trading day, whatever its length.
TABLES = {1: "bar_1s", 60: "bar_1m", 3600: "bar_1h", 86_400: "bar_1d"}

FIELDS = (
    Field("symbol_id", "int4"),
    Field("start", "timestamptz"),
    Field("trade_date", "date"),
    Field("session", "int2"),
    Field("open", "float8"),
    Field("high", "float8"),
    Field("low", "float8"),
    Field("close", "float8"),
    Field("volume", "numeric"),
    Field("notional", "numeric"),
    Field("price_scale", "int2"),
    Field("size_scale", "int2"),
    Field("trades", "int8"),
    Field("revision", "int4"),
    Field("state", "int2"),
    Field("incomplete", "bool"),
    Field("rules", "int2"),
    Field("source", "int2"),
    Field("open_ts", "int8"),
    Field("open_offset", "int8"),
    Field("open_index", "int8"),
    Field("close_ts", "int8"),
    Field("close_offset", "int8"),
    Field("close_index", "int8"),
    Field("first_offset", "int8"),
    Field("last_offset", "int8"),
    Field("changed_offset", "int8"),
)
COLUMN_NAMES = tuple(field.name for field in FIELDS)
_COLUMN_LIST = ", ".join(COLUMN_NAMES)
_ASSIGNMENTS = ", ".join(f"{name} = EXCLUDED.{name}" for name in COLUMN_NAMES if name not in {"symbol_id", "start"})

STAGE = "CREATE TEMP TABLE IF NOT EXISTS stage_bar (LIKE bar_1s) ON COMMIT DELETE ROWS"

# NUMERIC has no fixed width: it is read as integer units in two limbs of 10^18.
_LIMB = 10**18
_UNITS = {
    "volume": "trunc(b.volume * power(10::numeric, b.size_scale))",
    "notional": "trunc(b.notional * power(10::numeric, b.price_scale + b.size_scale))",
}
_READ_FIELDS = tuple(
    part
    for field in FIELDS
    for part in (
        (Field(field.name + "_high", "int8"), Field(field.name + "_low", "int8"))
        if field.kind == "numeric"
        else (field,)
    )
)
CLOSE_FIELDS = (
    Field("symbol_id", "int4"),
    Field("start", "timestamptz"),
    Field("close", "float8"),
    Field("close_ts", "int8"),
)
READ_COLUMNS = ", ".join(
    f"div({_UNITS[field.name]}, {_LIMB})::int8, mod({_UNITS[field.name]}, {_LIMB})::int8"
    if field.kind == "numeric"
    else f"b.{field.name}"
    for field in FIELDS
)


@dataclass(frozen=True, slots=True, eq=False)
class StoredBars:
    """Bars with what storage adds to them: rows belong together by position.

    bars        BarColumns whose symbol_id is the store's
    trade_date  int64, days since 1970-01-01
    session     int8, 0 closed, 1 pre, 2 regular, 3 post
    """

    bars: BarColumns
    trade_date: Int64Array
    session: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.bars)


def encode_bars(stored: StoredBars, source: int) -> BytesIO:
    """The COPY body of bars, with `source` LIVE or IMPORT."""
    bars = stored.bars
    columns: dict[str, Column] = {
        "start": bars.start_s,
        "trade_date": stored.trade_date,
        "session": stored.session,
        "volume": Numeric(bars.volume, bars.size_scale),
        "notional": Numeric(bars.notional, bars.price_scale + bars.size_scale),
        "revision": bars.late,
        "rules": np.full(len(bars), RULES_ID, np.int16),
        "source": np.full(len(bars), source, np.int16),
    }
    for name in COLUMN_NAMES:
        if name not in columns:
            columns[name] = getattr(bars, name)
    return BytesIO(encode_rows(FIELDS, columns))


async def upsert_bars(connection: Any, table: str, stored: StoredBars, source: int = LIVE) -> None:
    """Write whole rows into a bar table, within the caller's transaction; `STAGE` has been run on the connection."""
    if not len(stored):
        return
    await connection.copy_to_table(
        "stage_bar", source=encode_bars(stored, source), columns=COLUMN_NAMES, format="binary"
    )
    await connection.execute(
        f"INSERT INTO {table} ({_COLUMN_LIST}) SELECT {_COLUMN_LIST} FROM stage_bar"
        f" ON CONFLICT (symbol_id, start) DO UPDATE SET {_ASSIGNMENTS}"
    )
    await connection.execute("TRUNCATE stage_bar")


async def fetch_bars(connection: Any, query: str, *arguments: object) -> StoredBars:
    """The bars of a query that selects READ_COLUMNS, sorted by (symbol_id, start)."""
    columns = await fetch_columns(connection, _READ_FIELDS, query, *arguments)
    if len(columns["start"]) < ROWS_AT_ONCE:
        return _stored(columns)
    # Many rows' integers take tens of milliseconds, in which an event loop has others to serve.
    return await asyncio.to_thread(_stored, columns)


async def fetch_columns(
    connection: Any, fields: Sequence[Field], query: str, *arguments: object
) -> dict[str, npt.NDArray[Any]]:
    """The columns of a query that selects `fields`, none of them NULL."""
    body = bytearray()

    async def take(piece: bytes) -> None:
        body.extend(piece)

    await connection.copy_from_query(query, *arguments, output=take, format="binary")
    return decode_rows(fields, bytes(body))


def _stored(columns: dict[str, npt.NDArray[Any]]) -> StoredBars:
    wide = {
        name: columns[f"{name}_high"].astype(object) * _LIMB + columns[f"{name}_low"].astype(object)
        for name in ("volume", "notional")
    }
    named = {**columns, **wide, "start_s": columns["start"], "late": columns["revision"]}
    bars = BarColumns(**{name: named[name].astype(DTYPES[name], copy=False) for name in COLUMNS})
    return StoredBars(bars, columns["trade_date"].astype(np.int64), columns["session"].astype(np.int8))


def join_stored(parts: list[StoredBars]) -> StoredBars:
    """Rows of several results, sorted by (symbol_id, start_s); each pair occurs in one part only."""
    bars = stack([part.bars for part in parts])
    if not parts:
        return StoredBars(bars, np.empty(0, np.int64), np.empty(0, np.int8))
    order = np.lexsort((bars.start_s, bars.symbol_id))
    return StoredBars(
        bars.take(order),
        np.concatenate([part.trade_date for part in parts])[order],
        np.concatenate([part.session for part in parts])[order],
    )
