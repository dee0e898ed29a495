"""A service's life: start, stop in order, and an exit code that tells how it ended."""

import asyncio
import os
import signal

import pytest

from marketfeed.domain.errors import SettingError, Unavailable
from marketfeed.runtime import logs
from marketfeed.runtime.service import ServiceContext, main, run_service
from marketfeed.runtime.settings import Settings

Context = ServiceContext[Settings]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "set_up", lambda *_: None)


async def test_sigterm_sets_stopping_and_the_service_ends() -> None:
    """The signal reaches the service's main, which returns by itself."""
    steps: list[str] = []

    async def service_main(context: Context) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await context.stopping.wait()
        steps.append("flushed")
        assert 0 < context.remaining_s() <= context.settings.shutdown_timeout_s

    await run_service("try", Settings(), service_main)
    assert steps == ["flushed"]


async def test_a_service_that_does_not_stop_is_cancelled_at_the_deadline() -> None:
    """One deadline covers the whole shutdown."""
    ends: list[str] = []

    async def service_main(context: Context) -> None:
        context.stop()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    await run_service("try", Settings(shutdown_timeout_s=0.01), service_main)
    assert ends == ["cancelled"]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (SettingError("--kafka", "is wrong; correct it"), 2, "marketfeed try: --kafka: is wrong; correct it\n"),
        (Unavailable("Kafka", "h:1", "token=abc"), 1, "marketfeed try: Kafka at h:1 is not available: token=***\n"),
    ],
)
def test_expected_errors_become_one_sentence(
    error: Exception, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An expected error is told in one redacted sentence and the exit code."""

    async def service_main(_: Context) -> None:
        raise error

    assert main("try", Settings, service_main, []) == code
    assert capsys.readouterr().err == said


def test_a_bug_is_raised() -> None:
    """A bug keeps its traceback."""

    async def service_main(_: Context) -> None:
        raise KeyError("bug")

    with pytest.raises(ExceptionGroup):
        main("try", Settings, service_main, [])


def test_a_wrong_flag_exits_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    """A value that cannot be read is named."""

    async def service_main(_: Context) -> None: ...

    assert main("try", Settings, service_main, ["--http-port", "x"]) == 2
    assert "--http-port" in capsys.readouterr().err
