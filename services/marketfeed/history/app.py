"""`marketfeed history import FILE…` and `marketfeed history replay FILE…`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from marketfeed.adapters.history_csv import BadLineFile, TradeFile
from marketfeed.adapters.kafka import LogAdmin, LogProducer, trades_topic
from marketfeed.adapters.postgres.importer import BarImport
from marketfeed.domain.errors import Interrupted, SettingError, Unavailable
from marketfeed.domain.sessions import calendar
from marketfeed.history.pipeline import BarReader, Importer
from marketfeed.history.progress import Progress
from marketfeed.history.replay import Pace, Replay
from marketfeed.history.settings import HistorySettings, ImportSettings, ReplaySettings
from marketfeed.runtime.service import ServiceContext, default_instance, run_to_exit
from marketfeed.runtime.settings import add_arguments, overrides_of
from marketfeed.runtime.waiting import until_available

H = TypeVar("H", bound=HistorySettings)

_SETTLE_S = 5.0
_IMPORT = """Make bars of trade files and store them, all or nothing. May be repeated: what an earlier import stored for
the same symbols and days is replaced. Give all files of a day in one command."""
_REPLAY = """Send trade files through Kafka as if they were a feed, at the pace of their stamps, N times faster, or as
fast as Kafka takes it. Use a feed id of its own: the files' time is that feed's time."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: the exit code is 0 when everything was read and stored, 1 failed, 2 a wrong setting or file."""
    parser = argparse.ArgumentParser(
        prog="marketfeed history", description="Trades from CSV files (docs/history-csv.md)."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, cls, text in (("import", ImportSettings, _IMPORT), ("replay", ReplaySettings, _REPLAY)):
        command = commands.add_parser(name, help=text.split(".")[0], description=text)
        command.add_argument("files", nargs="+", metavar="FILE", help="a trade CSV, plain or gzip")
        add_arguments(command, cls, skip=frozenset({"files"}))
    namespace = parser.parse_args(argv)
    settings_cls: type[HistorySettings] = ImportSettings if namespace.command == "import" else ReplaySettings
    try:
        settings = settings_cls.load({**overrides_of(namespace, settings_cls), "files": tuple(namespace.files)})
    except SettingError as error:
        sys.stderr.write(f"marketfeed history: {error}\n")
        return 2
    if isinstance(settings, ImportSettings):
        return run_to_exit("history", settings, run_import)
    assert isinstance(settings, ReplaySettings)
    return run_to_exit("history", settings, run_replay)


def _files(settings: HistorySettings) -> tuple[list[TradeFile], BadLineFile]:
    """The files to read and the one for bad lines. Raises SettingError for one that cannot be opened."""
    files = [TradeFile(Path(name)) for name in settings.files]
    default = files[0].path.with_name(files[0].path.name + ".quarantine.csv")
    return files, BadLineFile(settings.quarantine or default, settings.quarantine_lines_max)


def _tell(context: ServiceContext[H], what: str, bad_lines: BadLineFile, facts: dict[str, object]) -> None:
    """The last line of a run: what was done, and where the bad lines are; also for whoever reads the result file."""
    if bad_lines.counts:
        facts = {**facts, "bad": dict(bad_lines.counts), "bad_lines_in": str(bad_lines.path)}
    context.log.info(what, **facts)
    if (path := context.settings.result_file) is not None:
        try:
            path.write_bytes(msgspec.json.encode({"result": what, **facts}))
        except OSError as error:
            context.log.warning("the result file cannot be written", path=str(path), reason=error.strerror)


def _show(context: ServiceContext[H], progress: Progress) -> None:
    """Let /status say how far it is."""
    feed = context.settings.feed
    context.health.status_source = lambda: {"feed": feed, **progress.status(time.monotonic())}


@contextmanager
def _hint(name: str) -> Iterator[None]:
    """Tell who has no server at the address how to come by one."""
    try:
        yield
    except Unavailable as error:
        reason = f"{error.reason}; set {name} to yours, or run `marketfeed stack` and set what it prints"
        raise Unavailable(error.what, error.where, reason) from error


async def _once_there(context: ServiceContext[H], part: str, begin: Callable[[], Awaitable[None]]) -> None:
    """Begin with the server (`part`, as /readyz names it), as soon as it answers within the time that it has.

    Raises Unavailable, and Interrupted when it was told to stop before.
    """

    async def begun() -> bool:
        await begin()
        return True

    timeout_s = context.settings.timeout_s
    if timeout_s <= 0:
        await begin()
        context.health.ready(part, True)
    elif await until_available(part, begun, timeout_s, context.stopping, context.health, context.log) is None:
        raise Interrupted("stopped before its server was there, so nothing was done")


async def run_import(context: ServiceContext[ImportSettings]) -> None:
    """Import, report, end."""
    settings = context.settings
    files, bad_lines = _files(settings)
    store = BarImport(settings.postgres, settings.feed, settings.replace)
    reader = BarReader(files, bad_lines)
    importer = Importer(reader, store, calendar(settings.calendar), settings.bars_max, context.log)
    _show(context, importer.progress)
    context.health.ready("postgres", False, "not asked yet")
    try:
        with _hint("MARKETFEED_POSTGRES"):
            await _once_there(context, "postgres", store.open)
        done = await importer.run(context.stopping)
        total = {**importer.progress.total(time.monotonic()), "bars": importer.bars_written}
        _tell(context, "imported" if done else "stopped", bad_lines, total)
        if not done:
            raise Interrupted("stopped before the end, so nothing was stored")
    finally:
        await store.close()
        bad_lines.close()


async def _holds_records(admin: LogAdmin, feed: str) -> bool:
    """Whether the feed's log has any. A topic made a moment ago is not known to every broker yet: ask for a while."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _SETTLE_S
    while True:
        try:
            return any((await admin.end_offsets(trades_topic(feed))).values())
        except Unavailable:
            if loop.time() > deadline:
                raise
            await asyncio.sleep(0.1)


async def run_replay(context: ServiceContext[ReplaySettings]) -> None:
    """Replay, report, end."""
    settings = context.settings
    pace = Pace.of(settings.speed)
    files, bad_lines = _files(settings)
    instance = settings.instance or default_instance()
    producer = LogProducer(settings.kafka, client_id=f"marketfeed-history-{instance}")
    replay = Replay(files, bad_lines, producer, settings, pace, instance, context.log)
    _show(context, replay.progress)
    context.health.ready("kafka", False, "not asked yet")
    try:
        with _hint("MARKETFEED_KAFKA"):
            await _once_there(context, "kafka", lambda: _prepare(settings))
        done = await replay.run(context.stopping)
        total = {**replay.progress.total(time.monotonic()), "sent": replay.sent}
        _tell(context, "replayed" if done else "stopped", bad_lines, total)
        if not done:
            raise Interrupted("stopped before the end; what was sent stays in the log")
    finally:
        await producer.close(context.remaining_s())
        bad_lines.close()


async def _prepare(settings: ReplaySettings) -> None:
    """Make the feed's topics. Raises Unavailable, and SettingError for a feed that has trades already."""
    admin = LogAdmin(settings.kafka)
    retention_bytes, retention_ms = round(settings.retention_gb * 1e9), round(settings.retention_h * 3_600_000)
    await admin.ensure_topics(settings.feed, settings.partitions, retention_bytes, retention_ms)
    if not settings.append and await _holds_records(admin, settings.feed):
        raise SettingError(
            "--feed",
            f"{settings.feed} has trades already; a replay needs a feed of its own, or --append to go on after them",
        )
