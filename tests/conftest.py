"""The real servers, once for a whole test session: those that the environment names, else an embedded stack.

Tests share them, so each takes a feed id of its own (the `feed` fixture) and cleans nothing up.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uvloop
from hypothesis import settings

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from marketfeed.local.stack import Addresses

# How long an example takes says more about the machine than about the code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the event loop that the services run on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def _log_handlers() -> Iterator[None]:
    """A test that sets up logging writes to its own captured stream; none of that is left for the next one."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


@pytest.fixture(scope="session")
def stack() -> Iterator[Addresses]:
    """Addresses of Kafka, Redis and PostgreSQL: `.kafka` (host:port), `.redis` and `.postgres` (URLs)."""
    # Imported here: the pure tests need none of this.
    from marketfeed.local import launch
    from marketfeed.local.stack import existing

    if (addresses := existing(os.environ)) is not None:
        yield addresses
        return
    # Not below pytest's own folder: another run of pytest closes that to all users but its own, and PostgreSQL is one.
    state = Path(tempfile.mkdtemp(prefix="marketfeed-stack-"))
    state.chmod(0o755)
    # Through the launcher, so that the servers end even if the test run is killed.
    tied = (sys.executable, "-I", "-S", str(launch.__file__), str(int(signal.SIGTERM)), str(os.getpid()), "-")
    command = (*tied, sys.executable, "-m", "marketfeed.local", "--state-dir", str(state))
    log = Path(state, "stack.log")
    with log.open("wb") as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process:
        assert process.stdout is not None
        found: dict[str, str] = {}
        for line in process.stdout:
            name, _, value = line.decode().removeprefix("export ").strip().partition("=")
            found[name] = value
            if len(found) == 3:
                break
        addresses = existing(found)
        assert addresses is not None, f"the embedded stack did not start: {log.read_text()}"
        yield addresses
        process.terminate()
        process.wait(30)
    shutil.rmtree(state)


@pytest.fixture
def feed() -> str:
    """A feed id that no other test uses."""
    return f"t{secrets.token_hex(4)}"
