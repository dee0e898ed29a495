"""Plays the scenario: a server on one core, the load client on another, and what both cost."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.bench.load.child import Child
from tests.bench.load.scenario import allow_files, cores
from tests.bench.load.servers import Server

WARM_UP_S = 1.5
MEASURE_S = 4.0
QUIET_S = 1.0


@dataclass(frozen=True)
class Figures:
    """What one play gave. Latencies in milliseconds; `behind`: clients without the newest quote at the end."""

    server: str
    clients: int
    tick_ms: int
    follows: int
    deliveries_per_s: float
    server_cores: float
    client_cores: float
    p50_ms: float
    p99_ms: float
    rss_mib: float
    behind: int

    @property
    def per_core_second(self) -> float:
        """Deliveries for each second of the server's processor time."""
        return self.deliveries_per_s / self.server_cores

    @property
    def sent_share(self) -> float:
        """Deliveries of those that were possible; what is missing was merged into a later one."""
        return self.deliveries_per_s / (self.clients * self.follows * 1000 / self.tick_ms)

    def __str__(self) -> str:
        return (
            f"{self.server:17} {self.clients:5} clients × {self.follows:2} {self.tick_ms:3} ms:"
            f" {self.deliveries_per_s / 1e3:6.1f} k/s"
            f" ({self.sent_share:4.0%} of possible), {self.per_core_second / 1e3:6.1f} k a core-second,"
            f" p50 {self.p50_ms:6.1f} p99 {self.p99_ms:6.1f} ms, server {self.server_cores:.2f}"
            f" clients {self.client_cores:.2f} cores, {self.rss_mib:.0f} MiB, {self.behind} behind"
        )


@contextmanager
def playing(server: Server, tick_ms: int, clients_max: int, follows: int = 1) -> Iterator[tuple[Child, Child]]:
    """A running server and a load client without connections."""
    allow_files(clients_max)
    server_core, client_core = cores()
    with Child(server.command(tick_ms), server_core) as serving:
        port = serving.hear("port")["port"]
        client = [sys.executable, "-m", "tests.bench.load.client", "--port", str(port), "--path", server.path]
        with Child([*client, "--dialect", server.dialect, "--follows", str(follows)], client_core) as load:
            load.hear("ready")
            yield serving, load


def play(server: Server, clients: int, tick_ms: int, follows: int = 1) -> Figures:
    """Everybody follows so many symbols; then count."""
    with playing(server, tick_ms, clients, follows) as (serving, load):
        load.ask("connect", clients, timeout_s=180)
        load.ask("subscribe")
        serving.ask("feed")
        load.ask("heard", timeout_s=120)
        time.sleep(WARM_UP_S)
        return measure(serving, load, server.name, clients, tick_ms, follows)


def measure(serving: Child, load: Child, name: str, clients: int, tick_ms: int, follows: int = 1) -> Figures:
    """Count for a while, then let the feed rest and see whether everybody has the newest quote."""
    load.ask("count")
    before, client_before, at_s = serving.cpu_s, load.cpu_s, time.monotonic()
    time.sleep(MEASURE_S)
    counted = load.ask("report")
    passed_s = time.monotonic() - at_s
    cpu_s, client_cpu_s = serving.cpu_s - before, load.cpu_s - client_before
    rss = serving.rss_bytes
    serving.ask("quiet")
    time.sleep(QUIET_S)
    return Figures(
        server=name,
        clients=clients,
        tick_ms=tick_ms,
        follows=follows,
        deliveries_per_s=counted["quotes"] / counted["passed_s"],
        server_cores=cpu_s / passed_s,
        client_cores=client_cpu_s / passed_s,
        p50_ms=counted["p50_ms"],
        p99_ms=counted["p99_ms"],
        rss_mib=rss / 2**20,
        behind=load.ask("newest")["behind"],
    )
