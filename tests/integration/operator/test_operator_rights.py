"""What the operator may do is enough, and what it writes itself does not wake it: on a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from tests.integration.operator.control_plane import ControlPlane
from tests.integration.operator.plane import Admin, FakeKubelet, eventually, feed, replica
from tests.integration.operator.rights import install

from marketfeed_operator.kinds import BY_NAME, MARKETFEED

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


async def test_the_charts_rights_are_enough(
    plane: ControlPlane,
    admin: Admin,
    kubelet: FakeKubelet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the Roles of the chart and nothing else a feed comes up, is repaired, scaled up and down and deleted, and
    no request is forbidden."""
    chart = await install(plane, admin, tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(plane.port))
    service = BY_NAME["Service"]
    async with (
        talking_pods() as host,
        replica(tmp_path, None, **chart.settings, status_host=host, poll_interval_s=1) as operator,
    ):
        await admin.apply(feed("x", admin.namespace, shards=2))
        await eventually(lambda: admin.is_condition("x", "Ready", "True"), 60.0)
        await admin.delete(service, "x-mds")
        await eventually(lambda: admin.get(service, "x-mds"), 10.0)
        await admin.merge(MARKETFEED, "x", {"spec": {"shards": 1}})

        async def shrunk() -> bool:
            return "x-ingest-1-0" not in await admin.names(BY_NAME["Deployment"])

        await eventually(shrunk, 60.0)
        assert await operator.metric("marketfeed_operator_api_requests_total", status="403") == 0
        assert '"Forbidden' not in operator.log.read_text()


@asynccontextmanager
async def talking_pods() -> AsyncIterator[str]:
    """An address that answers /status for any pod: its rate differs each time, and it owns nothing."""
    asked = 0

    async def status(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        symbols = {"count": 20, "live": 20, "owned": 0, "assigned": 0, "hash": "h", "plan_revision": 99}
        body = {"shard": "0", "member": 0, "phase": "live", "connected": True, "rate": float(asked), "lag_s": 0.1,
                "last_event_age_s": 0.1, "symbols": symbols, "rates": {}, "owns_nothing": True}  # fmt: skip
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


async def test_own_status_writes_wake_nobody_and_are_rare(
    plane: ControlPlane, admin: Admin, kubelet: FakeKubelet, settings: dict[str, object], tmp_path: Path
) -> None:
    """Pods report another rate each second: the status follows at its own pace, and its writes trigger nothing."""
    async with (
        talking_pods() as host,
        replica(
            tmp_path, plane.kubeconfig, **settings, status_host=host, poll_interval_s=1, status_interval_s=4
        ) as operator,
    ):
        await admin.apply(feed("x", admin.namespace))
        await eventually(lambda: admin.is_condition("x", "Ready", "True"), 60.0)
        await asyncio.sleep(5.0)
        names = ("marketfeed_operator_status_writes_total", "marketfeed_operator_reconciles_total")
        writes, reconciles = [await operator.metric(name) for name in names]
        triggers = await operator.metric("marketfeed_operator_triggers_total", source="MarketFeed")
        ignored = await operator.metric("marketfeed_operator_watch_events_ignored_total", kind="MarketFeed")
        await asyncio.sleep(16.0)
        wrote = await operator.metric(names[0]) - writes
        ran = await operator.metric(names[1]) - reconciles
        print(f"in 16 s: {wrote:.0f} status writes, {ran:.0f} reconciles")
        assert 3 <= wrote <= 5
        assert await operator.metric("marketfeed_operator_triggers_total", source="MarketFeed") == triggers == 1
        assert await operator.metric("marketfeed_operator_watch_events_ignored_total", kind="MarketFeed") >= ignored + 3
        # One a poll and one for each status that had to wait for its turn.
        assert ran <= 16 + wrote + 4
