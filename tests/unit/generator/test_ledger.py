"""The manifest's sums equal those made one trade at a time."""

from typing import Any

import numpy as np
import pytest

from marketfeed.generator.ledger import Ledger
from marketfeed.generator.market import Market, MarketShape


def slow_rows(market: Market, handed: list[tuple[Any, Any]]) -> dict[tuple[int, int], list[int]]:
    """(second, symbol) -> trades, updates, volume, notional, open, high, low, close; with plain Python."""
    trades: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    for made, mask in handed:
        for i in range(market.pages.per_slice):
            at = made.pattern * market.pages.per_slice + i
            symbol = int(market.pages.symbol[at])
            if mask is None or mask[symbol]:
                stamp = int(made.stamp_ms[i])
                row = (stamp, int(made.price_ticks[i]), int(market.pages.size_units[at]))
                trades.setdefault((stamp // 1000, symbol), []).append(row)
    rows = {}
    for key, found in trades.items():
        ordered = sorted(found, key=lambda row: row[0])  # stable: the order of sending decides among equals
        prices, sizes = [row[1] for row in ordered], [row[2] for row in ordered]
        traded = sum(size > 0 for size in sizes)
        notional = sum(p * s for p, s in zip(prices, sizes, strict=True))
        extremes = [prices[0], max(prices), min(prices), prices[-1]]
        rows[key] = [traded, len(found) - traded, sum(sizes), notional, *extremes]
    return rows


def rows_of(ledger: Ledger) -> dict[tuple[int, int], list[int]]:
    s = ledger.seconds()
    names = ("trades", "updates", "volume", "notional", "open", "high", "low", "close")
    keys = zip(s.start_s.tolist(), s.symbol.tolist(), strict=True)
    return dict(zip(keys, map(list, zip(*(getattr(s, n).tolist() for n in names), strict=True)), strict=True))


@pytest.mark.parametrize(("rate", "slices"), [(4_000.0, 800), (0.5, 300)])
def test_sums_equal_those_of_plain_python(rate: float, slices: int) -> None:
    """Late trades, masks, packed seconds and long pauses included."""
    market = Market(MarketShape(seed=3, start_ms=1_767_366_000_500, symbols=20, rate=rate, late_share=0.05))
    ledger, handed = Ledger(20, market.pages, 10_000), []
    for number in range(slices):
        made = market.next()
        if number % 7 == 3:
            continue  # nobody was connected
        mask = None if number % 3 else np.arange(20) % 2 == 0
        ledger.add(made, mask)
        handed.append((made, mask))
        if number % 100 == 0:
            ledger.seconds()  # looking changes nothing
    assert rows_of(ledger) == slow_rows(market, handed)
    seconds = ledger.seconds()
    keys = list(zip(seconds.start_s.tolist(), seconds.symbol.tolist(), strict=True))
    assert keys == sorted(keys)


def test_old_seconds_are_forgotten_and_it_says_so() -> None:
    """Memory is bounded; the manifest never pretends to hold what it dropped."""
    market = Market(MarketShape(seed=3, start_ms=1_767_366_000_000, symbols=5, rate=2.0))
    ledger = Ledger(5, market.pages, 10)
    for _ in range(600):
        ledger.add(market.next(), None)
    assert ledger.seconds().start_s.min() >= ledger.kept_from_s > 0
