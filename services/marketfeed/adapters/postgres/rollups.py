"""Roll-ups: 1 m from 1 s, 1 h from 1 m, 1 d (by trading day) from 1 h, recomputed by SQL in the writer's transaction.

A bucket is always recomputed whole from the level below: exact (volume and notional are NUMERIC, open and close are
those of the first and last bar, as bars do not overlap), idempotent, and right after late trades, gaps and imports
alike. Which buckets are due is the caller's matter. A bucket costs three index look-ups, never a scan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from marketfeed.adapters.postgres.bars import COLUMN_NAMES
from marketfeed.domain.trades import Int64Array

# How each column of a bucket comes from the bars below it: first and last bar, or an aggregate over all.
_FIRST = ("open", "open_ts", "open_offset", "open_index", "trade_date", "session")
_LAST = ("close", "close_ts", "close_offset", "close_index")
_AGGREGATES = {
    "high": "max(x.high)",
    "low": "min(x.low)",
    "volume": "sum(x.volume)",
    "notional": "sum(x.notional)",
    "price_scale": "max(x.price_scale)",
    "size_scale": "max(x.size_scale)",
    "trades": "sum(x.trades)::bigint",
    "revision": "sum(x.revision)::integer",
    "incomplete": "bool_or(x.incomplete)",  # or a gap touches the bucket, see below
    "rules": "max(x.rules)",
    "source": "min(x.source)",
    "first_offset": "min(x.first_offset)",
    "last_offset": "max(x.last_offset)",
    "changed_offset": "max(x.changed_offset)",
}
_STATE = "CASE WHEN k.final THEN 3 WHEN NOT k.closed THEN 0 WHEN a.revision > 0 THEN 2 ELSE 1 END"

# A gap makes a bucket incomplete also where there is no finer bar.
_INCOMPLETE = """a.incomplete OR EXISTS (
        SELECT FROM gap g WHERE g.feed = $6 AND g.to_ts >= extract(epoch FROM k.start)::int8 * 1000000000
        AND g.from_ts < extract(epoch FROM k.stop)::int8 * 1000000000 AND k.symbol_id = ANY (g.symbol_ids)
    )"""


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """Buckets to recompute, as equally long arrays: the store's symbol id, [start_s, end_s) in Unix seconds, and
    whether the symbol's watermark has closed the bucket and made it final."""

    symbol_id: Int64Array
    start_s: Int64Array
    end_s: Int64Array
    closed: np.ndarray[Any, np.dtype[np.bool_]]
    final: np.ndarray[Any, np.dtype[np.bool_]]

    def __len__(self) -> int:
        return len(self.symbol_id)


def _statement(table: str, below: str) -> str:
    aggregates = ", ".join(f"{expression} AS {name}" for name, expression in _AGGREGATES.items())

    def value(name: str) -> str:
        if name == "symbol_id":
            return "k.symbol_id"
        if name == "start":
            return "k.start"
        if name == "state":
            return _STATE
        if name == "incomplete":
            return _INCOMPLETE
        return f"{'f' if name in _FIRST else 'l' if name in _LAST else 'a'}.{name}"

    values = ", ".join(value(name) for name in COLUMN_NAMES)
    assignments = ", ".join(f"{n} = EXCLUDED.{n}" for n in COLUMN_NAMES if n not in {"symbol_id", "start"})
    # An aggregate without GROUP BY and a LIMIT keep the planner from turning a look-up per bucket into a join over all
    # that a symbol has. A bucket without a bar below it gives no row.
    return f"""
INSERT INTO {table} ({", ".join(COLUMN_NAMES)})
SELECT {values}
FROM (
    SELECT symbol_id, to_timestamp(start_s) AS start, to_timestamp(end_s) AS stop, closed, final
    FROM unnest($1::int[], $2::int8[], $3::int8[], $4::bool[], $5::bool[])
         AS given (symbol_id, start_s, end_s, closed, final)
) k
CROSS JOIN LATERAL (
    SELECT {aggregates}
    FROM {below} x WHERE x.symbol_id = k.symbol_id AND x.start >= k.start AND x.start < k.stop
) a
CROSS JOIN LATERAL (
    SELECT * FROM {below} x WHERE x.symbol_id = k.symbol_id AND x.start >= k.start AND x.start < k.stop
    ORDER BY x.start LIMIT 1
) f
CROSS JOIN LATERAL (
    SELECT * FROM {below} x WHERE x.symbol_id = k.symbol_id AND x.start >= k.start AND x.start < k.stop
    ORDER BY x.start DESC LIMIT 1
) l
ON CONFLICT (symbol_id, start) DO UPDATE SET {assignments}"""


_STATEMENTS = {
    60: _statement("bar_1m", "bar_1s"),
    3600: _statement("bar_1h", "bar_1m"),
    86_400: _statement("bar_1d", "bar_1h"),
}


async def recompute(connection: Any, feed: str, interval_s: int, buckets: Buckets) -> None:
    """Make a feed's buckets of an interval (60, 3600 or 86400: trading day) anew from the level below."""
    if len(buckets):
        await connection.execute(
            _STATEMENTS[interval_s],
            buckets.symbol_id.tolist(),
            buckets.start_s.tolist(),
            buckets.end_s.tolist(),
            buckets.closed.tolist(),
            buckets.final.tolist(),
            feed,
        )
