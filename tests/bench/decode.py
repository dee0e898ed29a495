"""Finnhub frames to columns: the largest cost of the pipeline, per core."""

from __future__ import annotations

import json
import random
import time

from marketfeed.wire.finnhub import FrameDecoder

_SYMBOLS = [f"SYM{i:04d}" for i in range(1000)]
_CONDITIONS = (["1", "8", "24", "12"], ["1"], ["1", "12"], None, ["1", "8"])
_DRAIN_TRADES = 4000  # 20 ms at 200 k/s


def _frames(trades_each: int, frames: int) -> list[bytes]:
    rng = random.Random(1)
    return [
        json.dumps(
            {
                "data": [
                    {
                        "c": rng.choice(_CONDITIONS),
                        "p": round(rng.uniform(10, 500), 2),
                        "s": rng.choice(_SYMBOLS),
                        "t": 1672348887195 + rng.randrange(1000),
                        "v": rng.randrange(1, 500),
                    }
                    for _ in range(trades_each)
                ],
                "type": "trade",
            },
            separators=(",", ":"),
        ).encode()
        for _ in range(frames)
    ]


def _rate(trades_each: int) -> float:
    """Trades a second of the best of five passes, drained as often as at 200 k/s."""
    frames = _frames(trades_each, 40_000 // trades_each)
    every = max(1, _DRAIN_TRADES // trades_each)
    best = 0.0
    for _ in range(5):
        decoder = FrameDecoder({symbol: number for number, symbol in enumerate(_SYMBOLS)})
        trades = 0
        start = time.perf_counter()
        for at in range(0, len(frames), every):
            for frame in frames[at : at + every]:
                decoder.feed(frame)
            trades += len(decoder.drain())
        best = max(best, trades / (time.perf_counter() - start))
    return best


def run() -> str:
    """One line of figures."""
    figures = ", ".join(f"{_rate(n) / 1e6:.2f}" for n in (1, 4, 20, 100))
    return f"{figures} M trades/s in frames of 1, 4, 20, 100 trades (one core)"
