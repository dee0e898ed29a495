"""What the demo decides before anything is started, and how it waits."""

import asyncio
import io
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from rich.console import Console

from marketfeed.domain.errors import SettingError, Unavailable
from marketfeed.local.children import ChildDied, Children, Program
from marketfeed.local.demo import insist, make_plan, until_set
from marketfeed.local.readiness import until_ready
from marketfeed.local.serve import stop_on_signals
from marketfeed.local.settings import DemoSettings
from marketfeed.local.status_table import StatusView


def view() -> tuple[StatusView, io.StringIO]:
    """A view that writes into a text."""
    out = io.StringIO()
    return StatusView(Console(file=out, width=200)), out


def test_a_demo_without_end_keeps_its_feed_and_a_proved_run_gets_a_fresh_one(tmp_path: Path) -> None:
    """The demo's page goes on where it was; a run that is compared must find nothing of another."""
    shown, _ = view()
    endless = make_plan(DemoSettings.load({"port": 0}, env={}), tmp_path, shown)
    first, second = (make_plan(DemoSettings.load({"duration": "5s"}, env={}), tmp_path, shown) for _ in range(2))
    assert (endless.feed, endless.duration_s) == ("demo", None)
    assert first.feed != second.feed
    assert len(endless.symbols) == endless.universe == 20
    assert first.feed_port == endless.feed_port


def test_named_symbols_are_those_of_the_generator(tmp_path: Path) -> None:
    """The generator gets as many symbols as it takes to have the named ones; a name twice is one."""
    plan = make_plan(DemoSettings.load({"symbols": "MSFT, SYM0060,MSFT"}, env={}), tmp_path, view()[0])
    assert plan.symbols == ("MSFT", "SYM0060")
    assert plan.universe == 60


def test_a_taken_port_is_told_and_replaced(tmp_path: Path) -> None:
    """The page moves to a free port, and a sentence says so."""
    shown, out = view()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        plan = make_plan(DemoSettings.load({"port": port, "grpc_port": 0}, env={}), tmp_path, shown)
    assert plan.public_port != port
    assert (
        out.getvalue() == f"port {port} is in use, so the page is on port {plan.public_port} (--port chooses another)\n"
    )


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"port": 99_999}, "--port: is 99999, must be from 1 to 65535, or 0 for any free one"),
        ({"rate": -5.0}, "--rate: is -5, must be from 0.01 to 1,000,000"),
        ({"rate": 99_999_999.0}, "--rate: is 99,999,999, must be from 0.01 to 1,000,000"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_started(
    tmp_path: Path, given: dict[str, object], sentence: str
) -> None:
    """One sentence that names the flag, and nothing else is said."""
    shown, out = view()
    with pytest.raises(SettingError) as refused:
        make_plan(DemoSettings.load(given, env={}), tmp_path, shown)
    assert str(refused.value) == sentence
    assert not out.getvalue()


async def test_work_ends_with_the_event_or_by_itself() -> None:
    """What comes first decides; the other is cancelled."""
    stopping = asyncio.Event()

    async def work(seconds: float) -> int:
        await asyncio.sleep(seconds)
        return 7

    assert await until_set(stopping, work(0)) == 7
    stopping.set()
    assert await until_set(stopping, work(60)) is None


async def test_a_server_that_has_just_started_is_asked_again() -> None:
    """A refusal is repeated until it succeeds or the time is over; then the last refusal is told."""
    said: list[str] = []
    answers = [Unavailable("Kafka", "x", "no leader yet"), Unavailable("Kafka", "x", "no leader yet"), None]

    async def attempt() -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    await insist(attempt, 10.0, said.append)
    assert answers == []
    answers = [Unavailable("Kafka", "x", "gone")]
    with pytest.raises(Unavailable, match="gone"):
        await insist(attempt, 0.0, said.append)
    assert said == []


async def test_signals_set_the_event() -> None:
    """Ctrl-C is a request, not an exception in the middle of something."""
    stopping = stop_on_signals()
    try:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.wait_for(stopping.wait(), 5)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(number)


async def test_a_server_that_dies_is_not_waited_for(tmp_path: Path) -> None:
    """Its last words come at once, not when the time for getting ready is over."""
    argv = (sys.executable, "-I", "-S", "-c", "raise SystemExit('FATAL: no room')")
    async with Children() as children:
        child = await children.start(Program(name="server", argv=argv, log=tmp_path / "server.log"))
        with pytest.raises(ChildDied, match="server ended with exit code 1; it said: FATAL: no room"):
            await asyncio.wait_for(until_ready(child, asyncio.sleep(60)), 20)
