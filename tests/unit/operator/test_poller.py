"""Questions to the pods: whom to ask, and what becomes of those that do not answer. Real HTTP on loopback."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from marketfeed_operator.poller import Poller, Target, parsed, targets_of

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
    poller = Poller(port, timeout_s=0.5, concurrency=4, host="127.0.0.1")
    nowhere = Poller(1, timeout_s=0.5, concurrency=4)
    try:
        targets = [Target(name, f"uid-{name}", "") for name in ("good", "hangs", "fails", "shouts")]
        async with asyncio.timeout(5):
            readings = await poller.ask_all(targets)
            assert await nowhere.ask_all([Target("absent", "u", "127.0.0.1")]) == {}
    finally:
        await poller.close()
        await nowhere.close()
        await runner.cleanup()
    assert {name: reading.body for name, reading in readings.items()} == {"good": {"pod": "good"}}
    assert readings["good"].uid == "uid-good"
