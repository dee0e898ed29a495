"""PostgreSQL, the store of bars: `PostgresStore` reads, `StoreWriter` is the recorder's transaction per flush.

The only package that imports asyncpg. Tables are made by the numbered files in `adapters/migrations`.
"""

from marketfeed.adapters.postgres.bars import IMPORT, LIVE, StoredBars
from marketfeed.adapters.postgres.rollups import Buckets
from marketfeed.adapters.postgres.state import CheckpointRow, StoredState
from marketfeed.adapters.postgres.store import DayBar, PostgresStore, SymbolRow
from marketfeed.adapters.postgres.writer import (
    Advance,
    GapRow,
    Progress,
    QuarantineRow,
    StoreTransaction,
    StoreWriter,
    TradeRows,
)

__all__ = [
    "IMPORT",
    "LIVE",
    "Advance",
    "Buckets",
    "CheckpointRow",
    "DayBar",
    "GapRow",
    "PostgresStore",
    "Progress",
    "QuarantineRow",
    "StoreTransaction",
    "StoreWriter",
    "StoredBars",
    "StoredState",
    "SymbolRow",
    "TradeRows",
]
