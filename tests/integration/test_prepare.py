"""`marketfeed prepare` and its halves against real servers, and how commands end."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from marketfeed.adapters.kafka import LogAdmin, trades_topic
from marketfeed.domain.errors import SettingError, Unavailable
from marketfeed.local.commands import demo
from marketfeed.local.commands import stack as stack_command
from marketfeed.local.stack import Addresses
from marketfeed.prepare.app import main, migrate_tables, topics
from marketfeed.prepare.app import run as run_prepare
from marketfeed.prepare.settings import PrepareSettings
from marketfeed.prepare.steps import delete_topics, ensure_tables
from marketfeed.runtime.command import run
from marketfeed.runtime.health import Health
from marketfeed.runtime.logs import get_logger
from marketfeed.runtime.service import ServiceContext

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


def retention_of(kafka: str, feed: str) -> tuple[str | None, str | None]:
    resource = ConfigResource(ResourceType.TOPIC, trades_topic(feed))
    client = AdminClient({"bootstrap.servers": kafka})  # has to outlive the request
    found = client.describe_configs([resource])[resource].result(10)
    return found["retention.bytes"].value, found["retention.ms"].value


def test_prepare_makes_everything_and_a_repeat_changes_only_what_was_asked_for(
    stack: Addresses, feed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Topics with partitions and retention, and the tables, in one command; another retention is taken over."""
    command = ["--kafka", stack.kafka, "--postgres", stack.postgres, "--feed", feed, "--partitions", "4"]
    command += ["--log-format", "json", "--retention-gb", "1"]
    assert main(command) == 0
    assert retention_of(stack.kafka, feed) == ("250000000", "172800000")
    capsys.readouterr()
    assert main(command) == 0
    told = outcome(capsys)
    assert told["changed"] == told["applied"] == []
    assert main([*command[:-1], "2", "--retention-h", "24"]) == 0
    assert retention_of(stack.kafka, feed) == ("500000000", "86400000")
    assert any(what.startswith(f"{feed}.trades: ") for what in outcome(capsys)["changed"])
    assert main([*command, "--partitions", "5"]) == 2
    assert "has 4 partitions and the setting says 5" in capsys.readouterr().err
    asyncio.run(delete_topics(stack.kafka, feed))


def outcome(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The facts of the line that says that all is there."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (found,) = [line for line in lines if line["event"] == "all is there"]
    return dict(found)


async def test_prepare_waits_for_a_server_that_comes_up_later(stack: Addresses, feed: str) -> None:
    """PostgreSQL is not there at first: the topics are made meanwhile, /readyz names it, and then the end comes."""
    host, _, port = stack.postgres.rpartition("@")[2].partition("/")[0].partition(":")
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        door = int(reserved.getsockname()[1])
    settings = PrepareSettings(
        feed=feed, kafka=stack.kafka, partitions=2, timeout_s=30,
        postgres=stack.postgres.replace(f"{host}:{port}", f"127.0.0.1:{door}"),
    )  # fmt: skip
    context = ServiceContext(name="prepare", settings=settings, log=get_logger("t"), health=Health("prepare"))

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pipe(reader, ours), pipe(theirs, writer))

    async with asyncio.timeout(40), asyncio.TaskGroup() as group:
        done = group.create_task(run_prepare(context))
        while set(context.health.waiting_for()) != {"postgres"}:  # noqa: ASYNC110 - readiness has to be asked for
            await asyncio.sleep(0.02)
        assert "is not available" in context.health.waiting_for()["postgres"]
        async with await asyncio.start_server(forward, "127.0.0.1", door):
            await done
    assert context.health.is_ready
    assert await LogAdmin(stack.kafka).partitions(trades_topic(feed)) == 2
    assert await ensure_tables(stack.postgres) == []
    await delete_topics(stack.kafka, feed)


def test_prepare_gives_up_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither server is there: exit code 1 after the time given, the reason told, no secret and no traceback."""
    command = ["--kafka", "127.0.0.1:1", "--postgres", "postgresql://me:secret@127.0.0.1:1/x", "--timeout-s", "0.5"]
    assert main([*command, "--log-format", "json"]) == 1
    said = capsys.readouterr()
    assert "gave up after 0.5 s (--timeout-s)" in said.err
    assert len(said.err.splitlines()) == 1
    assert "secret" not in said.err + said.out


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
