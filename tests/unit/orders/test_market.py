"""A batch of the client becomes prints in nanos; nothing else of it changes."""

from __future__ import annotations

import numpy as np

from marketfeed.domain.trades import NANOS
from marketfeed.orders.market import prints_of
from marketfeed.wire.market_data import TapeBatch


def test_prints_are_whole_nanos() -> None:
    """Prices and sizes are rounded to 10^-9; names and stamps are taken over."""
    batch = TapeBatch(
        3, ("A", "B"), np.array([1, 0], np.uint32), np.array([5, 6]), np.array([0.1 + 0.2, 7.25]),
        np.array([0.000001, 0.0]), np.array([8, 9]), np.array([0, 1]), (), np.array([0, 0], np.uint32),
        1, 2, 3, 4, "log@0=1",
    )  # fmt: skip
    prints = prints_of(batch)
    assert prints.price.tolist() == [300_000_000, 7_250_000_000]
    assert prints.size.tolist() == [1_000, 0]
    assert (prints.partition, prints.symbols, prints.oldest_logged_ts) == (3, ("A", "B"), 4)
    assert prints.symbol_index.tolist() == [1, 0]
    assert (prints.offset.tolist(), prints.index.tolist(), prints.event_ts.tolist()) == ([8, 9], [0, 1], [5, 6])
    assert prints.price.dtype == np.int64
    assert prints.price[1] == round(7.25 * NANOS)
