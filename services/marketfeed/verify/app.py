"""`marketfeed verify`: manifest = log = store = cache, or a list of what is missing, double or different.

1. The manifest against bars rebuilt from the log by the readers' rule and the one reducer (price updates counted, too).
2. The store's bars against the rebuilt ones, every column.
3. The manifest against the store's bars, so that no common error of 1 and 2 hides.
4. The cache's closes, and its last prices, against the rebuilt bars.
Exit code 0: all equal outside marked gaps, not more than was sent inside, and of all trades not more than
`--lost-max` missing there. 1: not so, or a server is away. 2: a setting is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import sys
from collections.abc import Sequence

import uvloop

from marketfeed.adapters.kafka import LogConsumer, trades_topic
from marketfeed.adapters.postgres import PostgresStore
from marketfeed.adapters.redis import RedisCache
from marketfeed.domain.errors import MarketfeedError, SettingError
from marketfeed.domain.manifest import Manifest
from marketfeed.domain.partitions import partition_of
from marketfeed.domain.position import Position
from marketfeed.domain.trades import SymbolTable
from marketfeed.runtime import logs
from marketfeed.runtime.logs import redact
from marketfeed.runtime.settings import Settings, add_arguments, overrides_of
from marketfeed.verify.comparison import (
    Comparison,
    compare_bars,
    compare_cells,
    compare_quotes,
    compare_seconds,
    seconds_of_bars,
    seconds_of_manifest,
)
from marketfeed.verify.readings import (
    read_bars,
    read_cells,
    read_log,
    read_manifest,
    read_quotes,
    span_of,
    unchanged_since,
    wait_for,
)
from marketfeed.verify.report import report
from marketfeed.verify.settings import VerifySettings
from marketfeed.verify.tape import Rebuilt

# Serving health pages is for what stays; a comparison ends.
_SERVING = frozenset(field.name for field in dataclasses.fields(Settings))
_FAR_FUTURE_S = 2**33


def main(argv: Sequence[str] | None = None) -> int:
    """Compare a feed's manifest with its log, its store and its cache."""
    parser = argparse.ArgumentParser(prog="marketfeed verify", description=main.__doc__)
    add_arguments(parser, VerifySettings, _SERVING)
    try:
        settings = VerifySettings.load(overrides_of(parser.parse_args(argv), VerifySettings))
        logs.set_up("verify", settings.log_format, "warning")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            text, equal = runner.run(verify(settings))
    except MarketfeedError as error:
        sys.stderr.write(redact(f"marketfeed verify: {error}\n"))
        return 2 if isinstance(error, SettingError) else 1
    sys.stdout.write(text)
    return 0 if equal else 1


async def verify(settings: VerifySettings) -> tuple[str, bool]:
    """The report and whether all is equal. Raises expected errors."""
    manifest = await read_manifest(_place_of_manifest(settings))
    consumer = LogConsumer(settings.kafka, trades_topic(settings.feed))
    store, cache = PostgresStore(settings.postgres, "marketfeed-verify"), RedisCache(settings.redis, settings.feed)
    try:
        await store.open()
        return await _compare(settings, manifest, consumer, store, cache)
    finally:
        await consumer.close()
        await store.close()
        await cache.close()


async def _compare(
    settings: VerifySettings, manifest: Manifest, consumer: LogConsumer, store: PostgresStore, cache: RedisCache
) -> tuple[str, bool]:
    ends = await consumer.end_offsets()
    begin = await consumer.begin_offsets()
    await consumer.assign({})
    end = Position(consumer.topic_id or "", ends)
    await wait_for("the cache", end, cache.position, settings.wait_s)
    until = await wait_for("the store", end, lambda: store.read_checkpoint(settings.feed), settings.wait_s)
    symbols = SymbolTable(manifest.symbols)
    rebuilt = Rebuilt(symbols, until.offsets)
    await read_log(consumer, rebuilt, until, begin, settings.wait_s)
    bars = rebuilt.bars()
    stored = await read_bars(store, settings.feed, symbols, 0, _FAR_FUTURE_S)
    span = span_of(bars, stored)
    cells = await read_cells(cache, symbols.names(), symbols, *span)
    quotes = await read_quotes(cache, symbols)
    partitions = len(ends)
    settled = unchanged_since(stored, until, lambda one: partition_of(symbols.name(one), partitions))
    from_s = max(manifest.kept_from_s, settings.from_s)
    sent = seconds_of_manifest(manifest, symbols).since(from_s)
    logged = seconds_of_bars(bars, rebuilt.rows(bars)).since(from_s)
    kept = seconds_of_bars(stored).since(from_s)
    shown = settings.findings_shown
    comparisons: list[Comparison] = [
        compare_seconds("sent = log", sent, logged, rebuilt.gaps, shown, settings.lost_max),
        compare_bars("log = PostgreSQL", bars, stored, settled, shown),
        compare_seconds("sent = PostgreSQL", sent, kept, rebuilt.gaps, shown, settings.lost_max),
        compare_cells("log = Redis seconds", bars, cells, shown),
        compare_quotes("log = Redis quotes", bars, quotes, shown),
    ]
    notes = notes_of(manifest, rebuilt, begin, settings.from_s)
    text = report(comparisons, symbols, rebuilt.counts(), notes)
    return text, all(comparison.equal for comparison in comparisons)


def notes_of(manifest: Manifest, rebuilt: Rebuilt, begin: dict[int, int], from_s: int = 0) -> list[str]:
    """What a reader of the report should know."""
    notes = []
    if not manifest.stopped:
        notes.append("the generator is still sending, so the newest seconds cannot be equal (POST /stop first)")
    if manifest.kept_from_s:
        notes.append(f"the manifest begins at second {manifest.kept_from_s}; what is older was not kept")
    if from_s:
        notes.append(f"what was sent is compared from second {from_s} on")
    if trimmed := {p: offset for p, offset in begin.items() if offset}:
        notes.append(f"the log's beginning is gone: first offsets are {trimmed}")
    if rebuilt.learning:
        notes.append(f"partitions {list(rebuilt.learning)} are too short to learn their owners from")
    if rebuilt.refused_final:
        notes.append(f"{rebuilt.refused_final} trades came after their bar was FINAL and count nowhere")
    if rebuilt.gaps:
        reasons = sorted({gap.reason for gap in rebuilt.gaps})
        notes.append(f"the log marks {len(rebuilt.gaps)} gaps: {', '.join(reasons)}")
    return notes


def _place_of_manifest(settings: VerifySettings) -> str:
    if settings.manifest:
        return settings.manifest
    if settings.generator_url:
        return f"{settings.generator_url.rstrip('/')}/manifest/bars"
    raise SettingError("--manifest", "is not given; name a file, a URL, or the generator with --generator-url")
