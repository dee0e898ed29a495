"""The Kafka chart's probe on a real broker: its bytes are a request that the broker knows."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from marketfeed.local.stack import Addresses

pytestmark = pytest.mark.integration

SCRIPT = Path(__file__).parents[2] / "charts" / "kafka" / "files" / "start.sh"


@pytest.mark.parametrize("question", ["live", "ready"])
async def test_a_broker_with_a_quorum_passes_quickly(question: str, stack: Addresses, tmp_path: Path) -> None:
    """ApiVersions and DescribeQuorum are answered without an error, in far less than a Java client needs to start."""
    port = stack.kafka.rpartition(":")[2]
    text = SCRIPT.read_text()
    assert text.count("/127.0.0.1/9092 ") == 1
    script = tmp_path / "start.sh"
    script.write_text(text.replace("/127.0.0.1/9092 ", f"/127.0.0.1/{port} "))
    begun = time.monotonic()
    process = await asyncio.create_subprocess_exec("bash", script, question, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert time.monotonic() - begun < 2
