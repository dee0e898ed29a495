"""The health check of the operator's image, as a container's runtime runs it."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from marketfeed_operator import health_check
from marketfeed_operator.health import HealthServer, Limits, Vital

LIMITS = Limits(contact_ready_s=30.0, contact_dead_s=600.0, renewal_s=15.0, watch_s=240.0, queue_s=180.0, blind_s=300.0)


@pytest.mark.parametrize(("vital", "code"), [(Vital(), 0), (Vital(True, queue_oldest_s=181.0), 1), (None, 1)])
async def test_the_program_asks_a_replica_for_its_health(vital: Vital | None, code: int) -> None:
    """Exit code 0 for a sound one; 1 with what troubles it, or for none."""
    server = HealthServer(lambda: vital or Vital(), LIMITS, dict)
    port = await server.start("127.0.0.1", 0)
    if vital is None:
        await server.close()
    try:
        asked = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "marketfeed_operator", "health", stderr=asyncio.subprocess.PIPE,
            env={**os.environ, health_check.PORT_VARIABLE: str(port)},
        )  # fmt: skip
        async with asyncio.timeout(20):
            _, told = await asked.communicate()
    finally:
        await server.close()
    assert asked.returncode == code
    assert (b"" if code == 0 else f"127.0.0.1:{port}".encode()) in told
    assert (b"waited" in told) == (vital is not None and code == 1)
