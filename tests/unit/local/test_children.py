"""Child processes: started, stopped, killed when they do not listen, and explained."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from marketfeed.local import launch, reaper
from marketfeed.local.children import ChildDied, Children, Program, last_words


def program(tmp_path: Path, code: str, *, stop_s: float = 5.0) -> Program:
    """A child that runs a line of Python."""
    argv = (sys.executable, "-I", "-S", "-u", "-c", code)
    return Program(name="thing", argv=argv, log=tmp_path / "logs" / "thing.log", stop_s=stop_s)


async def until_log_says(log: Path, text: str) -> None:
    """Wait for a line of the log."""
    await asyncio.wait_for(asyncio.to_thread(wait_for_text, log, text), 15)


def wait_for_text(log: Path, text: str) -> None:
    """The same, blocking."""
    deadline = time.monotonic() + 10
    while not log.exists() or text not in log.read_text():
        assert time.monotonic() < deadline, f"{log} does not say {text!r}"
        time.sleep(0.01)


async def test_a_child_leads_its_own_group_and_ends_when_asked(tmp_path: Path) -> None:
    """The signal of a terminal's Ctrl-C does not reach it; leaving the context does."""
    waiting = program(tmp_path, "import time; print('up'); time.sleep(60)")
    async with Children() as children:
        child = await children.start(waiting)
        assert os.getpgid(child.pid) == child.pid
        await until_log_says(waiting.log, "up")
        assert children.alive == [child]
    assert not child.alive
    assert (await child.wait()).code == -signal.SIGTERM


async def test_a_deaf_child_is_killed(tmp_path: Path) -> None:
    """A child that ignores the request is killed when its time is over."""
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up'); time.sleep(60)"
    async with Children() as children:
        child = await children.start(program(tmp_path, deaf, stop_s=0.1))
        await until_log_says(child.program.log, "up")
        await child.stop()
        assert (await child.wait()).code == -signal.SIGKILL


async def test_a_death_is_told_with_last_words_and_log(tmp_path: Path) -> None:
    """The sentence names the program, how it ended, what it said and where the rest is."""
    broken = program(tmp_path, "print('one'); raise OSError('no space left'); ")
    async with Children() as children:
        with pytest.raises(ChildDied, match="thing ended with exit code 1; it said: OSError: no space left") as found:
            await children.run(broken, timeout_s=10)
    assert str(broken.log) in str(found.value)


async def test_a_program_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    """`run` has a deadline."""
    async with Children() as children:
        with pytest.raises(ChildDied, match="was killed by SIGKILL"):
            await children.run(program(tmp_path, "import time; time.sleep(60)"), timeout_s=0.2)


def test_the_telling_line_is_chosen(tmp_path: Path) -> None:
    """Of a log the last line that sounds like trouble is quoted, else the last; a missing log has no words."""
    log = tmp_path / "x.log"
    assert last_words(log) == ""
    log.write_text("fine\nFATAL: the disk is on fire\n  at some.place\nshutting down\n\n")
    assert last_words(log) == "FATAL: the disk is on fire"
    log.write_text("a\nb\n")
    assert last_words(log) == "b"
    log.write_text("FATAL: an earlier run\nb\n")
    assert last_words(log, log.read_text().index("b\n")) == "b"


async def test_an_earlier_run_in_the_same_log_is_not_quoted(tmp_path: Path) -> None:
    """A death is told with what that process said, though the log goes on from run to run."""
    async with Children() as children:
        with pytest.raises(ChildDied, match="it said: error: the first"):
            await children.run(program(tmp_path, "print('error: the first'); raise SystemExit(2)"), timeout_s=10)
        with pytest.raises(ChildDied, match="it said: must be less"):
            await children.run(program(tmp_path, "print('must be less'); raise SystemExit(2)"), timeout_s=10)


def test_the_scripts_run_without_our_packages() -> None:
    """The launcher and the reaper import the standard library only: they run in a bare interpreter."""
    for module in (launch, reaper):
        assert "marketfeed" not in Path(str(module.__file__)).read_text()
