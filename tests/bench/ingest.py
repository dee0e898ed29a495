"""Ingest's fast path without socket and broker: frames -> judged, cut, encoded records, per core."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marketfeed.domain.errors import Unavailable
from marketfeed.domain.trades import SymbolTable
from marketfeed.ingest.buffer import StandbyBuffer
from marketfeed.ingest.cutter import Cutter
from marketfeed.ingest.pipeline import Pipeline, PipelineOptions
from marketfeed.ingest.quarantine import Quarantine
from marketfeed.ingest.sender import Bounds, OnLogged, Sender
from marketfeed.ingest.spool import Spool

_SYMBOLS = [f"SYM{i:04d}" for i in range(1000)]
_CONDITIONS = ('["1","8","24","12"]', '["1"]', '["1","12"]', "null", '["1","8"]')
_FLUSH_TRADES = 4000  # 20 ms at 200 k/s
_FLUSHES = 40
_FRAME_TRADES = 20


class _Sink:
    """Takes records and acknowledges them at the next poll."""

    failure: Unavailable | None = None
    buffered_bytes = 0

    def __init__(self) -> None:
        self._acks: list[OnLogged] = []

    @property
    def buffered_records(self) -> int:
        return len(self._acks)

    def send(
        self, topic: str, partition: int, value: bytes, headers: Mapping[str, str] | None = None, on_ack: Any = None
    ) -> None:
        self._acks.append(on_ack)

    def resend(self, sent: Any) -> None:
        raise NotImplementedError

    def unacknowledged(self) -> list[Any]:
        return []

    def poll(self) -> int:
        acks, self._acks = self._acks, []
        for ack in acks:
            ack(0)
        return len(acks)

    async def close(self, timeout_s: float = 5.0) -> int:
        return 0


def _frames() -> list[bytes]:
    rng = random.Random(1)
    now_ms = time.time_ns() // 1_000_000
    trade = '{{"c":{},"p":{},"s":"{}","t":{},"v":{}}}'
    frames = []
    for _ in range(_FLUSHES * _FLUSH_TRADES // _FRAME_TRADES):
        trades = [
            trade.format(
                rng.choice(_CONDITIONS),
                round(rng.uniform(10, 500), 2),
                rng.choice(_SYMBOLS),
                now_ms - rng.randrange(50),
                rng.randrange(1, 500),
            )
            for _ in range(_FRAME_TRADES)
        ]
        frames.append(f'{{"data":[{",".join(trades)}],"type":"trade"}}'.encode())
    return frames


def _rate(frames: list[bytes], folder: Path) -> float:
    spool = Spool(folder, 10**6, fsync="never")
    sender = Sender(_Sink, "f.trades", spool, Bounds(10_000, 10**9), "f", "0/1")
    table = SymbolTable()
    cutter = Cutter(table, 8)
    options = PipelineOptions(flush_interval_s=1.0, flush_bytes=10**9, dedup=True)
    pipeline = Pipeline(table, cutter, sender, StandbyBuffer(1000), Quarantine(1), options)
    pipeline.follow(_SYMBOLS)
    cutter.publish(_SYMBOLS, 0)
    pipeline.on_open()
    every = _FLUSH_TRADES // _FRAME_TRADES
    start = time.perf_counter()
    for at in range(0, len(frames), every):
        for frame in frames[at : at + every]:
            pipeline.on_frame(frame, time.time_ns())
        pipeline.flush()
        sender.pump()
    took_s = time.perf_counter() - start
    assert sender.totals.published == len(frames) * _FRAME_TRADES
    spool.close()
    return sender.totals.published / took_s


def run() -> str:
    """One line of figures."""
    frames = _frames()
    with tempfile.TemporaryDirectory() as folder:
        best = max(_rate(frames, Path(folder)) for _ in range(5))
    return f"{best / 1e6:.2f} M trades/s from frames of 20 to records over 8 partitions, 1,000 symbols (one core)"
