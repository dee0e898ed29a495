"""Clients that stop reading: what the others see, what they cost the server, and how they end.

500 clients follow a symbol each, at turns of 50 ms. 26 more follow all 40 symbols. First all read; then one of the 26
stops, then all of them. Each time the others' latency is measured from that moment on, and the server is asked what it
holds for clients, until whoever stalls is dismissed. Resident memory is the process's whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.bench.load.child import Child
from tests.bench.load.run import WARM_UP_S, playing
from tests.bench.load.servers import MARKETFEED

READING = 500
STALLING = 26
TICK_MS = 50
LOOK_S = 0.25
CALM_S = 5.0
# The kernel's buffers fill, then ours, then `stall_s` (10 s) passes.
ENDS_WITHIN_S = 40.0


def run() -> str:
    """A line for each phase."""
    with playing(MARKETFEED, TICK_MS, READING + STALLING) as (serving, load):
        load.ask("connect", READING)
        load.ask("subscribe")
        load.ask("stalling", STALLING)
        serving.ask("feed")
        load.ask("heard")
        time.sleep(WARM_UP_S)
        phases = [
            ("all read", 0, CALM_S),
            ("one stops reading", 1, ENDS_WITHIN_S),
            (f"{STALLING - 1} more stop", STALLING, ENDS_WITHIN_S),
            ("they are gone", STALLING, CALM_S),
        ]
        return "\n  ".join(
            [f"{READING} clients, and {STALLING} that follow all symbols:", *_play(serving, load, phases)]
        )


def _play(serving: Child, load: Child, phases: list[tuple[str, int, float]]) -> Iterator[str]:
    for name, stalled, most_s in phases:
        load.ask("stall", stalled)
        load.ask("count")
        begun_s, cpu_s = time.monotonic(), serving.cpu_s
        buffered = largest = rss = 0
        while (passed_s := time.monotonic() - begun_s) < most_s:
            stats = serving.ask("stats")
            buffered = max(buffered, stats["buffered_bytes"])
            largest = max(largest, stats["buffered_bytes_max"])
            rss = max(rss, serving.rss_bytes)
            if most_s > CALM_S and sum(stats["goodbyes"].values()) >= stalled:
                break
            time.sleep(LOOK_S)
        counted = load.ask("report")
        yield (
            f"{name:18} {passed_s:4.1f} s: others' p50 {counted['p50_ms']:5.1f} p99 {counted['p99_ms']:5.1f} ms,"
            f" unsent at most {largest / 1024:.0f} KiB for one, {buffered / 1024:.0f} KiB for all,"
            f" {rss / 2**20:.1f} MiB resident, {(serving.cpu_s - cpu_s) / passed_s:.2f} cores;"
            f" dismissed {stats['goodbyes'] or 'nobody'}, {stats['clients']} clients left"
        )
