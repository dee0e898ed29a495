"""The embedded stack: it starts, it serves, it leaves nothing behind however its parent ends, it explains deaths."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from marketfeed.local.stack import Addresses

pytestmark = pytest.mark.integration


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    """Until the condition holds; fails with `what` when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)


class Running:
    """`marketfeed stack` as a user runs it, with servers of its own."""

    def __init__(self, state: Path) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("MARKETFEED_")}
        command = (sys.executable, "-m", "marketfeed.local", "--state-dir", str(state))
        self.state = state
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        assert self.process.stdout is not None
        began_s = time.monotonic()
        self.exports = [self.process.stdout.readline().decode() for _ in range(3)]
        self.start_s = time.monotonic() - began_s
        self.children = psutil.Process(self.process.pid).children(recursive=True)

    def server(self, name: str) -> psutil.Process:
        """The server process whose program is called `name`."""
        return next(child for child in self.children if child.name() == name)

    def all_gone(self) -> bool:
        """Whether no server and no helper process is left."""
        return not [child for child in self.children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]

    def close(self) -> str:
        """Wait for the end; what it said."""
        _, said = self.process.communicate(timeout=30)
        return said.decode()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One state folder for the tests of this module: the first start fills it, the others are second starts."""
    return tmp_path_factory.mktemp("own-stack")


@pytest.fixture
def running(state: Path) -> Iterator[Running]:
    """A started stack; killed with all its servers if a test leaves it."""
    own = Running(state)
    yield own
    if own.process.poll() is None:
        own.process.kill()
        own.process.communicate()
    wait_for(own.all_gone, "the servers end")


def test_terminated_in_order(running: Running, state: Path) -> None:
    """SIGTERM stops the servers and then the command, which ends with 0."""
    running.process.terminate()
    assert "stopping the servers" in running.close()
    assert running.process.returncode == 0
    assert running.all_gone()


def test_second_start_is_fast_on_the_same_addresses(running: Running, state: Path) -> None:
    """A second start takes at most 10 s, finds the same addresses and refuses to share the folder."""
    assert running.start_s <= 10.0
    refused = subprocess.run(
        (sys.executable, "-m", "marketfeed.local", "--state-dir", str(state)),
        capture_output=True,
        text=True,
        timeout=30,
        env={name: value for name, value in os.environ.items() if not name.startswith("MARKETFEED_")},
    )
    assert refused.returncode == 2
    assert "in use by another" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    running.process.send_signal(signal.SIGINT)
    running.close()
    again = Running(state)
    again.process.terminate()
    again.close()
    assert again.exports == running.exports


def test_killed_parent_leaves_no_server(running: Running) -> None:
    """After `kill -9` of the command every server is gone within seconds, PostgreSQL, which changed user, too."""
    running.process.kill()
    running.close()
    wait_for(running.all_gone, "the servers end after their parent was killed")


def test_a_start_right_after_a_kill_waits_for_the_old_servers(running: Running, state: Path) -> None:
    """A new start does not run into the servers of a killed one: it waits for their end, and then serves."""
    running.process.kill()
    again = Running(state)
    again.process.terminate()
    said = again.close()
    running.close()
    assert again.process.returncode == 0, said
    assert len(again.exports) == 3


def test_killed_parent_ends_even_a_hung_server(running: Running) -> None:
    """A server that does not react to being asked is killed once its parent is gone."""
    running.server("java").suspend()
    running.process.kill()
    running.close()
    wait_for(running.all_gone, "the hung server is killed")


def test_dead_server_is_told_in_one_sentence(running: Running) -> None:
    """When a server dies the others are stopped and one sentence names it, how it ended and its log."""
    running.server("valkey-server").kill()
    said = running.close().splitlines()[-1]
    assert running.process.returncode == 1
    assert said.startswith("marketfeed stack: Valkey was killed by SIGKILL")
    assert str(running.state / "logs" / "valkey.log") in said
    assert running.all_gone()


def test_shared_stack_has_three_addresses(stack: Addresses) -> None:
    """The fixture of all integration tests yields what the services take as settings."""
    assert stack.kafka
    assert stack.redis.startswith("redis://")
    assert stack.postgres.startswith("postgresql://")
