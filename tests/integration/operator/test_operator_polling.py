"""Pods that accept and never answer delay their own feed at most: on a real API server, by the whole operator."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from tests.integration.operator.control_plane import ControlPlane
from tests.integration.operator.plane import Admin, FakeKubelet, eventually, feed, replica

from marketfeed_operator.kinds import MARKETFEED

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
INTERVAL_S = 2.0


@asynccontextmanager
async def pods(asked: dict[str, list[float]]) -> AsyncIterator[str]:
    """An address that answers for the pods of `good`, with another rate each time, and for no other pod ever."""

    async def status(request: web.Request) -> web.Response:
        pod = request.query["pod"]
        asked.setdefault(pod, []).append(time.monotonic())
        if not pod.startswith("good-"):
            await asyncio.sleep(600)
        symbols = {"count": 20, "live": 20, "hash": "h", "plan_revision": 1}
        body = {"phase": "live", "connected": True, "rate": float(len(asked[pod])), "symbols": symbols}
        return web.json_response(body)

    app = web.Application()
    app.add_routes([web.get("/status", status)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_the_status_of_a_good_feed_follows_beside_one_of_silent_pods(
    plane: ControlPlane, admin: Admin, kubelet: FakeKubelet, settings: dict[str, object], tmp_path: Path
) -> None:
    """Twenty silent pods with time-outs as long as the interval: the good feed's pod is asked, and its rate written,
    within an interval more than usual."""
    asked: dict[str, list[float]] = {}
    times = {"poll_interval_s": INTERVAL_S, "poll_timeout_s": INTERVAL_S, "status_interval_s": 1}
    async with (
        pods(asked) as host,
        replica(tmp_path, plane.kubeconfig, **settings, **times, poll_concurrency=6, status_host=host),
    ):
        await admin.apply(feed("dead", admin.namespace, shards=17))
        await admin.apply(feed("good", admin.namespace))
        await eventually(lambda: _rate(admin), 60.0)

        async def all_tried() -> bool:
            return sum(not pod.startswith("good-") for pod in asked) >= 17

        await eventually(all_tried, 90.0)
        began, seen = time.monotonic(), [("", time.monotonic())]
        while time.monotonic() - began < 15.0:
            rate = await _rate(admin)
            if rate != seen[-1][0]:
                seen.append((rate, time.monotonic()))
            await asyncio.sleep(0.1)
        ingest = next(at for pod, at in asked.items() if pod.startswith("good-ingest-"))
        questions = [later - earlier for earlier, later in itertools.pairwise(ingest) if earlier > began]
        writes = [later[1] - earlier[1] for earlier, later in itertools.pairwise(seen)]
        print(f"\nthe good feed: asked at most {max(questions):.1f} s apart, written at most {max(writes):.1f} s apart")
        assert max(questions) < 2 * INTERVAL_S + 1.0
        assert max(writes) < 2 * INTERVAL_S + 2.0
        silent = [len(at) for pod, at in asked.items() if not pod.startswith("good-")]
        assert max(silent) < len(ingest)


async def _rate(admin: Admin) -> str:
    found = await admin.get(MARKETFEED, "good")
    return str(((found or {}).get("status") or {}).get("rate", ""))
