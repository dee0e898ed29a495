"""Two hundred MarketFeeds with pods on a fake node (kwok): the operator keeps up. Prints what it costs.

FEEDS says how many; a usual run takes 12, with the same bounds, because 200 take minutes: `FEEDS=200 pytest -s …`.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from aiohttp import web
from tests.integration.operator.control_plane import ControlPlane, Missing
from tests.integration.operator.plane import Replica, connect, eventually, feed, make_namespace, replica

from marketfeed_operator.cluster import Cluster
from marketfeed_operator.kinds import MARKETFEED

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
FEEDS = int(os.environ.get("FEEDS", "12"))


@asynccontextmanager
async def talking_pods() -> AsyncIterator[str]:
    """An address that answers /status for any pod, with a rate that changes each time."""
    asked = 0

    async def status(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        shard = (re.search(r"ingest-(\d+)-", request.query["pod"]) or [None, "0"])[1]
        body = {
            "shard": shard, "member": 0, "phase": "live", "connected": True, "rate": 100.0 + asked % 7, "lag_s": 0.1,
            "last_event_age_s": 0.2, "rates": {f"SYM{number:03}": 5.0 for number in range(20)}, "owns_nothing": False,
            "symbols": {"count": 20, "live": 20, "hash": "h", "owned": 20, "assigned": 20, "plan_revision": 1},
        }  # fmt: skip
        return web.json_response(body)

    app = web.Application()
    app.add_routes([web.get("/status", status)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def p99_s(operator: Replica, before: dict[float, float] | None = None) -> tuple[float, dict[float, float]]:
    """The upper bound of the bucket that holds the 99th percentile of reconcile times since `before`."""
    _, text = await operator.page("/metrics")
    found = re.findall(r'marketfeed_operator_reconcile_seconds_bucket{le="([^"]+)"} (\S+)', text)
    now = {float(bound): float(count) for bound, count in found}
    since = {bound: count - (before or {}).get(bound, 0.0) for bound, count in now.items()}
    whole = since[float("inf")]
    return next(bound for bound, count in sorted(since.items()) if count >= 0.99 * whole), now


async def with_status(cluster: Cluster, namespace: str, test: str) -> int:
    """How many feeds are Ready, or have a status of their present generation."""
    listed = await cluster._request("get", MARKETFEED.path(namespace))
    count = 0
    for item in listed["items"]:
        status = item.get("status") or {}
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())
        seen = status.get("observedGeneration") == item["metadata"]["generation"]
        count += seen and (ready or test != "ready")
    return count


async def in_parallel(work: list[object], limit: int = 16) -> None:
    turns = asyncio.Semaphore(limit)

    async def one(task: object) -> None:
        async with turns:
            await task  # type: ignore[misc]

    await asyncio.gather(*map(one, work))


async def test_two_hundred_feeds_are_kept_up_with(tmp_path: Path) -> None:
    """All feeds come up; steady, with every pod polled, the queue is empty and a reconcile is quick; a change of all is
    taken in within seconds."""
    try:
        plane = await asyncio.to_thread(ControlPlane, tmp_path / "plane", 1)
    except Missing as error:
        pytest.skip(f"{error}; `make cluster` builds what a cluster needs")
    try:
        cluster = await connect(plane.kubeconfig)
        try:
            await plane.install_crd(cluster)
            await keeps_up(plane, cluster, tmp_path)
        finally:
            await cluster.close()
    finally:
        await asyncio.to_thread(plane.stop)


async def keeps_up(plane: ControlPlane, cluster: Cluster, tmp_path: Path) -> None:
    admin = await make_namespace(cluster, "many")
    settings = {"namespaces": "many", "lease_namespace": "many", "log_level": "info"}
    async with talking_pods() as host, replica(tmp_path, plane.kubeconfig, status_host=host, **settings) as operator:
        await eventually(operator.leads, 30.0)
        process = psutil.Process(operator.process.pid)
        began = time.monotonic()
        await in_parallel([admin.apply(feed(f"f{number:03}", "many")) for number in range(FEEDS)])

        async def all_ready() -> bool:
            return await with_status(cluster, "many", "ready") == FEEDS

        await eventually(all_ready, within_s=400.0, pause_s=2.0)
        up_s = time.monotonic() - began
        start_p99_s, buckets = await p99_s(operator)

        cpu_before, at = process.cpu_times(), time.monotonic()
        depths = []
        for _ in range(12):
            await asyncio.sleep(5.0)
            depths.append(await operator.metric("marketfeed_operator_queue_depth"))
        cpu = process.cpu_times()
        busy = (cpu.user + cpu.system - cpu_before.user - cpu_before.system) / (time.monotonic() - at)
        steady_p99_s, buckets = await p99_s(operator, buckets)

        began = time.monotonic()
        change = {"spec": {"shards": 2}}
        await in_parallel([admin.merge(MARKETFEED, f"f{number:03}", change) for number in range(FEEDS)])

        async def all_seen() -> bool:
            return await with_status(cluster, "many", "seen") == FEEDS

        await eventually(all_seen, within_s=120.0, pause_s=0.5)
        change_s = time.monotonic() - began
        change_p99_s, _ = await p99_s(operator, buckets)
        rss_mib = process.memory_info().rss / 2**20
        print(
            f"\n{FEEDS} feeds: all Ready in {up_s:.0f} s; p99 reconcile <= {start_p99_s} s at the start, "
            f"{steady_p99_s} s steady, {change_p99_s} s while all change; all changes seen in {change_s:.0f} s; "
            f"queue depth steady {sorted(depths)[len(depths) // 2]:.0f}; operator {rss_mib:.0f} MiB RSS, "
            f"{busy * 100:.0f} % of a core steady"
        )
        assert (await operator.page("/healthz"))[0] == 200
        assert steady_p99_s <= 1.0
        assert rss_mib < 400
        assert change_s < 60
