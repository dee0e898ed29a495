"""Fan-out over real sockets: 1,000 clients, 40 symbols, the newest quote of each client's symbol every 10 ms.

The server is mds without Kafka: its hub, its frames, its WebSocket server in a process of their own, fed with 40 trades
a turn. The clients are raw sockets in another process; every message is counted, every twentieth timed from the
server's `sent_ts`. Possible are 100,000 messages a second; what is missing was conflated.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import time
from array import array
from typing import Any

import numpy as np
import uvloop

from marketfeed.adapters.tokens import TokenGate
from marketfeed.adapters.websocket_server import HttpServer
from marketfeed.domain.access import Seats
from marketfeed.domain.client_session import Limits
from marketfeed.domain.log import Logged, Takeover, TradesRecord
from marketfeed.domain.sessions import calendar
from marketfeed.domain.trades import TradeColumns
from marketfeed.mds.clients import Client
from marketfeed.mds.hub import Hub
from marketfeed.mds.joins import Joins
from marketfeed.mds.live import LiveState, nothing_known
from marketfeed.mds.pipeline import fan_out
from marketfeed.mds.snapshot import Snapshots
from marketfeed.mds.stream import Greeting, StreamServer
from marketfeed.runtime.tasks import TaskKit

CLIENTS = 1_000
SYMBOLS = 40
TICK_MS = 10
WARM_UP_S = 2.0
MEASURE_S = 5.0
NAMES = tuple(f"S{n:04}" for n in range(SYMBOLS))
HANDSHAKE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


async def trade(hub: Hub) -> None:
    """40 trades a turn, as one record."""
    one = np.arange(SYMBOLS, dtype=np.uint32)
    hub.apply([Logged(0, 0, time.time_ns(), Takeover(1, NAMES))])
    offset, due_s = 1, time.monotonic()
    price = np.full(SYMBOLS, 100.0)
    while True:
        price = np.round(price + 0.01, 2)
        now = time.time_ns()
        columns = TradeColumns(
            NAMES, one, np.full(SYMBOLS, now), price, np.ones(SYMBOLS), (None,), np.zeros(SYMBOLS, np.uint32)
        )
        hub.apply([Logged(0, offset, now, TradesRecord(1, (offset - 1) * SYMBOLS, now, columns))])
        offset += 1
        due_s += TICK_MS / 1000
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))


def serve(results: Any, go: Any) -> None:
    """The server's process: tells its port, that everybody has subscribed, then what it cost."""

    async def main() -> None:
        leaving: list[Client] = []
        hub = Hub(TICK_MS, 1000, lambda client, _: leaving.append(client))
        hub.begin(LiveState(nothing_known("bench", {0: 0}), calendar("24x7"), 120, 1 << 28))
        nothing: Any = None
        greeting = Greeting(version="bench", feed="bench", instance="bench", calendar="24x7", heartbeat_ms=1000)
        limits = Limits(interval_ms_default=TICK_MS, interval_ms_min=TICK_MS)
        snapshots = Snapshots(hub, nothing, nothing, "bench", 4)
        joins = Joins(hub, snapshots, nothing, 3600, 3600, limits.buffer_bytes_max)
        stream = StreamServer(hub, joins, nothing, limits, greeting, TokenGate(open=True), Seats(0))
        server = HttpServer("127.0.0.1", 0)
        server.websocket("/v1/stream", lambda connection, _: stream.serve(connection))
        await server.start()
        async with TaskKit("bench") as tasks:
            tasks.spawn("trade", trade(hub))
            tasks.spawn("fan-out", fan_out(hub, TICK_MS, asyncio.Event()))
            results.put(server.port)
            while hub.fanout.subscriptions < CLIENTS:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            results.put("subscribed")
            await asyncio.to_thread(go.wait)
            before, at_s = time.process_time(), time.monotonic()
            await asyncio.sleep(MEASURE_S)
            cores = (time.process_time() - before) / (time.monotonic() - at_s)
            kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            results.put((cores, kilobytes / 1024, len(leaving)))
            await asyncio.sleep(3600)

    uvloop.run(main())


class Reader(asyncio.Protocol):
    """One client: subscribes, counts messages by their frame headers, times a few."""

    counting = False
    count = 0
    latencies = array("q")

    def __init__(self, symbol: str) -> None:
        self._symbol = symbol
        self._rest = b""
        self._open = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(HANDSHAKE)

    def subscribe(self) -> None:
        wish = b'{"type":"subscribe","symbols":["%s"],"channels":["quotes"]}' % self._symbol.encode()
        self._transport.write(bytes((0x81, 0x80 | len(wish), 0, 0, 0, 0)) + wish)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        if not self._open:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._rest = data
                return
            data, self._open = data[end + 4 :], True
        place, size = 0, len(data)
        while size - place >= 4:
            length, header = data[place + 1], 2
            if length == 126:
                length, header = int.from_bytes(data[place + 2 : place + 4]), 4
            if size - place < header + length:
                break
            place += header + length
            if Reader.counting:
                Reader.count += 1
                if Reader.count % 20 == 0:
                    stamp = data.rfind(b'"sent_ts":"', 0, place) + 11
                    if stamp > 11:
                        Reader.latencies.append(time.time_ns() - int(data[stamp : stamp + 19]))
        self._rest = data[place:]


def read(port: int, results: Any, go: Any) -> None:
    """The clients' process: messages a second and latencies."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        readers = [Reader(NAMES[number % SYMBOLS]) for number in range(CLIENTS)]
        for reader in readers:
            await loop.create_connection(lambda reader=reader: reader, "127.0.0.1", port)  # type: ignore[misc]
        # All at once, after everybody is in: whoever is served already slows the others' handshakes down.
        for reader in readers:
            reader.subscribe()
        await asyncio.to_thread(go.wait)
        Reader.counting = True
        at_s, before = time.monotonic(), time.process_time()
        await asyncio.sleep(MEASURE_S)
        Reader.counting = False
        passed_s = time.monotonic() - at_s
        latencies = np.frombuffer(Reader.latencies, np.int64) / 1e6
        cores = (time.process_time() - before) / passed_s
        results.put((Reader.count / passed_s, *np.percentile(latencies, (50, 99)).tolist(), cores))

    uvloop.run(main())


def run() -> str:
    """One line of figures."""
    context = multiprocessing.get_context("spawn")
    served, heard, go = context.Queue(), context.Queue(), context.Event()
    server = context.Process(target=serve, args=(served, go), daemon=True)
    server.start()
    readers = []
    try:
        reader = context.Process(target=read, args=(served.get(timeout=30), heard, go), daemon=True)
        reader.start()
        readers.append(reader)
        assert served.get(timeout=60) == "subscribed"
        time.sleep(WARM_UP_S)
        go.set()
        rate, p50, p99, client_cores = heard.get(timeout=60)
        cores, megabytes, dismissed = served.get(timeout=30)
    finally:
        for process in (server, *readers):
            process.kill()
            process.join()
    return (
        f"{CLIENTS} clients, {SYMBOLS} symbols, {TICK_MS} ms: {rate / 1e3:.1f} k messages/s of"
        f" {CLIENTS / TICK_MS:.0f} possible, latency p50 {p50:.1f} p99 {p99:.1f} ms, server {cores:.2f} cores"
        f" = {rate / cores / 1e3:.0f} k a core-second, {megabytes:.0f} MiB, {dismissed} dismissed;"
        f" clients {client_cores:.2f} cores, {os.cpu_count()} cores for both"
    )
