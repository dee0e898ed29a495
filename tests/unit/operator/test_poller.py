"""Questions to the pods: whom to ask, and what becomes of those that do not answer. Real HTTP on loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from marketfeed_operator.poll_order import Target
from marketfeed_operator.poller import Poller, PollLimits, parsed, targets_of

FEED = ("n", "x")
INGEST = frozenset({"ingest"})


def pod(
    name: str, component: str = "ingest", phase: str = "Running", ip: str = "10.0.0.1", **meta: Any
) -> dict[str, Any]:
    metadata = {"name": name, "uid": f"uid-{name}", "labels": {"app.kubernetes.io/component": component}, **meta}
    return {"metadata": metadata, "status": {"phase": phase, "podIP": ip}}


def test_only_running_pods_of_the_pipeline_are_asked() -> None:
    """Not those that wait, go, have no address or are of another component."""
    pods = [
        pod("a"), pod("b", phase="Pending"), pod("c", ip=""), pod("d", component="prepare"),
        pod("e", deletionTimestamp="now"),
    ]  # fmt: skip
    assert targets_of(pods, INGEST) == [Target("a", "uid-a", "10.0.0.1")]


@pytest.mark.parametrize("text", [b"", b"[]", b"no json"])
def test_an_answer_that_is_no_object_is_refused(text: bytes) -> None:
    """Only a JSON object is a status."""
    with pytest.raises(ValueError, match=r".*"):
        parsed(text)


async def test_those_that_answer_are_read_and_the_others_cost_only_their_time_out() -> None:
    """One pod answers, one hangs, one says 500, one sends a megabyte, one is not there: one reading, in good time."""

    async def status(request: web.Request) -> web.Response:
        match request.query["pod"]:
            case "hangs":
                await asyncio.sleep(30)
            case "fails":
                return web.Response(status=500)
            case "shouts":
                return web.Response(text='{"x": "' + "y" * 1_000_000 + '"}')
        return web.json_response({"pod": request.query["pod"]})

    app = web.Application()
    app.add_routes([web.get("/status", status)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    limits = PollLimits(interval_s=5.0, timeout_s=0.5, of_feed=4, of_all=4)
    poller, nowhere = Poller(port, limits, "127.0.0.1"), Poller(1, limits)
    try:
        targets = [Target(name, f"uid-{name}", "") for name in ("good", "hangs", "fails", "shouts")]
        async with asyncio.timeout(5):
            asked = await poller.ask_all(FEED, targets)
            assert await nowhere.ask_all(FEED, [Target("absent", "u", "127.0.0.1")]) == {"absent": None}
    finally:
        await poller.close()
        await nowhere.close()
        await runner.cleanup()
    assert set(asked) == {"good", "hangs", "fails", "shouts"}
    readings = {name: reading for name, reading in asked.items() if reading is not None}
    assert {name: reading.body for name, reading in readings.items()} == {"good": {"pod": "good"}}
    assert readings["good"].uid == "uid-good"


@asynccontextmanager
async def black_hole() -> AsyncIterator[int]:
    """A port that takes every connection and never says a word."""
    held = []

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    server = await asyncio.start_server(hold, "127.0.0.1", 0, backlog=1024)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in held:
            writer.close()


@asynccontextmanager
async def answering(address: str, port: int) -> AsyncIterator[None]:
    """A pod that answers, on an address of its own."""

    async def status(_: web.Request) -> web.Response:
        return web.json_response({})

    app = web.Application()
    app.add_routes([web.get("/status", status)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, address, port).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def test_a_feed_of_silent_pods_delays_no_other() -> None:
    """Three hundred pods that accept and never answer, and take every turn there is: the good feed is asked in less
    than half an interval, each time, and a round of the silent feed ends in time."""
    silent = [Target(f"dead-{number}", f"dead-{number}", "127.0.0.1") for number in range(300)]
    good = Target("good", "good", "127.0.0.2")
    interval_s = 2.0
    took_s: list[float] = []
    async with black_hole() as port, answering("127.0.0.2", port):
        poller = Poller(port, PollLimits(interval_s, timeout_s=0.5, of_feed=4, of_all=4))

        async def ask_the_silent() -> None:
            for _ in range(2):
                began = time.monotonic()
                asked = await poller.ask_all(("n", "dead"), silent)
                assert time.monotonic() - began < interval_s + 1.5
                assert 4 <= len(asked) < len(silent)

        try:
            async with asyncio.TaskGroup() as group:
                others = group.create_task(ask_the_silent())
                while not others.done():
                    began = time.monotonic()
                    assert (await poller.ask_all(("n", "good"), [good]))["good"] is not None
                    took_s.append(time.monotonic() - began)
                    await asyncio.sleep(0.1)
        finally:
            await poller.close()
    print(f"\n{len(took_s)} rounds of the good feed, the slowest took {max(took_s) * 1000:.0f} ms")
    assert max(took_s) < interval_s / 2
    assert len(took_s) > 5
