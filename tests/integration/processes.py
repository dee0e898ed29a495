"""Services as child processes on real servers, and what the log holds compared with what the generator sent."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from marketfeed.adapters.kafka import LogConsumer, trades_topic
from marketfeed.domain.manifest import Manifest
from marketfeed.domain.position import Position
from marketfeed.domain.trades import SymbolTable
from marketfeed.verify.comparison import Comparison, compare_seconds, seconds_of_bars, seconds_of_manifest
from marketfeed.verify.readings import read_log
from marketfeed.verify.tape import Rebuilt
from marketfeed.wire.manifest import decode_manifest

SYMBOLS = 40
PARTITIONS = 4


class Process:
    """A service as a child process, with its health server."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, http: aiohttp.ClientSession, url: str) -> None:
        self.process = process
        self.log = log
        self.http = http
        self.url = url
        self.member = 0

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

    async def symbols(self, generator: Process) -> list[str]:
        """The names in the market."""
        url = (await generator.until(lambda status: status.get("url")))["url"]
        async with self._http.get(url.replace("ws:", "http:") + "/symbols") as answer:
            return list((await answer.json())["symbols"])

    async def ingest(self, generator: Process, kafka: str, feed: str, **settings: object) -> Process:
        symbols = await self.symbols(generator)
        url = (await generator.status())["url"]
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
        started = await self.start("ingest", **{**given, **settings})
        started.member = int(str(settings.get("member", 0)))
        return started

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
