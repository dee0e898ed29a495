"""mds without Kafka and stores: its live state, hub, fan-out, frames, WebSocket and gRPC servers, fed from memory.

Every trade goes the whole way of mds: the log's record is judged, bars and quotes are made, a change is noted, and each
turn encodes and sends. `stats` tells what clients have not taken and who was dismissed why.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from collections import Counter
from typing import Any

import numpy as np
import uvloop
from tests.bench.load.child import tell
from tests.bench.load.commands import commands
from tests.bench.load.scenario import FEED_MS, NAMES, SYMBOLS, TRADES_PER_BEAT

from marketfeed.adapters.grpc_server import MARKET_DATA, GrpcServer
from marketfeed.adapters.tokens import TokenGate
from marketfeed.adapters.websocket_server import HttpServer
from marketfeed.domain.access import Seats
from marketfeed.domain.client_messages import Goodbye
from marketfeed.domain.client_session import Limits
from marketfeed.domain.log import Logged, Takeover, TradesRecord
from marketfeed.domain.sessions import calendar
from marketfeed.domain.trades import TradeColumns
from marketfeed.mds.clients import Client
from marketfeed.mds.hub import Hub
from marketfeed.mds.joins import Joins
from marketfeed.mds.live import LiveState, nothing_known
from marketfeed.mds.market_data import MarketData
from marketfeed.mds.market_streams import Streams
from marketfeed.mds.pipeline import fan_out
from marketfeed.mds.snapshot import Snapshots
from marketfeed.mds.stream import Greeting, StreamServer
from marketfeed.runtime.tasks import TaskKit

HEARTBEAT_MS = 1000
# Small, so that the memory of the tape is full soon and does not hide that of clients.
TAPE_S, TAPE_BYTES = 1.0, 8 << 20


class Feed:
    """Records of trades, as from one partition of the log."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._offset = 0
        self._seq = 0
        self._price = np.full(SYMBOLS, 100.0)
        self._index = np.tile(np.arange(SYMBOLS, dtype=np.uint32), TRADES_PER_BEAT)
        self._ones, self._none = np.ones(len(self._index)), np.zeros(len(self._index), np.uint32)
        self.feeding = False

    def begin(self) -> None:
        """Make the symbols known."""
        self._hub.apply([Logged(0, 0, time.time_ns(), Takeover(1, NAMES))])

    def beat(self) -> None:
        """Two trades of every symbol."""
        self._price = np.round(self._price + 0.01, 2)
        now_ns = time.time_ns()
        prices = np.tile(self._price, TRADES_PER_BEAT)
        stamps = np.full(len(self._index), now_ns)
        columns = TradeColumns(NAMES, self._index, stamps, prices, self._ones, (None,), self._none)
        self._offset += 1
        self._hub.apply([Logged(0, self._offset, now_ns, TradesRecord(1, self._seq, now_ns, columns))])
        self._seq += len(self._index)

    async def run(self) -> None:
        """For ever, while trades are wanted."""
        due_s = time.monotonic()
        while True:
            if self.feeding:
                self.beat()
            due_s = max(due_s + FEED_MS / 1000, time.monotonic() - 1.0)
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))


class Served:
    """The servers, and what was said to clients that had to go."""

    def __init__(self, tick_ms: int, tasks: TaskKit) -> None:
        self._tasks = tasks
        self._goodbyes: Counter[str] = Counter()
        self._buffered_max = 0
        self.hub = hub = Hub(tick_ms, HEARTBEAT_MS, self._on_goodbye)
        hub.begin(LiveState(nothing_known("bench", {0: 0}), calendar("24x7"), 120, 1 << 28, TAPE_S, TAPE_BYTES))
        nothing: Any = None
        snapshots = Snapshots(hub, nothing, nothing, "bench", 4)
        limits = Limits(interval_ms_default=tick_ms, interval_ms_min=tick_ms)
        joins = Joins(hub, snapshots, nothing, 3600, 3600, limits.buffer_bytes_max)
        greeting = Greeting(version="bench", feed="bench", instance="bench", calendar="24x7", heartbeat_ms=HEARTBEAT_MS)
        gate = TokenGate(open=True)
        self._stream = StreamServer(hub, joins, nothing, limits, greeting, gate, Seats(0))
        self.http = HttpServer("127.0.0.1", 0)
        self.http.websocket("/v1/stream", lambda connection, _: self._stream.serve(connection))
        streams = Streams(hub, nothing, snapshots, tick_ms, 500, 3600)
        self.grpc = GrpcServer("127.0.0.1", 0, gate)
        self.grpc.serve(MARKET_DATA, MarketData(hub=hub, archive=nothing, streams=streams).calls())

    def stats(self) -> dict[str, object]:
        """What clients have not taken, in bytes, and who had to go why."""
        buffered = [client.outlet.buffered_bytes for client in self.hub.fanout.everyone()]
        return {
            "buffered_bytes": sum(buffered), "buffered_bytes_max": max(buffered, default=0),
            "clients": len(buffered), "goodbyes": dict(self._goodbyes),
        }  # fmt: skip

    def _on_goodbye(self, client: Client, goodbye: Goodbye) -> None:
        self._goodbyes[f"{int(goodbye.code)} {goodbye.reason}"] += 1
        self._tasks.spawn("goodbye", self._stream.say_goodbye(client.outlet, goodbye))


async def main(tick_ms: int) -> None:
    """Serve until the parent has gone."""
    async with TaskKit("bench") as tasks:
        served = Served(tick_ms, tasks)
        await served.http.start()
        await served.grpc.start()
        feed, stopping = Feed(served.hub), asyncio.Event()
        feed.begin()
        running = tasks.spawn("feed", feed.run())
        tasks.spawn("fan-out", fan_out(served.hub, tick_ms, stopping))
        tell("port", port=served.http.port, grpc_port=served.grpc.port)
        async for name, *_ in commands():
            feed.feeding = name == "feed" or (feed.feeding and name != "quiet")
            if name == "settle":
                gc.collect()
            tell(name, **(served.stats() if name == "stats" else {}))
        running.cancel()
        stopping.set()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tick-ms", type=int, required=True)
    uvloop.run(main(parser.parse_args().tick_ms))
