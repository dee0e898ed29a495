"""How the recorder explains a wrong setting."""

from __future__ import annotations

import asyncio
import sys

import pytest

from marketfeed.recorder import app, cache_session, cache_sink, log_tail, publisher, store_session, store_sink
from marketfeed.recorder.settings import RecorderSettings

pytestmark = pytest.mark.integration


async def test_settings_are_explained() -> None:
    """A sink that does not exist is one sentence and exit code 2; the modules name the sinks that do."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "marketfeed.recorder", "--sinks", "store,nowhere", stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        _, said = await process.communicate()
    assert process.returncode == 2
    assert "--sinks" in said.decode()
    assert RecorderSettings.load({}, {}).sinks == ("store", "cache")
    assert app.Recorder.__doc__
    assert store_sink.StoreSink.__mro__[1] is cache_sink.CacheSink.__mro__[1], "both are sinks"
    assert store_session.QUARANTINE_PER_FLUSH > 0
    assert cache_session.CELLS_PER_CALL > 0
    assert log_tail.RECORDS_MAX > 0
    assert publisher.ACK_TIMEOUT_S > 0
