"""The manifest: what a generator handed to its sockets, per symbol and second, exactly.

It is the truth that verification compares the log, the bars and the cache with. Prices and sizes are integers of their
symbol's decimals, sums are exact. A second is the second of a trade's event time, however late it was sent. Bad trades
that a fault put into the stream are not in it; a trade that was sent several times counts once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from marketfeed.domain.trades import Int64Array


@dataclass(frozen=True, slots=True, eq=False)
class ManifestSeconds:
    """One row per symbol and second with a trade or an update, sorted by (start_s, symbol); all columns int64.

    symbol               place in the manifest's list of symbols
    start_s              Unix seconds
    trades, updates      rows of size above 0, and of size 0
    volume               units of 10^-size_scale
    notional             units of 10^-(price_scale + size_scale)
    open … close         units of 10^-price_scale, updates included; open and close by (event time, order of sending)
    """

    symbol: Int64Array
    start_s: Int64Array
    trades: Int64Array
    updates: Int64Array
    volume: Int64Array
    notional: Int64Array
    open: Int64Array
    high: Int64Array
    low: Int64Array
    close: Int64Array

    def __len__(self) -> int:
        return len(self.symbol)


@dataclass(frozen=True, slots=True)
class ManifestConnection:
    """One connection of a client: Unix ns, `closed_ns` 0 while it is open; `trades` counts rows of both kinds."""

    opened_ns: int
    closed_ns: int
    reason: str
    symbols: int
    trades: int
    frames: int


@dataclass(frozen=True, slots=True, eq=False)
class Manifest:
    """All that was handed out since the start, or since `kept_from_s`: older seconds were dropped for space."""

    seed: int
    start_ms: int
    rate: float
    stopped: bool
    kept_from_s: int
    symbols: tuple[str, ...]
    price_scale: tuple[int, ...]
    size_scale: tuple[int, ...]
    connections: tuple[ManifestConnection, ...]
    seconds: ManifestSeconds

    def rows_of_symbols(self) -> Int64Array:
        """Trades and updates per symbol, in the order of `symbols`."""
        rows = np.zeros(len(self.symbols), np.int64)
        np.add.at(rows, self.seconds.symbol, self.seconds.trades + self.seconds.updates)
        return rows


SECONDS_COLUMNS = tuple(field.name for field in fields(ManifestSeconds))


def join_seconds(parts: list[ManifestSeconds]) -> ManifestSeconds:
    """One table of parts that follow one another in time."""
    if not parts:
        return ManifestSeconds(*(np.empty(0, np.int64) for _ in SECONDS_COLUMNS))
    return ManifestSeconds(*(np.concatenate([getattr(part, name) for part in parts]) for name in SECONDS_COLUMNS))
