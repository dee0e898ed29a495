"""Ingest as a process on a real broker, under load and faults: the log equals what the generator sent.

Outside the gaps that the log itself marks every symbol's second has exactly the trades of the manifest, inside them not
more. All runs are short; the same comparison under more load is the end-to-end test's.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.integration.processes import Bench, all_logged, assert_equal, rebuilt_log

from marketfeed.local.children import Children
from marketfeed.local.kafka import start_kafka
from marketfeed.local.ports import choose
from marketfeed.local.stack import Addresses

pytestmark = pytest.mark.integration


async def test_every_trade_of_a_quiet_run_is_in_the_log_once(bench: Bench, stack: Addresses, feed: str) -> None:
    """No fault, no gap: the log is the manifest; an orderly end leaves the next start nothing to wait for."""
    generator = await bench.generator(rate=3000)
    ingest = await bench.ingest(generator, stack.kafka, feed)
    await ingest.until(lambda status: status["ready"] and status["trades"]["published"] > 8000)
    assert (await ingest.get("/readyz"))["ready"]
    assert await ingest.stop() == 0
    again = await bench.ingest(generator, stack.kafka, feed)
    await again.until(lambda status: status["phase"] == "live" and status["trades"]["published"] > 1000, timeout_s=4.5)
    manifest = await bench.stop_market(generator)
    await all_logged(again, manifest)
    assert await again.stop() == 0
    rebuilt = await rebuilt_log(stack.kafka, feed)
    assert_equal(manifest, rebuilt)
    assert {gap.reason for gap in rebuilt.gaps} == {"restart"}
    assert rebuilt.counts()["ignored_foreign"] == 0


async def test_killed_under_load_nothing_is_lost_outside_its_gap_and_nothing_doubled(
    bench: Bench, stack: Addresses, feed: str
) -> None:
    """kill -9, twice: what Kafka had acknowledged counts once, what was lost lies inside a marked gap."""
    generator = await bench.generator(rate=20_000)
    for _ in range(2):
        ingest = await bench.ingest(generator, stack.kafka, feed)
        await ingest.until(lambda status: status["phase"] == "live" and status["trades"]["published"] > 30_000)
        await ingest.kill()
    ingest = await bench.ingest(generator, stack.kafka, feed)
    await ingest.until(lambda status: status["phase"] == "live" and status["trades"]["published"] > 30_000)
    manifest = await bench.stop_market(generator)
    await all_logged(ingest, manifest)
    rebuilt = await rebuilt_log(stack.kafka, feed)
    found = assert_equal(manifest, rebuilt)
    assert found.in_gaps < found.cells / 2
    assert {gap.reason for gap in rebuilt.gaps} == {"restart"}


async def test_faults_of_the_feed_cost_what_their_gaps_say(bench: Bench, stack: Addresses, feed: str) -> None:
    """Each message three times, bad trades, disconnects, refused handshakes: the log is the manifest."""
    generator = await bench.generator(rate=5000)
    ingest = await bench.ingest(generator, stack.kafka, feed)
    await ingest.until(lambda status: status["phase"] == "live" and status["trades"]["published"] > 5000)
    await bench.fault(generator, kind="bad", for_s=1.5, per_s=40)
    await ingest.until(lambda status: len(status["trades"]["quarantined"]) > 4)
    await bench.fault(generator, kind="triple", at_s=(await bench.now_s(generator)) + 1.5, for_s=1)
    before = (await ingest.status())["trades"]["published"]
    await ingest.until(lambda status: status["trades"]["published"] > before + 15_000)
    await bench.fault(generator, kind="disconnect")
    await ingest.until(lambda status: status["connection"]["connections"] == 2)
    before = (await ingest.status())["trades"]["published"]
    await ingest.until(lambda status: status["trades"]["published"] > before + 5000)
    metrics = await ingest.text("/metrics")
    assert "marketfeed_ingest_frames_repeated_total 0.0" not in metrics
    manifest = await bench.stop_market(generator)
    status = await all_logged(ingest, manifest)
    assert {"malformed_frame", "unknown_type", "price_absurd"} & status["trades"]["quarantined"].keys()
    assert (await ingest.get("/quarantine"))["samples"]
    rebuilt = await rebuilt_log(stack.kafka, feed)
    assert_equal(manifest, rebuilt)
    assert {gap.reason for gap in rebuilt.gaps} == {"connection_lost"}


@asynccontextmanager
async def own_broker(folder: Path) -> AsyncIterator[tuple[str, int]]:
    """A broker of our own, to be stopped and continued: its address and process id."""
    folder.mkdir()  # noqa: ASYNC240 (once, before anything runs)
    ports = choose(("kafka", "kafka_controller"), folder / "ports.json")
    async with Children() as children:
        child = await start_kafka(children, folder, ports, lambda _: None)
        yield f"127.0.0.1:{ports['kafka']}", child.pid


async def test_kafka_away_fills_the_spool_which_is_drained_in_order(bench: Bench, feed: str, tmp_path: Path) -> None:
    """Frozen broker: memory, then the spool; on its return everything is in the log, once, and without any gap."""
    async with own_broker(tmp_path / "broker") as (kafka, pid):
        generator = await bench.generator(rate=20_000)
        ingest = await bench.ingest(generator, kafka, feed, memory_mb=0.5)
        await ingest.until(lambda status: status["phase"] == "live" and status["trades"]["published"] > 20_000)
        os.kill(pid, signal.SIGSTOP)
        try:
            await ingest.until(lambda status: status["spool"]["spooled"] > 100 and not status["parts"]["kafka"])
        finally:
            os.kill(pid, signal.SIGCONT)
        await ingest.until(lambda status: status["spool"]["records"] == 0 and status["parts"]["kafka"])
        manifest = await bench.stop_market(generator)
        status = await all_logged(ingest, manifest)
        assert status["spool"]["drained"] == status["spool"]["spooled"]
        assert status["spool"]["bytes"] == 0
        rebuilt = await rebuilt_log(kafka, feed)
        assert_equal(manifest, rebuilt)
        assert rebuilt.gaps == []


async def test_a_spool_outlives_a_kill_and_a_bound_is_confessed(bench: Bench, feed: str, tmp_path: Path) -> None:
    """Killed while Kafka is away, the next start publishes the spool; beyond memory and spool trades go, marked."""
    async with own_broker(tmp_path / "broker") as (kafka, pid):
        # None of the lost trades may be later than all before it: it would lie below its gap (ARCHITECTURE.md, limits).
        generator = await bench.generator(rate=20_000, late_share=0.0)
        ingest = await bench.ingest(generator, kafka, feed, memory_mb=0.2)
        # The take-over alone publishes some 20,000, so that it may be killed before a sign of life of it is logged.
        await ingest.until(lambda status: status["phase"] == "live" and status["trades"]["published"] > 20_000)
        os.kill(pid, signal.SIGSTOP)
        await ingest.until(lambda status: status["spool"]["records"] > 200)
        await ingest.kill()
        os.kill(pid, signal.SIGCONT)
        ingest = await bench.ingest(generator, kafka, feed, memory_mb=0.2, spool_mb=2)
        await ingest.until(lambda status: status["phase"] == "live" and status["spool"]["bytes"] == 0)
        assert "spool of the previous run published" in ingest.log.read_text()
        os.kill(pid, signal.SIGSTOP)
        await ingest.until(lambda status: status["trades"]["dropped"] > 10_000)
        os.kill(pid, signal.SIGCONT)
        manifest_dropped = (await ingest.until(lambda status: status["spool"]["records"] == 0))["trades"]["dropped"]
        manifest = await bench.stop_market(generator)
        status = await all_logged(ingest, manifest)
        rebuilt = await rebuilt_log(kafka, feed)
        assert_equal(manifest, rebuilt)
        assert {gap.reason for gap in rebuilt.gaps} == {"restart", "dropped"}
        confessed = sum(gap.dropped for gap in rebuilt.gaps if gap.reason == "dropped")
        assert confessed == status["trades"]["dropped"] >= manifest_dropped


async def test_a_missing_server_or_a_wrong_setting_is_one_sentence(bench: Bench, tmp_path: Path) -> None:
    """No Kafka: it waits and says so. A wrong shard: exit code 2."""
    generator = await bench.generator(rate=100)
    waiting = await bench.ingest(generator, "127.0.0.1:9", "nowhere")
    status = await waiting.until(lambda status: status["connected"] and status["trades"]["buffered"] > 0)
    assert not status["ready"]
    assert await waiting.stop() == 0
    wrong = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "marketfeed.ingest", "--shard=2/2", "--symbols=A", stderr=asyncio.subprocess.PIPE
    )
    _, text = await wrong.communicate()
    assert wrong.returncode == 2
    assert text.decode().count("\n") == 1
    assert "--shard" in text.decode()
