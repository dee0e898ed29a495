"""mds on real servers: what clients hold is the log's bars, whenever they joined and whatever was away meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from marketfeed.adapters.kafka import LogAdmin, LogProducer, trades_topic
from marketfeed.adapters.postgres import PostgresStore
from marketfeed.adapters.postgres.span import read_span
from marketfeed.adapters.postgres.start import StartState, read_start
from marketfeed.client.stream import Stream
from marketfeed.domain.bar_window import BarWindow
from marketfeed.domain.bars import OPEN, BarColumns
from marketfeed.domain.log import Body, Logged, Takeover, TradesRecord, Watermark
from marketfeed.domain.ownership import PartitionReader
from marketfeed.domain.partitions import partition_of
from marketfeed.domain.trades import NANOS, SymbolTable, TradeColumns
from marketfeed.runtime.tasks import TaskKit
from marketfeed.wire.records import KIND_HEADER, encode_body
from marketfeed.wire.websocket import BarOut, Bars, Drain, Heartbeat, QuoteOut, Snapshot, bars_of

if TYPE_CHECKING:
    from marketfeed.local.stack import Addresses

pytestmark = pytest.mark.integration

PARTITIONS = 3
EPOCH = 5
T0_S = 1_790_000_000
NAMES = [f"S{n}" for n in range(6)]

Row = tuple[Any, ...]
Table = dict[int, Row]


class Tape:
    """Writes a log like an ingest would, and keeps what it wrote for the reducer."""

    def __init__(self, bootstrap: str, feed: str, seed: int) -> None:
        self.feed = feed
        self.rng = np.random.default_rng(seed)
        self.records: list[list[Body]] = [[] for _ in range(PARTITIONS)]
        self._seq = [0] * PARTITIONS
        self._bootstrap = bootstrap
        self._producer = LogProducer(bootstrap)

    async def begin(self) -> None:
        """Make the topics and own every symbol."""
        await LogAdmin(self._bootstrap).ensure_topics(self.feed, PARTITIONS, 1 << 28, 3_600_000)
        self.own(EPOCH)

    def own(self, epoch: int) -> None:
        for partition in range(PARTITIONS):
            mine = tuple(n for n in NAMES if partition_of(n, PARTITIONS) == partition)
            self.send(partition, Takeover(epoch, mine))

    def send(self, partition: int, body: Body) -> None:
        self.records[partition].append(body)
        kind, value = encode_body(body)
        self._producer.send(trades_topic(self.feed), partition, value, {KIND_HEADER: kind})

    def trade(self, at_s: list[float]) -> None:
        """A trade at each of these seconds after T0, of a random symbol."""
        for at in at_s:
            name = NAMES[int(self.rng.integers(len(NAMES)))]
            partition = partition_of(name, PARTITIONS)
            ts = T0_S * NANOS + int(at * 1000) * 1_000_000
            trades = TradeColumns(
                (name,), np.zeros(1, np.uint32), np.array([ts]), np.round(self.rng.uniform(10, 90, 1), 2),
                np.round(self.rng.uniform(0, 9, 1), 1), (None,), np.zeros(1, np.uint32),
            )  # fmt: skip
            self.send(partition, TradesRecord(EPOCH, self._seq[partition], ts, trades))
            self._seq[partition] += 1

    def watermark(self, at_s: float) -> None:
        for partition in range(PARTITIONS):
            self.send(partition, Watermark((EPOCH,), int((T0_S + at_s) * NANOS)))

    async def play(self, from_s: int, to_s: int, wall_s: float, late_s: float = 40.0) -> None:
        """Seconds of trading in `wall_s` of real time, some of it late, watermarks half a second behind."""
        steps = (to_s - from_s) * 5
        for step in range(steps):
            now = from_s + step / 5
            at = self.rng.uniform(now, now + 0.2, 6).tolist()
            late = self.rng.uniform(max(0.0, now - late_s), now, 1).tolist() if step % 3 == 0 else []
            self.trade(sorted(at) + late)
            self.watermark(now - 0.5)
            self._producer.poll()
            await asyncio.sleep(wall_s / steps)
        self.watermark(to_s)
        await self._producer.flush(20)

    async def close(self) -> None:
        await self._producer.close()

    def bars(self, upto: Mapping[int, int] | None = None) -> dict[str, BarColumns]:
        """The bars of each symbol by the reducer alone, in one go, of the records below these offsets."""
        symbols, window = SymbolTable(), BarWindow(keep_s=10**9)
        for partition, bodies in enumerate(self.records):
            logged = [Logged(partition, offset, 1, body) for offset, body in enumerate(bodies)]
            window.apply(PartitionReader(partition, symbols).read(logged[: upto[partition] if upto else None]))
        return {name: window.held(symbols.id(name)) for name in NAMES}

    def tables(self) -> dict[str, Table]:
        """The same as a client shows them."""
        return {name: rows_of(bars_of(bars)) for name, bars in self.bars().items()}


def rows_of(bars: Bars) -> Table:
    columns = [getattr(bars, name) for name in Bars.__struct_fields__]
    return {row[0]: row[1:] for row in zip(*columns, strict=True)}


@dataclass
class View:
    """What one client holds after reading the messages as docs/websocket.md says."""

    bars: dict[str, Table] = field(default_factory=dict)
    quotes: dict[str, float] = field(default_factory=dict)
    snapshots: list[Snapshot] = field(default_factory=list)
    others: list[object] = field(default_factory=list)

    def take(self, message: object) -> None:
        match message:
            case Snapshot():
                self.snapshots.append(message)
                assert message.bars is not None
                if message.part == 0:
                    self.bars[message.symbol] = {}
                self.bars[message.symbol] |= rows_of(message.bars)
                if message.quote is not None:
                    self.quotes[message.symbol] = message.quote.price
            case BarOut():
                assert message.symbol in self.bars, "a bar before the snapshot"
                self.bars[message.symbol] |= rows_of(message.bars)
            case QuoteOut():
                self.quotes[message.symbol] = message.price
            case _:
                self.others.append(message)


async def watch(url: str, view: View, delay_s: float = 0.0, **options: Any) -> None:
    await asyncio.sleep(delay_s)
    async for message in Stream(url, NAMES, from_s=T0_S, **options).messages():
        view.take(message)


async def until(condition: Callable[[], bool | Awaitable[bool]], what: Callable[[], object], within_s: float) -> None:
    """Wait for a condition, or fail with what is there instead."""
    try:
        async with asyncio.timeout(within_s):
            while True:
                met = condition()
                if met if isinstance(met, bool) else await met:
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"{what()}")


def difference(tables: dict[str, Table], view: View) -> list[object]:
    """The first few bars that differ."""
    return [
        (name, start - T0_S, view.bars.get(name, {}).get(start), table.get(start))
        for name, table in tables.items()
        for start in sorted(table.keys() | view.bars.get(name, {}).keys())
        if view.bars.get(name, {}).get(start) != table.get(start)
    ][:5]


async def agree(tables: dict[str, Table], views: list[View], within_s: float = 20) -> None:
    """Wait until every client holds exactly these bars."""
    await until(
        lambda: not any(difference(tables, view) for view in views),
        lambda: [difference(tables, view) for view in views],
        within_s,
    )


class Process:
    """A service of ours as a process."""

    def __init__(self, module: str, settings: dict[str, object], folder: Path) -> None:
        self.module = module
        self._port_file = folder / f"{module}.port"
        self._log = folder / f"{module}.log"
        self._env = {
            **os.environ,
            **{f"MARKETFEED_{name.upper()}": str(value) for name, value in settings.items()},
            "MARKETFEED_PORT_FILE": str(self._port_file),
            "MARKETFEED_LOG_FORMAT": "json",
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._port_file.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", f"marketfeed.{self.module}", env=self._env, stdout=log, stderr=log
            )

    async def get(self, path: str) -> dict[str, Any] | None:
        """A page of its health server, None while there is none."""
        try:
            port = int(self._port_file.read_text())
            async with aiohttp.request("GET", f"http://127.0.0.1:{port}{path}") as answer:
                found: dict[str, Any] = await answer.json()
                return found
        except (OSError, ValueError, aiohttp.ClientError):
            return None

    async def ready(self) -> dict[str, Any]:
        """Its /status once it is ready."""
        status: dict[str, Any] = {}

        async def is_ready() -> bool:
            status.update(await self.get("/status") or {})
            return bool(status.get("ready"))

        await until(is_ready, lambda: (status, self._log.read_text()[-3000:]), 20)
        return status

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit code."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        async with asyncio.timeout(20):
            return await self._process.wait()


@asynccontextmanager
async def service(module: str, settings: dict[str, object], folder: Path) -> AsyncIterator[Process]:
    process = Process(module, settings, folder)
    await process.start()
    try:
        yield process
    finally:
        await process.stop(signal.SIGKILL)


@pytest.fixture
async def common(stack: Addresses, feed: str) -> dict[str, object]:
    """Settings that both services share; the tables are there."""
    await PostgresStore(stack.postgres).migrate()
    return {"feed": feed, "kafka": stack.kafka, "redis": stack.redis, "postgres": stack.postgres}


@pytest.fixture
async def tape(stack: Addresses, feed: str) -> AsyncIterator[Tape]:
    written = Tape(stack.kafka, feed, seed=11)
    await written.begin()
    yield written
    await written.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def mds_settings(common: dict[str, object], **more: object) -> dict[str, object]:
    return {**common, "public_port": 0, "window_s": 5, "evict_after_s": 8, "open": "yes", **more}


def stream_url(status: dict[str, Any]) -> str:
    return str(status["public_url"]).replace("http", "ws", 1) + "/v1/stream"


async def test_clients_that_join_at_any_time_hold_the_reducer_s_bars(
    common: dict[str, object], tape: Tape, tmp_path: Path
) -> None:
    """History and live, bars that have left the memory and late trades for them: all the same."""
    async with (
        service("recorder", common, tmp_path) as recorder,
        service("mds", mds_settings(common), tmp_path) as mds,
    ):
        await recorder.ready()
        url = stream_url(await mds.ready())
        views = [View() for _ in range(8)]
        async with TaskKit("clients") as tasks:
            clients = [
                tasks.spawn(f"c{i}", watch(url, view, 1.8 * i, interval_ms=50 + 150 * (i % 3)))
                for i, view in enumerate(views)
            ]
            await tape.play(0, 60, wall_s=13)
            expected = tape.tables()
            await agree(expected, views)
            for client in clients:
                client.cancel()
        status = await mds.get("/status")
        assert status is not None
        sources = {snapshot.source for view in views for snapshot in view.snapshots}
        assert sources == {"store"}
        assert not any(snapshot.incomplete for view in views for snapshot in view.snapshots)
        held = sum(len(table) for table in expected.values())
        assert status["bars"] < held, "nothing ever left the memory: the joint was not tried"
        assert any(isinstance(message, Heartbeat) for message in views[0].others)


async def test_without_postgresql_a_client_gets_memory_and_then_the_truth(
    common: dict[str, object], tape: Tape, tmp_path: Path
) -> None:
    """PostgreSQL away from the start: nobody waits, the log alone serves; the API says what is missing."""
    nowhere = {**common, "postgres": "postgresql://postgres@127.0.0.1:9/none"}
    async with service("mds", mds_settings(nowhere), tmp_path) as mds:
        status = await mds.ready()
        view = View()
        async with TaskKit("clients") as tasks:
            client = tasks.spawn("c", watch(stream_url(status), view))
            await tape.play(0, 10, wall_s=2)
            await agree(tape.tables(), [view])
            client.cancel()
        assert {snapshot.source for snapshot in view.snapshots} == {"memory"}
        assert not any(snapshot.incomplete for snapshot in view.snapshots), "the log was read from its first record"
        async with aiohttp.ClientSession(status["public_url"]) as http:
            async with http.get(f"/v1/bars?symbol={NAMES[0]}&from={T0_S}&to={T0_S + 60}") as answer:
                body = await answer.json()
                assert (answer.status, body["source"]) == (200, "memory")
                assert dict(zip(body["bars"]["start"], body["bars"]["close"], strict=True)) == {
                    start: row[3] for start, row in tape.tables()[NAMES[0]].items()
                }
            async with http.get(f"/v1/bars?symbol={NAMES[0]}&interval=1h") as answer:
                assert (answer.status, (await answer.json())["error"]["code"]) == (503, "unavailable")


async def test_a_killed_mds_comes_back_and_the_clients_with_it(
    common: dict[str, object], tape: Tape, tmp_path: Path
) -> None:
    """kill -9 in the middle: it begins at the store's checkpoint, clients reconnect and hold the same bars; SIGTERM
    drains."""
    with_port = mds_settings(common, public_port=free_port())
    async with service("recorder", common, tmp_path) as recorder, service("mds", with_port, tmp_path) as mds:
        await recorder.ready()
        url = stream_url(await mds.ready())
        view = View()
        async with TaskKit("clients") as tasks:
            client = tasks.spawn("c", watch(url, view))
            await tape.play(0, 10, wall_s=3)
            await mds.stop(signal.SIGKILL)
            await tape.play(10, 15, wall_s=1)
            await mds.start()
            await mds.ready()
            await tape.play(15, 20, wall_s=1)
            await agree(tape.tables(), [view])
            quote = {name: table[max(table)][3] for name, table in tape.tables().items()}
            assert view.quotes == quote
            assert await mds.stop() == 0
            await until(lambda: any(isinstance(m, Drain) for m in view.others), lambda: view.others[-3:], 5)
            client.cancel()
        log = (tmp_path / "mds.log").read_text()
        assert "beginning at the store's checkpoint" in log


async def test_http_answers_join_history_and_live(common: dict[str, object], tape: Tape, tmp_path: Path) -> None:
    """Every endpoint, every interval: sums over minutes equal sums over seconds; refusals have codes."""
    async with (
        service("recorder", {**common, "rollup_interval_s": 0.5, "rollup_coarse_interval_s": 1}, tmp_path) as recorder,
        service("mds", mds_settings(common), tmp_path) as mds,
    ):
        await recorder.ready()
        status = await mds.ready()
        await tape.play(0, 150, wall_s=3)
        table = tape.tables()[NAMES[1]]
        async with aiohttp.ClientSession(status["public_url"]) as http:

            async def get(path: str) -> tuple[int, dict[str, Any]]:
                async with http.get(path) as answer:
                    return answer.status, await answer.json()

            async def whole() -> bool:
                _, body = await get(f"/v1/bars?symbol={NAMES[1]}&from={T0_S}")
                return dict(zip(body["bars"]["start"], body["bars"]["trades"], strict=True)) == {
                    start: row[5] for start, row in table.items()
                }

            await until(whole, lambda: "seconds differ", 15)
            for interval in ("1m", "1h", "1d"):
                _, body = await get(f"/v1/bars?symbol={NAMES[1]}&interval={interval}&from=0&to={T0_S + 1000}")
                assert sum(body["bars"]["trades"]) == sum(row[5] for row in table.values()), interval
                assert sum(body["bars"]["volume"]) == pytest.approx(sum(row[4] for row in table.values()))
                assert body["bars"]["close"][-1] == table[max(table)][3]
            _, filled = await get(f"/v1/bars?symbol={NAMES[1]}&from={T0_S}&to={T0_S + 120}&fill=prev")
            starts = filled["bars"]["start"]
            assert starts == list(range(starts[0], T0_S + 120))
            assert sum(filled["bars"]["filled"]) == len(starts) - len([s for s in table if s < T0_S + 120])
            _, cut = await get(f"/v1/bars?symbol={NAMES[1]}&from={T0_S}&limit=10")
            assert cut["bars"]["start"] == sorted(table)[:10]
            _, rest = await get(f"/v1/bars?symbol={NAMES[1]}&from={cut['next_from']}")
            assert rest["bars"]["start"] == sorted(table)[10:]
            assert rest["next_from"] is None
            _, quote = await get(f"/v1/quote?symbol={NAMES[1]}")
            assert (quote["price"], quote["symbol"]) == (table[max(table)][3], NAMES[1])
            assert quote["day"]["trades"] == sum(row[5] for row in table.values())
            _, listed = await get("/v1/symbols")
            assert [entry["symbol"] for entry in listed["symbols"]] == NAMES
            _, found = await get("/v1/symbols?q=s3")
            assert [entry["symbol"] for entry in found["symbols"]] == ["S3"]
            _, config = await get("/v1/config")
            assert (config["feed"], config["calendar"], config["trade_date"]) == (tape.feed, "24x7", "2026-09-21")
            _, document = await get("/openapi.json")
            assert set(document["paths"]) == {"/v1/symbols", "/v1/quote", "/v1/bars", "/v1/config"}
            for path, code, number in (
                ("/v1/quote", "bad_request", 400),
                ("/v1/quote?symbol=NOPE", "unknown_symbol", 404),
                (f"/v1/bars?symbol={NAMES[1]}&from=x", "bad_request", 400),
                (f"/v1/bars?symbol={NAMES[1]}&interval=2s", "bad_request", 400),
                (f"/v1/bars?symbol={NAMES[1]}&limit=0", "bad_request", 400),
                ("/v1/config?date=today", "bad_request", 400),
                ("/v1/nothing", "not_found", 404),
            ):
                answer = await get(path)
                assert (answer[0], answer[1]["error"]["code"]) == (number, code), path


SHOWN = ("start_s", "open", "close", "trades", "late", "changed_offset")


def check_start(start: StartState, truth: dict[str, BarColumns]) -> None:
    """Seconds from `held_from_s` on, days and watermarks are the reducer's at the same position."""
    ids = {name: symbol_id for symbol_id, name in start.symbols}
    for name, bars in truth.items():
        if not len(bars):
            continue
        mine = start.seconds.take(start.seconds.symbol_id == ids[name])
        stored = {row[0]: row[1:] for row in zip(*(getattr(mine, column).tolist() for column in SHOWN), strict=True)}
        wanted = bars.take((bars.start_s >= start.held_from_s) | (bars.state == OPEN))
        for row in zip(*(getattr(wanted, column).tolist() for column in SHOWN), strict=True):
            assert stored[row[0]] == row[1:]
        day = start.days.take(start.days.symbol_id == ids[name])
        assert day.trades.tolist() == [bars.trades.sum()]
        assert day.high.tolist() == [bars.high.max()]
        assert (day.open.tolist(), day.close.tolist()) == ([bars.open[0]], [bars.close[-1]])
        assert [v / 10**s for v, s in zip(day.volume, day.size_scale, strict=True)] == [
            pytest.approx(sum(v / 10**s for v, s in zip(bars.volume, bars.size_scale, strict=True)))
        ]


