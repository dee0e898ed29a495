"""The peer `websockets`: a set of connections per symbol, and once a turn `broadcast` of each symbol's newest quote.

Conflation is what a program on this library does: a dict with the newest trade of each symbol, looked at once a turn.
What a connection has not taken grows in memory without a bound, as `broadcast` never waits.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import time
from collections import defaultdict

import uvloop
from tests.bench.load.child import tell
from tests.bench.load.commands import commands
from tests.bench.load.scenario import FEED_MS, NAMES, TRADES_PER_BEAT, quote_template
from websockets.asyncio.server import ServerConnection, broadcast, serve


class Server:
    """What it knows: who follows what, and the newest trade of each symbol that has traded since the last turn."""

    def __init__(self) -> None:
        self.followers: dict[str, set[ServerConnection]] = defaultdict(set)
        self.newest: dict[str, tuple[float, int]] = {}
        self.feeding = False
        self._template = quote_template()

    async def serve(self, connection: ServerConnection) -> None:
        """One client, until it goes."""
        followed = set()
        try:
            async for message in connection:
                for symbol in json.loads(message)["subscribe"]:
                    followed.add(symbol)
                    self.followers[symbol].add(connection)
        finally:
            for symbol in followed:
                self.followers[symbol].discard(connection)

    async def feed(self) -> None:
        """Trades for ever, while they are wanted."""
        price, due_s = 100.0, time.monotonic()
        while True:
            if self.feeding:
                for _ in range(TRADES_PER_BEAT):
                    price = round(price + 0.01, 2)
                    now_ns = time.time_ns()
                    for name in NAMES:
                        self.newest[name] = (price, now_ns)
            due_s = max(due_s + FEED_MS / 1000, time.monotonic() - 1.0)
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    async def turns(self, tick_ms: int) -> None:
        """Send what is new, once a turn."""
        due_s = time.monotonic()
        while True:
            due_s = max(due_s + tick_ms / 1000, time.monotonic())
            await asyncio.sleep(due_s - time.monotonic())
            newest, self.newest = self.newest, {}
            sent_ts = str(time.time_ns())
            for name, (price, event_ts) in newest.items():
                text = self._template.replace("SYMBOL", name).replace("PRICE", str(price))
                broadcast(self.followers[name], text.replace("EVENT_TS", str(event_ts)).replace("SENT_TS", sent_ts))


async def main(tick_ms: int) -> None:
    """Serve until the parent has gone."""
    server = Server()
    async with serve(server.serve, "127.0.0.1", 0, compression=None) as listening, asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(server.feed()), tasks.create_task(server.turns(tick_ms))]
        tell("port", port=next(iter(listening.sockets)).getsockname()[1])
        async for name, *_ in commands():
            server.feeding = name == "feed" or (server.feeding and name != "quiet")
            if name == "settle":
                gc.collect()
            tell(name)
        for task in running:
            task.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tick-ms", type=int, required=True)
    uvloop.run(main(parser.parse_args().tick_ms))
