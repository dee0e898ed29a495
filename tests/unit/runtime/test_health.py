"""The health server tells the truth about its parts."""

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from marketfeed.domain.errors import SettingError
from marketfeed.runtime import metrics
from marketfeed.runtime.health import Health


async def get(port: int, path: str) -> tuple[int, str]:
    def fetch() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(fetch)


async def test_ready_only_when_every_part_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/readyz is 503 with the reason until all parts are ready; /healthz is 200 all along; the port is written."""
    monkeypatch.setenv("MARKETFEED_PORT_FILE", str(tmp_path / "port"))
    health = Health("try")
    port = await health.start("127.0.0.1", 0)
    try:
        assert (tmp_path / "port").read_text() == str(port)
        assert (await get(port, "/readyz"))[0] == 503
        health.ready("kafka", False, "no broker answers")
        status, body = await get(port, "/readyz")
        assert status == 503
        assert json.loads(body)["waiting_for"] == {"kafka": "no broker answers"}
        health.ready("kafka", True)
        assert (await get(port, "/readyz"))[0] == 200
        assert (await get(port, "/healthz"))[0] == 200
    finally:
        await health.close()


async def test_status_and_own_pages() -> None:
    """/status merges what the service says; pages may be added while it runs; an unknown page lists the known."""
    health = Health("try")
    health.status_source = lambda: {"rate": 5}
    port = await health.start("127.0.0.1", 0)
    try:
        health.add_json("/quarantine", lambda: ["bad"])
        metrics.counter("health_test_total", "for this test").inc()
        assert json.loads((await get(port, "/status"))[1])["rate"] == 5
        assert json.loads((await get(port, "/quarantine"))[1]) == ["bad"]
        assert "marketfeed_health_test_total 1.0" in (await get(port, "/metrics"))[1]
        status, body = await get(port, "/nowhere")
        assert status == 404
        assert "/quarantine" in body
    finally:
        await health.close()


async def test_an_occupied_port_is_a_sentence() -> None:
    """A taken port raises a setting error that names it."""
    first = Health("one")
    port = await first.start("127.0.0.1", 0)
    try:
        with pytest.raises(SettingError, match=str(port)):
            await Health("two").start("127.0.0.1", port)
    finally:
        await first.close()
