"""The recorder's sinks as processes, catching up with a log of 2 million trades: CPU from ready to the log's end."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import psutil

from marketfeed.adapters.kafka import LogAdmin, LogProducer, trades_topic
from marketfeed.domain.log import Body, Takeover, TradesRecord, Watermark
from marketfeed.domain.partitions import partition_of
from marketfeed.domain.trades import TradeColumns
from marketfeed.wire.records import KIND_HEADER, encode_body

NEEDS = ("MARKETFEED_KAFKA", "MARKETFEED_REDIS", "MARKETFEED_POSTGRES")
PARTITIONS, SYMBOLS, RATE, SECONDS = 8, 1_000, 200_000, 10


async def _write(bootstrap: str, feed: str) -> None:
    """What an ingest at RATE leaves in the log: a record per partition and 20 ms, a watermark each 500 ms."""
    producer = LogProducer(bootstrap)

    def send(partition: int, body: Body) -> None:
        kind, value = encode_body(body)
        producer.send(trades_topic(feed), partition, value, {KIND_HEADER: kind})

    names = [f"S{n:04}" for n in range(SYMBOLS)]
    of = np.array([partition_of(name, PARTITIONS) for name in names])
    weights = 1 / np.arange(1, SYMBOLS + 1)
    rng = np.random.default_rng(1)
    begin_ns, seq = time.time_ns() // 10**9 * 10**9, [0] * PARTITIONS
    for partition in range(PARTITIONS):
        send(partition, Takeover(1, tuple(n for n, p in zip(names, of, strict=True) if p == partition)))
    for step in range(SECONDS * 50):
        now_ns = begin_ns + step * 20_000_000
        symbol = rng.choice(SYMBOLS, RATE // 50, p=weights / weights.sum())
        ts = now_ns + np.sort(rng.integers(0, 20, len(symbol))) * 1_000_000
        price, size = np.round(rng.uniform(90, 110, len(symbol)), 2), np.round(rng.exponential(100, len(symbol)))
        for partition in range(PARTITIONS):
            mine = of[symbol] == partition
            used, index = np.unique(symbol[mine], return_inverse=True)
            columns = (index.astype(np.uint32), ts[mine], price[mine], size[mine])
            trades = TradeColumns(tuple(names[u] for u in used), *columns, (("1",),), np.zeros(len(index), np.uint32))
            send(partition, TradesRecord(1, seq[partition], now_ns, trades))
            seq[partition] += len(index)
            if step % 25 == 24:
                send(partition, Watermark((1,), now_ns - 500_000_000))
        if step % 25 == 24:
            producer.poll()
    assert await producer.flush(60) == 0
    await producer.close()


def _status(port_file: Path) -> dict[str, object]:
    if not port_file.exists():
        return {}
    with urllib.request.urlopen(f"http://127.0.0.1:{port_file.read_text()}/status", timeout=5) as answer:
        found: dict[str, object] = json.load(answer)
    return found


def _sink(feed: str, sink: str) -> tuple[float, float, float]:
    """(CPU seconds, wall seconds, greatest memory in MB) of a sink for the whole log, its start left out."""
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder) / "port"
        env = {**os.environ, "MARKETFEED_FEED": feed, "MARKETFEED_SINKS": sink, "MARKETFEED_PORT_FILE": str(port_file)}
        command = (sys.executable, "-m", "marketfeed.recorder", "--log-level", "warning")
        process = subprocess.Popen(command, env=env)
        try:
            watched = psutil.Process(process.pid)
            begun = time.monotonic()
            start_cpu: float | None = None
            while time.monotonic() < begun + 120:
                status = _status(port_file)
                cpu, now = sum(watched.cpu_times()[:2]), time.monotonic()
                if start_cpu is None and status.get("service"):
                    start_cpu, ready = cpu, now
                if start_cpu is not None and status["sinks"][sink]["trades"] >= RATE * SECONDS:  # type: ignore[index]
                    return cpu - start_cpu, now - ready, watched.memory_info().rss / 1e6
                time.sleep(0.02)
            raise TimeoutError(f"{sink} did not reach the end of the log")
        finally:
            process.terminate()
            process.wait(30)


def run() -> str:
    """One line of figures."""
    bootstrap, feed = os.environ["MARKETFEED_KAFKA"], f"bench{secrets.token_hex(4)}"

    async def prepare() -> None:
        await LogAdmin(bootstrap).ensure_topics(feed, PARTITIONS, 1 << 30, 3_600_000)
        await _write(bootstrap, feed)

    asyncio.run(prepare())
    parts = []
    for sink in ("cache", "store"):  # a cache that comes second would be rebuilt from the store instead
        cpu, wall, memory = _sink(feed, sink)
        total = RATE * SECONDS
        parts.append(
            f"{sink} {total / cpu / 1e6:.1f} M trades a core-second, {total / wall / 1e6:.1f} M/s, {memory:.0f} MB"
        )
    asyncio.run(LogAdmin(bootstrap).delete_feed(feed))
    return "; ".join(parts)
