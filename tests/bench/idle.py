"""User-space memory of a WebSocket connection: resident memory of the server with 1,000 more of them.

200 connections and some seconds of the feed come before the first look, so that what a process allocates once does not
count. Idle ones have
been greeted and want nothing; then each follows a symbol, hears it for a second, and the feed rests. The kernel's
socket buffers are in no figure. centrifuge is there twice, the second time with its options for many idle connections.
"""

from __future__ import annotations

import time
from statistics import median

from tests.bench.load.run import playing
from tests.bench.load.servers import CENTRIFUGE, CENTRIFUGE_FRUGAL, MARKETFEED, WEBSOCKETS, Missing, Server

BEFORE = 200
MORE = 1_000
REPEATS = 3
SETTLE_S = 1.0
# Until what a server keeps of the feed itself is full.
FED_S = 2.5
TICK_MS = 50


def run() -> str:
    """A line for each server."""
    lines = [f"KiB of user-space memory for each of {MORE} connections, median of {REPEATS} (least to most):"]
    for server in (MARKETFEED, WEBSOCKETS, CENTRIFUGE, CENTRIFUGE_FRUGAL):
        try:
            found = [_measure(server) for _ in range(REPEATS)]
        except Missing as missing:
            lines.append(f"{server.name} skipped: {missing}")
            continue
        idle, following = zip(*found, strict=True)
        lines.append(f"{server.name:17} idle {_spread(idle)}, following one symbol {_spread(following)}")
    return "\n  ".join(lines)


def _measure(server: Server) -> tuple[float, float]:
    with playing(server, TICK_MS, BEFORE + MORE) as (serving, load):

        def settled_bytes() -> int:
            serving.ask("settle")
            time.sleep(SETTLE_S)
            return serving.rss_bytes

        load.ask("connect", BEFORE)
        serving.ask("feed")
        time.sleep(FED_S)
        serving.ask("quiet")
        before = settled_bytes()
        load.ask("connect", MORE)
        idle = settled_bytes()
        load.ask("subscribe")
        serving.ask("feed")
        load.ask("heard")
        time.sleep(1.0)
        serving.ask("quiet")
        following = settled_bytes()
    return (idle - before) / MORE / 1024, (following - before) / (BEFORE + MORE) / 1024


def _spread(kib: tuple[float, ...]) -> str:
    return f"{median(kib):5.1f} ({min(kib):.1f} to {max(kib):.1f})"
