"""The whole pipeline as a user runs it: `marketfeed demo --for …`, with a faulty feed, and with services killed.

The demo's own end is the check: it compares what the generator sent with what is in Kafka, PostgreSQL and Redis, and
ends with 0 only if they are equal. Here the faults are chosen, the killing is done, and the output is read.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from marketfeed.local.stack import Addresses

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

# Every kind of thing a real feed does to its reader within seconds.
FAULTS = "disconnect@5,triple@7+3,bad:what=all:per_s=5@2+12,reversed@10+3,mute:symbols=MSFT@4+3"


class Run:
    """A running `marketfeed demo`."""

    def __init__(self, process: subprocess.Popen[bytes], state: Path) -> None:
        self.process = process
        self.state = state

    def said(self) -> str:
        """What it has printed so far."""
        return (self.state / "demo.log").read_text()

    def until_it_says(self, text: str, timeout_s: float) -> None:
        """Wait for a line; fails early when the demo has ended."""
        self._until(lambda: text in self.said(), f"the demo says {text!r}", timeout_s)

    def until_it_has_children(self) -> None:
        """Wait for the first process that it starts."""
        self._until(lambda: bool(psutil.Process(self.process.pid).children()), "it starts a process", 30)

    def service(self, module: str) -> psutil.Process | None:
        """The process of a service, if it runs."""
        for child in psutil.Process(self.process.pid).children():
            try:
                if child.cmdline()[-2:] == ["-m", f"marketfeed.{module}"]:
                    return child
            except psutil.Error:
                continue
        return None

    def kill(self, module: str) -> None:
        """`kill -9`, and wait until it is back."""
        first = self.service(module)
        assert first is not None, f"{module} does not run"
        first.kill()
        self._until(lambda: self.service(module) not in (None, first), f"{module} is started again", 30)

    def end(self, timeout_s: float) -> int:
        """Wait for the end; the exit code."""
        return self.process.wait(timeout_s)

    def _until(self, condition: Callable[[], bool], what: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, f"the demo ended early:\n{self.said()}"
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}\n{self.said()}"
            time.sleep(0.05)


@contextmanager
def running(stack: Addresses, state: Path, *options: str) -> Iterator[Run]:
    """`marketfeed demo` on the servers of the test session, with a state folder of its own."""
    command = (sys.executable, "-m", "marketfeed.cli.main", "demo", "--page", "no", "--port", "0")
    env = {**os.environ, **stack.env()}
    with (state / "demo.log").open("wb") as log:
        process = subprocess.Popen((*command, "--state-dir", str(state), *options), stdout=log, stderr=log, env=env)
    try:
        yield Run(process, state)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_a_faulty_feed_is_stored_exactly(stack: Addresses, tmp_path: Path) -> None:
    """Disconnects, tripled frames, malformed frames and disorder: everything that was sent is there once."""
    options = ("--for", "16s", "--rate", "2000", "--symbols", "40", "--shards", "2", "--fault", FAULTS)
    with running(stack, tmp_path, *options) as run:
        assert run.end(150) == 0, run.said()
        said = run.said()
    assert "tick to client" in said
    assert "CPU over" in said


def test_killed_services_lose_and_double_nothing(stack: Addresses, tmp_path: Path) -> None:
    """`kill -9` of ingest, recorder and mds in turn: equal outside the marked gaps, never too much inside."""
    with running(stack, tmp_path, "--for", "24s", "--rate", "2000", "--symbols", "40") as run:
        run.until_it_says("running for", 90)
        time.sleep(3)
        for module in ("recorder", "mds", "ingest"):
            run.kill(module)
            time.sleep(3)
        assert run.end(200) == 0, run.said()
        said = run.said()
    assert said.count("starting it again") == 3


def test_ctrl_c_while_starting_ends_at_once(stack: Addresses, tmp_path: Path) -> None:
    """An interrupted start leaves no process and no traceback."""
    with running(stack, tmp_path) as run:
        run.until_it_has_children()
        children = psutil.Process(run.process.pid).children(recursive=True)
        run.process.terminate()
        assert run.end(60) == 0, run.said()
        assert not [child for child in children if child.is_running()]
        assert "Traceback" not in run.said()
