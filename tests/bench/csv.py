"""Trade CSV to columns and to 1 s bars, in CPU time of one core; beside it the standard library's reader."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable

import numpy as np

from marketfeed.domain.bars import reduce_trades
from marketfeed.wire.trade_csv import TradeCsv

ROWS = 100_000
HEADER = b"symbol,event_ts,price,size,conditions\n"


def block(iso: bool) -> bytes:
    """Lines of 1,000 symbols within 20 s."""
    rng = np.random.default_rng(1)
    symbol, price, size = rng.integers(0, 1000, ROWS), rng.integers(1_000, 50_000, ROWS), rng.integers(0, 500, ROWS)
    stamp = 1_741_615_800_000 + np.sort(rng.integers(0, 20_000, ROWS))
    texts = [f"{t}Z" for t in stamp.astype("datetime64[ms]").astype(str)] if iso else stamp.tolist()
    rows = zip(symbol.tolist(), texts, price.tolist(), size.tolist(), strict=True)
    return "".join(f"SYM{s:04},{t},{p / 100},{z},@|T\n" for s, t, p, z in rows).encode()


def rate(work: Callable[[], object], repeats: int) -> float:
    """Million rows a second, best of several."""
    fastest = float("inf")
    for _ in range(repeats):
        begun = time.process_time()
        work()
        fastest = min(fastest, time.process_time() - begun)
    return ROWS / fastest / 1e6


def run() -> str:
    """One line."""
    decoder, plain, iso = TradeCsv(HEADER), block(iso=False), block(iso=True)

    def to_bars() -> None:
        decoded = decoder.decode(plain, 2)
        t = decoded.trades
        none = np.zeros(len(t), np.int64)
        reduce_trades(t.symbol_index.astype(np.int64), t.event_ts, t.price, t.size, decoded.line, none)

    def standard() -> None:
        for row in csv.reader(io.StringIO(plain.decode())):
            float(row[2]), float(row[3]), int(row[1])

    decoding = rate(lambda: decoder.decode(plain, 2), 8)
    return (
        f"trade CSV, {len(plain) / ROWS:.0f} bytes a row: decoded {decoding:.1f} M rows/s (ISO 8601 stamps"
        f" {rate(lambda: decoder.decode(iso, 2), 5):.1f}), with bars {rate(to_bars, 8):.1f};"
        f" the standard library's reader with float() {rate(standard, 2):.2f}"
    )
