"""gRPC streams of mds: newest quotes every 50 ms, and every trade, for 100 and 1,000 streams of one symbol each.

The server is mds without Kafka (`load/marketfeed_server.py`), the clients are Python's `grpc.aio` in one process with
responses left as bytes. A delivery is a quote or a trade. Where the client's core is full, the client is what is slow.
"""

from __future__ import annotations

import sys
import time

from tests.bench.load.child import Child
from tests.bench.load.run import MEASURE_S, WARM_UP_S
from tests.bench.load.scenario import cores
from tests.bench.load.servers import MARKETFEED

INTERVAL_MS = 50
STREAMS = (100, 1_000)


def run() -> str:
    """A line for each method and number of streams."""
    lines = [f"one symbol a stream, {INTERVAL_MS} ms:"]
    lines += [_play(channel, streams) for channel in ("quotes", "trades") for streams in STREAMS]
    return "\n  ".join(lines)


def _play(channel: str, streams: int) -> str:
    server_core, client_core = cores()
    with Child(MARKETFEED.command(INTERVAL_MS), server_core) as serving:
        port = str(serving.hear("port")["grpc_port"])
        client = [
            sys.executable,
            "-m",
            "tests.bench.load.grpc_client",
            "--port",
            port,
            "--interval-ms",
            str(INTERVAL_MS),
        ]
        with Child(client, client_core) as load:
            load.hear("ready")
            serving.ask("feed")
            load.ask("connect", streams, channel)
            load.ask("heard", timeout_s=120)
            time.sleep(WARM_UP_S)
            load.ask("count")
            before, client_before, at_s = serving.cpu_s, load.cpu_s, time.monotonic()
            time.sleep(MEASURE_S)
            counted = load.ask("report")
            passed_s = time.monotonic() - at_s
            server, client_cores = (serving.cpu_s - before) / passed_s, (load.cpu_s - client_before) / passed_s
            rate, messages = counted["quotes"] / counted["passed_s"], counted["messages"] / counted["passed_s"]
            return (
                f"{channel:6} {streams:5} streams: {rate / 1e3:6.1f} k deliveries/s"
                f" in {messages / 1e3:5.1f} k messages/s,"
                f" {rate / server / 1e3:6.1f} k a core-second,"
                f" p50 {counted['p50_ms']:6.1f} p99 {counted['p99_ms']:6.1f} ms,"
                f" server {server:.2f} clients {client_cores:.2f} cores, {serving.rss_bytes / 2**20:.0f} MiB"
            )
