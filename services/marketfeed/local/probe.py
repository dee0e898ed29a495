"""Measures tick-to-client latency as a client sees it: `python -m marketfeed.local.probe URL SYMBOLS OUT`.

A process of its own, so that it shares neither an event loop nor a core's time slice with what it measures. For each
quote that moved a symbol's newest stamp the latency is the instant of receiving less the trade's stamp; the generator
stamps a trade with the instant at which it is due to be sent, so everything on the way counts: the generator's own
lag, ingest, the log, the server, the conflation interval. Trades that the generator sends late on purpose tell so by
the last digit of their size (generator/market.py) and are left out. SIGTERM ends it; the result is a JSON file.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from array import array
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import uvloop

from marketfeed.client.stream import Reconnected, Stream
from marketfeed.domain.client_messages import QUOTES
from marketfeed.runtime.tasks import TaskKit
from marketfeed.wire.websocket import QuoteOut

WARM_UP_S = 5.0
INTERVAL_MS = 50
_LATE_DIGITS = ("3", "7")


# The way of a trade, and where each part of it begins and ends.
WHOLE = "tick to client"
HOPS = ("feed to ingest", "ingest to log", "log to server's write", "write to client")


class Hop(msgspec.Struct):
    """Quantiles of one part of the way, milliseconds; None without a sample."""

    name: str
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class Latency(msgspec.Struct):
    """What the clients saw in `samples` quotes after the warm-up: the whole way first, then its parts."""

    clients: int
    symbols: int
    samples: int
    hops: list[Hop]
    reconnects: int
    away_s_max: float


def is_late_on_purpose(size: float | None) -> bool:
    """Whether the generator sent this trade late or out of order; a few sizes with decimals are taken for such, too."""
    return bool(size) and repr(size).removesuffix(".0").endswith(_LATE_DIGITS)


@dataclass(slots=True)
class Samples:
    """Latencies of all clients of this process, nanoseconds."""

    warm_until_s: float
    reconnects: int = 0
    away_s_max: float = 0.0
    _spans: dict[str, array[int]] = field(default_factory=lambda: {name: array("q") for name in (WHOLE, *HOPS)})
    _newest: dict[str, int] = field(default_factory=dict)

    def take(self, quote: QuoteOut, now_ns: int, now_s: float) -> None:
        """Count a quote if it shows a trade that was not shown before and that was sent on time."""
        event_ts = int(quote.event_ts)
        if event_ts <= self._newest.get(quote.symbol, 0):
            return
        self._newest[quote.symbol] = event_ts
        if now_s < self.warm_until_s or is_late_on_purpose(quote.size):
            return
        self._spans[WHOLE].append(now_ns - event_ts)
        stamps = quote.stamps
        if stamps.received_ts is not None and stamps.logged_ts is not None:
            instants = (event_ts, int(stamps.received_ts), int(stamps.logged_ts), int(stamps.sent_ts), now_ns)
            for name, begin, end in zip(HOPS, instants, instants[1:], strict=False):
                self._spans[name].append(end - begin)

    def summary(self, clients: int, symbols: int) -> Latency:
        """The quantiles."""
        hops = [_hop(name, span) for name, span in self._spans.items()]
        return Latency(clients, symbols, len(self._spans[WHOLE]), hops, self.reconnects, self.away_s_max)


def _hop(name: str, span_ns: array[int]) -> Hop:
    if not span_ns:
        return Hop(name, None, None, None)
    ms = np.frombuffer(span_ns, np.int64) / 1e6
    p50, p99, top = (float(np.quantile(ms, q)) for q in (0.5, 0.99, 1.0))
    return Hop(name, p50, p99, top)


async def follow(stream: Stream, samples: Samples) -> None:
    """Read a stream for ever."""
    async for message in stream.messages():
        match message:
            case QuoteOut():
                samples.take(message, time.time_ns(), time.monotonic())
            case Reconnected():
                samples.reconnects += 1
                samples.away_s_max = max(samples.away_s_max, message.away_s)


async def probe(url: str, symbols: list[str], clients: int = 2) -> Latency:
    """Follow the symbols, spread over some connections, until SIGTERM; what they saw."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    samples = Samples(time.monotonic() + WARM_UP_S)
    shares = [share for share in (symbols[i::clients] for i in range(clients)) if share]
    async with TaskKit("probe") as tasks:
        followers = [
            tasks.spawn(f"client {i}", follow(Stream(url, share, channels=[QUOTES], interval_ms=INTERVAL_MS), samples))
            for i, share in enumerate(shares)
        ]
        await stopping.wait()
        for follower in followers:
            follower.cancel()
    return samples.summary(len(shares), len(symbols))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(probe(sys.argv[1], sys.argv[2].split(",")))
    Path(sys.argv[3]).write_bytes(msgspec.json.encode(found))
