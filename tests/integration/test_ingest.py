"""Ingest as a process on a real broker, under load and faults: the log equals what the generator sent.

Outside the gaps that the log itself marks every symbol's second has exactly the trades of the manifest, inside them not
more. All runs are short; the same comparison under more load is the end-to-end test's.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from marketfeed.adapters.kafka import LogConsumer, trades_topic
from marketfeed.domain.manifest import Manifest
from marketfeed.domain.position import Position
from marketfeed.domain.trades import SymbolTable
from marketfeed.local.children import Children
from marketfeed.local.kafka import start_kafka
from marketfeed.local.ports import choose
from marketfeed.local.stack import Addresses
from marketfeed.verify.comparison import Comparison, compare_seconds, seconds_of_bars, seconds_of_manifest
from marketfeed.verify.readings import read_log
from marketfeed.verify.tape import Rebuilt
from marketfeed.wire.manifest import decode_manifest

pytestmark = pytest.mark.integration

SYMBOLS = 40
PARTITIONS = 4


class Process:
    """A service as a child process, with its health server."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, http: aiohttp.ClientSession, url: str) -> None:
        self.process = process
        self.log = log
        self.http = http
        self.url = url

    async def text(self, path: str) -> str:
        async with self.http.get(self.url + path) as answer:
            return await answer.text()

    async def get(self, path: str) -> Any:
        return json.loads(await self.text(path))

    async def status(self) -> Any:
        return await self.get("/status")

    async def until(self, condition: Callable[[Any], object], timeout_s: float = 30.0) -> Any:
        """Wait until /status fulfils the condition."""
        async with asyncio.timeout(timeout_s):
            while not condition(status := await self.status()):
                assert self.process.returncode is None, self.log.read_text()[-2000:]
                await asyncio.sleep(0.05)
        return status

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(25):
            return await self.process.wait()


class Bench:
    """Starts services in a folder and ends them all."""

    def __init__(self, folder: Path, http: aiohttp.ClientSession) -> None:
        self._folder = folder
        self._http = http
        self._started: list[Process] = []

    async def start(self, module: str, **settings: object) -> Process:
        name = f"{module}-{len(self._started)}"
        port_file, log = self._folder / f"{name}.port", self._folder / f"{name}.log"
        flags = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("MARKETFEED_")}
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", f"marketfeed.{module}", *flags,
                stdout=output, stderr=output, env={**clean, "MARKETFEED_PORT_FILE": str(port_file)},
            )  # fmt: skip
        started = Process(process, log, self._http, "")
        self._started.append(started)
        async with asyncio.timeout(30):
            while not port_file.exists():
                assert process.returncode is None, log.read_text()[-2000:]
                await asyncio.sleep(0.02)
        started.url = f"http://127.0.0.1:{port_file.read_text()}"
        return started

    async def generator(self, **settings: object) -> Process:
        return await self.start("generator", symbols=SYMBOLS, **settings)

    async def ingest(self, generator: Process, kafka: str, feed: str, **settings: object) -> Process:
        url = (await generator.until(lambda status: status.get("url")))["url"]
        async with self._http.get(url.replace("ws:", "http:") + "/symbols") as answer:
            symbols = (await answer.json())["symbols"]
        given = {
            "feed": feed,
            "kafka": kafka,
            "partitions": PARTITIONS,
            "source": "generator",
            "finnhub_url": url,
            "finnhub_api_key": "k",
            "symbols": ",".join(symbols),
            "spool_dir": self._folder / "spool",
        }
        return await self.start("ingest", **{**given, **settings})

    async def stop_market(self, generator: Process) -> Manifest:
        """No more trades; returns what was sent."""
        url = (await generator.status())["url"].replace("ws:", "http:")
        async with self._http.post(url + "/stop") as answer:
            assert answer.status == 200
        async with self._http.get(url + "/manifest/bars") as answer:
            return decode_manifest(await answer.read())

    async def now_s(self, generator: Process) -> float:
        url = (await generator.status())["url"].replace("ws:", "http:")
        async with self._http.get(url + "/fault") as answer:
            return float((await answer.json())["now_s"])

    async def fault(self, generator: Process, **fault: object) -> None:
        url = (await generator.status())["url"].replace("ws:", "http:")
        async with self._http.post(url + "/fault", data=json.dumps(fault)) as answer:
            assert answer.status == 200, await answer.text()

    async def close(self) -> None:
        for one in self._started:
            if one.process.returncode is None:
                one.process.kill()
                await one.process.wait()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as http:
        bench = Bench(tmp_path, http)
        try:
            yield bench
        finally:
            await bench.close()


async def rebuilt_log(kafka: str, feed: str) -> Rebuilt:
    consumer = LogConsumer(kafka, trades_topic(feed))
    try:
        ends = await consumer.end_offsets()
        await consumer.assign(dict.fromkeys(ends, 0))
        assert consumer.topic_id is not None
        rebuilt = Rebuilt(SymbolTable(), ends)
        await read_log(consumer, rebuilt, Position(consumer.topic_id, ends), {}, 20.0)
        return rebuilt
    finally:
        await consumer.close()


def compared(manifest: Manifest, rebuilt: Rebuilt) -> Comparison:
    bars = rebuilt.bars()
    kept = seconds_of_bars(bars, rebuilt.rows(bars))
    return compare_seconds("log", seconds_of_manifest(manifest, rebuilt.symbols), kept, rebuilt.gaps)


def assert_equal(manifest: Manifest, rebuilt: Rebuilt) -> Comparison:
    found = compared(manifest, rebuilt)
    told = [(gap.reason, gap.partition, gap.from_ts, gap.to_ts, len(gap.symbol_id)) for gap in rebuilt.gaps]
    assert (found.missing, found.double, found.different) == (0, 0, 0), (found, told)
    assert found.cells > 100
    return found


async def all_logged(ingest: Process, manifest: Manifest) -> Any:
    """What the last connection was sent has been received, and everything is acknowledged."""
    sent = manifest.connections[-1].trades

    def settled(status: Any) -> bool:
        trades = status["trades"]
        waiting = trades["unacknowledged"] + trades["buffered"] + status["spool"]["records"]
        return trades["received"] >= sent and not waiting and status["phase"] == "live"

    return await ingest.until(settled)


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
        generator = await bench.generator(rate=20_000)
        ingest = await bench.ingest(generator, kafka, feed, memory_mb=0.2)
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