async def test_a_start_read_while_the_recorder_writes_is_of_one_position(
    common: dict[str, object], stack: Addresses, tape: Tape, tmp_path: Path
) -> None:
    """Window, owners, days: all as of the checkpoint beside them, though roll-ups lag and late trades come."""
    store = PostgresStore(stack.postgres)
    await store.open()
    try:
        assert (await read_start(store, tape.feed, 5)).symbols == ()
        settings = {**common, "rollup_interval_s": 0.7, "rollup_coarse_interval_s": 1.1}
        async with service("recorder", settings, tmp_path) as recorder, TaskKit("tape") as tasks:
            await recorder.ready()
            playing = tasks.spawn("play", tape.play(0, 200, wall_s=6, late_s=100))
            checked = 0
            while not playing.done():
                start = await read_start(store, tape.feed, 5)
                if start.state.position.offsets:
                    check_start(start, tape.bars(start.state.position.offsets))
                    checked += 1
                await asyncio.sleep(0.3)
            assert checked > 5
            position, first = await read_span(store, tape.feed, NAMES[0], 1, T0_S, T0_S + 100, 7)
            assert position is not None
            assert len(first) == 7
    finally:
        await store.close()


async def test_grpc_health_follows_readiness_and_turns_first(
    common: dict[str, object], tape: Tape, tmp_path: Path
) -> None:
    """SERVING once the log is followed; after SIGTERM a watcher hears NOT_SERVING while the server still answers."""
    async with service("mds", mds_settings(common, grpc_port=0), tmp_path) as mds:
        status = await mds.ready()
        async with grpc.aio.insecure_channel(status["grpc"]) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            watch = stub.Watch(health_pb2.HealthCheckRequest(service="marketfeed.v1.MarketData"), timeout=20)
            while (await watch.read()).status != health_pb2.HealthCheckResponse.SERVING:
                pass
            async with asyncio.TaskGroup() as group:
                ended = group.create_task(mds.stop())
                assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
                assert not ended.done()
        assert ended.result() == 0
