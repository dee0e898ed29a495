"""`marketfeed topics` and `marketfeed migrate` against real servers, and how commands end."""

from __future__ import annotations

from pathlib import Path

import pytest

from marketfeed.domain.errors import SettingError, Unavailable
from marketfeed.local.commands import demo
from marketfeed.local.commands import stack as stack_command
from marketfeed.local.entry import run
from marketfeed.local.prepare import migrate_tables, topics
from marketfeed.local.stack import Addresses

pytestmark = pytest.mark.integration


def test_topics_are_made_and_a_repeat_changes_nothing(
    stack: Addresses, feed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twice the same answer; another number of partitions is refused with one sentence."""
    arguments = ["--kafka", stack.kafka, "--feed", feed, "--partitions", "2"]
    assert topics(arguments) == topics(arguments) == 0
    assert capsys.readouterr().out.splitlines() == [f"{feed}: its topics are there, trades in 2 partitions"] * 2
    assert topics([*arguments[:-1], "3"]) == 2
    assert "has 2 partitions and the setting says 3" in capsys.readouterr().err


def test_tables_are_brought_up_to_date(stack: Addresses, capsys: pytest.CaptureFixture[str]) -> None:
    """A repeat finds nothing to do."""
    assert migrate_tables(["--postgres", stack.postgres]) == 0
    capsys.readouterr()
    assert migrate_tables(["--postgres", stack.postgres]) == 0
    assert capsys.readouterr().out == "nothing to do, all is up to date\n"


def test_a_missing_server_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """What is missing, where it was looked for; no password, no traceback, exit code 1."""
    assert migrate_tables(["--postgres", "postgresql://me:secret@127.0.0.1:1/x"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("marketfeed migrate: PostgreSQL at 127.0.0.1:1/x is not available")
    assert "secret" not in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--for", "soon"], "--for: is 'soon'; write a time such as 30s, 2m or 1h"),
        (["--symbols", "NOPE"], "--symbols: the generator has no NOPE"),
        (["--symbols", "0"], "--symbols: is 0, must be 1 to 9999"),
        (["--shards", "0"], "--shards: is 0, must be 1 or more"),
        (["--source", "finnhub"], "FINNHUB_API_KEY: is not set"),
        (["--kafka", "127.0.0.1:1"], "MARKETFEED_REDIS, MARKETFEED_POSTGRES: set it too"),
    ],
)
def test_wrong_settings_of_the_demo(
    arguments: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """One sentence that says what to do, before any server is started; exit code 2."""
    for name in ("MARKETFEED_KAFKA", "MARKETFEED_REDIS", "MARKETFEED_POSTGRES", "FINNHUB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert demo([*arguments, "--state-dir", str(tmp_path), "--page", "no"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"marketfeed demo: {sentence}")


def test_help_shows_defaults_units_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """--help needs no manual."""
    for command, words in (
        (demo, ("examples:", "exit codes:", "--for", "(default 8080")),
        (stack_command, ("--state-dir",)),
    ):
        with pytest.raises(SystemExit):
            command(["--help"])
        shown = " ".join(capsys.readouterr().out.split())
        assert all(word in shown for word in words)


def test_the_first_expected_error_of_a_group_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Errors of tasks come in groups; a person gets one sentence. A bug stays a traceback."""

    async def fail() -> None:
        inner = ExceptionGroup("inner", [SettingError("--x", "is wrong")])
        raise ExceptionGroup("tasks", [inner, Unavailable("a", "b", "c")])

    assert run("thing", fail) == 2
    assert capsys.readouterr().err == "marketfeed thing: --x: is wrong\n"

    async def bug() -> None:
        raise ExceptionGroup("tasks", [ZeroDivisionError()])

    with pytest.raises(ExceptionGroup):
        run("thing", bug)
