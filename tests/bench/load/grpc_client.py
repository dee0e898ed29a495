"""The load over gRPC: many streams of one symbol each, over connections of 100 streams, raw bytes counted.

Commands: `connect N quotes` or `connect N trades` opens N streams, `count` begins to count, `report` ends it.
A delivery is a quote, or a trade. One message in ten is parsed and timed.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from array import array
from collections.abc import AsyncIterator

import grpc
import numpy as np
import uvloop
from tests.bench.load.child import tell
from tests.bench.load.commands import commands
from tests.bench.load.scenario import NAMES, TRADES_PER_BEAT

from marketfeed.wire.v1 import market_data_pb2 as pb

PER_CONNECTION = 100
TIMED = 10
METHODS = {"quotes": "StreamQuotes", "trades": "StreamTrades"}
# The first byte of a serialized response with quotes, and of one with trades: the oneof's field.
QUOTES_TAG = pb.StreamQuotesResponse(quotes=pb.QuoteBatch()).SerializeToString()[0]
TAPE_TAG = pb.StreamTradesResponse(tape=pb.Tape()).SerializeToString()[0]


class Load:
    """All streams of the process."""

    def __init__(self, port: int, interval_ms: int) -> None:
        self._port = port
        self._interval_ms = interval_ms
        self._channels: list[grpc.aio.Channel] = []
        self.counting = False
        self.heard = self.messages = self.trades = 0
        self.latencies = array("q")
        self.changed = asyncio.Event()
        self._began_s = 0.0

    def open(self, number: int, channel: str, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Begin so many streams."""
        opened = []
        for begun in range(0, number, PER_CONNECTION):
            # Else the library would put all streams on one connection, whose number of streams is bounded.
            options = (("grpc.use_local_subchannel_pool", 1),)
            self._channels.append(grpc.aio.insecure_channel(f"127.0.0.1:{self._port}", options=options))
            call = self._channels[-1].unary_stream(f"/marketfeed.v1.MarketData/{METHODS[channel]}")
            for stream in range(begun, min(begun + PER_CONNECTION, number)):
                request = self._request(channel, NAMES[stream % len(NAMES)])
                opened.append(tasks.create_task(self._read(call(request), channel)))
        return opened

    def _request(self, channel: str, symbol: str) -> bytes:
        if channel == "quotes":
            return bytes(pb.StreamQuotesRequest(symbols=[symbol], interval_ms=self._interval_ms).SerializeToString())
        return bytes(pb.StreamTradesRequest(symbols=[symbol], linger_ms=self._interval_ms).SerializeToString())

    async def _read(self, responses: AsyncIterator[bytes], channel: str) -> None:
        tag, heard = (QUOTES_TAG if channel == "quotes" else TAPE_TAG), False
        async for response in responses:
            if response[0] != tag:
                continue
            if not heard:
                heard = True
                self.heard += 1
                self.changed.set()
            if self.counting:
                self._count(response, channel)

    def _count(self, response: bytes, channel: str) -> None:
        self.messages += 1
        if self.messages % TIMED:
            return
        now_ns = time.time_ns()
        if channel == "quotes":
            self.latencies.extend(
                now_ns - q.stamps.event_ts for q in pb.StreamQuotesResponse.FromString(response).quotes.quotes
            )
            self.trades += 1
        else:
            tape = pb.StreamTradesResponse.FromString(response).tape
            self.latencies.extend(now_ns - stamp for stamp in tape.event_ts[::TRADES_PER_BEAT])
            self.trades += len(tape.event_ts)

    def count(self) -> None:
        """Begin to count."""
        self.messages, self.trades, self.latencies, self.counting = 0, 0, array("q"), True
        self._began_s = time.monotonic()

    def report(self) -> dict[str, object]:
        """What was counted since."""
        passed_s, self.counting = time.monotonic() - self._began_s, False
        millis = np.frombuffer(self.latencies, np.int64) / 1e6 if self.latencies else np.zeros(1)
        p50, p99 = np.percentile(millis, (50, 99)).tolist()
        return {
            "passed_s": passed_s, "messages": self.messages, "p50_ms": p50, "p99_ms": p99,
            "quotes": self.trades * TIMED,
        }  # fmt: skip


async def main(port: int, interval_ms: int) -> None:
    """Obey commands until the parent has gone."""
    load = Load(port, interval_ms)
    async with asyncio.TaskGroup() as tasks:
        running: list[asyncio.Task[None]] = []
        tell("ready")
        async for name, *words in commands():
            match name:
                case "connect":
                    running += load.open(int(words[0]), words[1], tasks)
                case "heard":
                    async with asyncio.timeout(120):
                        while load.heard < len(running):
                            load.changed.clear()
                            await load.changed.wait()
                case "count":
                    load.count()
            tell(name, **(load.report() if name == "report" else {}))
        for task in running:
            task.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--interval-ms", type=int, required=True)
    arguments = parser.parse_args()
    uvloop.run(main(arguments.port, arguments.interval_ms))
