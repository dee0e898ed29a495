"""Tape to 1 s bars: the reducer alone, and the window that the recorder keeps, in CPU time of one core.

1,000 symbols by Zipf's law, prices in hundredths, one in a thousand trades late, 8 partitions with a watermark each
500 ms, a flush (`changed`, `evict`) every 200 ms of event time.
"""

from __future__ import annotations

import time

import numpy as np

from marketfeed.domain.bar_window import BarWindow
from marketfeed.domain.bars import no_bars, reduce_trades
from marketfeed.domain.tape import TapeEvent, TapeTrades, TapeWatermark
from marketfeed.domain.trades import NANOS

SYMBOLS, PARTITIONS = 1000, 8
T0 = 1_741_615_800 * NANOS
# trades a call, milliseconds of event time a call, calls
SIZES = ((2_500, 12.5, 160), (20_000, 100.0, 60), (100_000, 100.0, 20))


def batch(rng: np.random.Generator, count: int, begin_ns: int, length_ns: int, offset: int) -> list[TapeEvent]:
    """The trades of all partitions in a stretch of event time."""
    weights = 1 / np.arange(1, SYMBOLS + 1)
    symbol_id = np.searchsorted(np.cumsum(weights / weights.sum()), rng.random(count)).clip(0, SYMBOLS - 1)
    event_ts = begin_ns + np.sort(rng.integers(0, max(length_ns, 1), count)) // 1_000_000 * 1_000_000
    late = rng.random(count) < 0.001
    event_ts[late] -= rng.integers(0, 5_000, int(late.sum())) * 1_000_000
    price, size = rng.integers(1_000, 50_000, count) / 100, rng.integers(0, 500, count).astype(np.float64)
    events: list[TapeEvent] = []
    for partition in range(PARTITIONS):
        own = symbol_id % PARTITIONS == partition
        n = int(own.sum())
        place, index = np.full(n, offset), np.arange(n)
        columns = (symbol_id[own].astype(np.int64), event_ts[own], price[own], size[own], place, index)
        events.append(TapeTrades(partition, offset, offset, *columns, (None,), np.zeros(n, np.uint32), 0, 0))
    return events


def reducer(count: int) -> float:
    """Million trades a second of `reduce_trades`."""
    events = batch(np.random.default_rng(1), count * PARTITIONS, T0, 100_000_000, 0)
    fastest = float("inf")
    for _ in range(10):
        for e in events:
            assert isinstance(e, TapeTrades)
            begun = time.process_time()
            reduce_trades(e.symbol_id, e.event_ts, e.price, e.size, e.offset, e.index)
            fastest = min(fastest, (time.process_time() - begun) / len(e))
    return 1e-6 / fastest


def window(count: int, step_ms: float, calls: int) -> float:
    """Million trades a second of `apply` with flushes."""
    rng, kept, spent = np.random.default_rng(1), BarWindow(), 0.0
    symbols = [np.arange(p, SYMBOLS, PARTITIONS) for p in range(PARTITIONS)]
    for call in range(calls):
        at_ns = T0 + int(call * step_ms * 1e6)
        events = batch(rng, count, at_ns, int(step_ms * 1e6), 2 * call)
        if int(call * step_ms) // 500 != int((call - 1) * step_ms) // 500:
            events += [TapeWatermark(p, 2 * call + 1, symbols[p], at_ns) for p in range(PARTITIONS)]
        begun = time.process_time()
        kept.apply(events)
        if int(call * step_ms) // 200 != int((call - 1) * step_ms) // 200:
            kept.apply_older(no_bars())
            kept.changed()
            kept.evict()
        spent += time.process_time() - begun
    return count * calls / spent / 1e6


def run() -> str:
    """One line."""
    windows = " / ".join(f"{window(*size):.1f}" for size in SIZES)
    sizes = " / ".join(f"{count:,}" for count, _, _ in SIZES)
    return (
        f"tape to bars, {SYMBOLS:,} symbols, {sizes} trades a call: {windows} M trades/s;"
        f" the reducer alone, 20,000 a call: {reducer(20_000):.1f}"
    )
