"""`/v1/stream` on real servers: every trade, bars of every kind, and going on where one was."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import numpy as np
import pytest
from tests.integration.test_market_data import Trade, flood, logged_trades
from tests.integration.test_mds import (  # common and tape are fixtures
    NAMES,
    T0_S,
    Process,
    Tape,
    View,
    agree,
    common,
    difference,
    free_port,
    mds_settings,
    rows_of,
    service,
    stream_url,
    tape,
    until,
)

from marketfeed.client.stream import Reconnected, Stream
from marketfeed.domain.position import Position
from marketfeed.domain.rollup import roll_up
from marketfeed.domain.sessions import calendar
from marketfeed.domain.trades import NANOS
from marketfeed.runtime.tasks import TaskKit
from marketfeed.wire.websocket import (
    BarOut,
    CaughtUp,
    Drain,
    Heartbeat,
    IntervalOut,
    ResumedOut,
    Snapshot,
    TradesOut,
    bars_of,
)

pytestmark = pytest.mark.integration
__all__ = ["common", "tape"]

SYMBOL = NAMES[1]
T = TypeVar("T")
Minutes = dict[str, dict[int, tuple[Any, ...]]]


@dataclass
class Reader(View):
    """A view that keeps trades, and what was said of resumes, too."""

    trades: list[Trade] = field(default_factory=list)
    minutes: Minutes = field(default_factory=dict)

    def take(self, message: object) -> None:
        match message:
            case TradesOut():
                rows = zip(message.offset, message.index, message.price, strict=True)
                self.trades += [(message.partition, o, i, message.symbol, p) for o, i, p in rows]
            case Snapshot() if message.bars_1m is not None:
                self.minutes[message.symbol] = rows_of(message.bars_1m)
                if message.bars is not None:
                    super().take(message)
            case Snapshot(bars=None):
                self.snapshots.append(message)
            case BarOut(interval="1m"):
                self.minutes[message.symbol] |= rows_of(message.bars)
            case _:
                super().take(message)

    def heard(self, kind: type[T]) -> list[T]:
        return [message for message in self.others if isinstance(message, kind)]

    def of(self, symbol: str) -> list[Trade]:
        return [trade for trade in self.trades if trade[3] == symbol]


async def read(stream: Stream, reader: Reader) -> None:
    async for message in stream.messages():
        reader.take(message)


@asynccontextmanager
async def serving(common: dict[str, object], folder: Path, **more: object) -> AsyncIterator[tuple[Process, str]]:
    """A recorder and an mds, and the stream's address."""
    settings = mds_settings(common, public_port=free_port(), **more)
    async with service("recorder", common, folder) as recorder, service("mds", settings, folder) as mds:
        await recorder.ready()
        yield mds, stream_url(await mds.ready())


def by_symbol(trades: Sequence[Trade]) -> dict[str, list[Trade]]:
    return {name: [trade for trade in trades if trade[3] == name] for name in NAMES}


async def test_every_trade_and_every_bar_come_through_a_kill(
    common: dict[str, object], tape: Tape, tmp_path: Path
) -> None:
    """kill -9 in the middle: clients resume, get what they missed and nothing twice, and end with the log's trades."""
    async with serving(common, tmp_path) as (mds, url):
        whole, tape_only, settled = Reader(), Reader(), Reader()
        streams = {
            "whole": (Stream(url, NAMES, channels=["quotes", "bars_1s", "trades"], from_s=T0_S), whole),
            "tape": (Stream(url, ["*"], channels=["trades"], interval_ms=200), tape_only),
            "settled": (Stream(url, NAMES, channels=["bars_1s"], emission="settled", from_s=T0_S), settled),
        }
        async with TaskKit("clients") as tasks:
            clients = [tasks.spawn(name, read(*pair)) for name, pair in streams.items()]
            await until(lambda: all(pair[0].position for pair in streams.values()), lambda: "no position", 10)
            await tape.play(0, 10, wall_s=2)
            await until(lambda: len(whole.trades) == len(logged_trades(tape)), lambda: len(whole.trades), 10)
            await mds.stop(signal.SIGKILL)
            await tape.play(10, 20, wall_s=2)
            await mds.start()
            await tape.play(20, 30, wall_s=2)
            await agree(tape.tables(), [whole])
            expected = by_symbol(logged_trades(tape))
            for reader in (whole, tape_only):
                await until(
                    lambda reader=reader: by_symbol(reader.trades) == expected,
                    lambda reader=reader: (len(reader.trades), len(logged_trades(tape)), reader.heard(ResumedOut)),
                    15,
                )
            closed = closed_only(tape.tables())
            await until(lambda: not difference(closed, settled), lambda: difference(closed, settled), 10)
            readers = (whole, tape_only, settled)
            await until(lambda: all(r.heard(CaughtUp) for r in readers), lambda: [r.others[-5:] for r in readers], 10)
            for client in clients:
                client.cancel()
        for reader in readers:
            assert [resumed.recovered for resumed in reader.heard(ResumedOut)] == [True]
            assert len(reader.heard(CaughtUp)) == 1
            assert len(reader.heard(Reconnected)) == 1
        assert len(whole.snapshots) == len(NAMES), "a resume needs no snapshot"


async def test_bars_of_a_minute_are_the_history_s(common: dict[str, object], tape: Tape, tmp_path: Path) -> None:
    """Fast and settled, joined at any time, resumed, with late trades for minutes that have left the memory."""
    async with serving(common, tmp_path) as (mds, url):
        readers = {"early": Reader(), "late": Reader(), "settled": Reader()}

        def stream(**options: Any) -> Stream:
            return Stream(url, NAMES, channels=["bars_1m"], from_s=T0_S, **options)

        async with TaskKit("clients") as tasks:
            clients = [
                tasks.spawn("early", read(stream(), readers["early"])),
                tasks.spawn("settled", read(stream(emission="settled"), readers["settled"])),
            ]
            await tape.play(0, 130, wall_s=4, late_s=100)
            clients.append(tasks.spawn("late", read(stream(interval_ms=400), readers["late"])))
            await tape.play(130, 200, wall_s=2, late_s=150)
            await mds.stop(signal.SIGKILL)
            await tape.play(200, 220, wall_s=1, late_s=150)
            await mds.start()
            await tape.play(220, 320, wall_s=3, late_s=200)
            expected = minutes_of(tape)
            for name, reader in readers.items():
                wanted = expected if name != "settled" else closed_only(expected)
                await until(lambda r=reader, w=wanted: r.minutes == w, lambda r=reader, w=wanted: odd(r.minutes, w), 20)
            for client in clients:
                client.cancel()
        assert any(row[7] for table in expected.values() for row in table.values()), "no revision: nothing was late"


async def test_a_position_out_of_reach_is_not_recovered_in_part(
    common: dict[str, object], tape: Tape, tmp_path: Path
) -> None:
    """Of another log, or before what the ring can hold: snapshots, trades from now on, nothing of what was missed."""
    async with serving(common, tmp_path, tape_bytes_max=20_000) as (_, url), aiohttp.ClientSession() as http:
        async with http.ws_connect(url) as socket:
            await say(socket, type="subscribe", symbols=NAMES, channels=["trades"], wait=True)
            begin = (await hear(socket, "heartbeat", lambda m: m["position"]))["position"]
        await tape.play(0, 30, wall_s=2)
        for position in (begin, begin.replace(begin.split("@")[0], "another-log")):
            async with http.ws_connect(url) as socket:
                channels = ["bars_1s", "trades"]
                await say(socket, type="resume", id=7, symbols=NAMES, channels=channels, position=position)
                resumed = await hear(socket, "resumed")
                assert (resumed["id"], resumed["recovered"]) == (7, False)
                assert resumed["position"] != position
                heard: list[Any] = []
                while {m["symbol"] for m in heard if m["type"] == "snapshot"} != set(NAMES):
                    heard.append(await hear(socket))
                begins = Position.parse(resumed["position"]).offsets
                trades = [message for message in heard if message["type"] == "trades"]
                assert all(min(message["offset"]) >= begins[message["partition"]] for message in trades)
        async with http.ws_connect(url) as socket:
            for message, code in (
                ({"type": "resume", "symbols": ["S0"], "position": "nonsense"}, "bad_position"),
                ({"type": "subscribe", "symbols": ["S0"], "channels": ["trades"]}, None),
                ({"type": "resume", "symbols": ["S0"], "position": begin}, "resume_late"),
                ({"type": "resume", "symbols": ["S1"], "channels": ["trades"], "position": begin}, "resume_late"),
            ):
                await say(socket, **message)
                if code is not None:
                    assert (await hear(socket, "error"))["code"] == code


async def test_a_reader_that_stops_is_ended_with_a_reason_and_harms_nobody(
    common: dict[str, object], tape: Tape, tmp_path: Path
) -> None:
    """The tape is never thinned: who falls out of the ring is closed with 4006 when it reads again."""
    settings = {"tape_bytes_max": 8_000_000, "stall_s": 60}
    async with serving(common, tmp_path, **settings) as (mds, url), aiohttp.ClientSession() as http:
        other = Reader()
        async with TaskKit("clients") as tasks:
            task = tasks.spawn("other", read(Stream(url, ["*"], channels=["trades"]), other))
            await until(lambda: bool(other.heard(Heartbeat)), lambda: "no stream", 10)
            slow = await http.ws_connect(url, max_msg_size=0)
            await say(slow, type="subscribe", symbols=["*"], channels=["trades"])
            await hear(slow, "subscribed")
            await flood(tape, 4_000)
            expected = len(logged_trades(tape))
            await until(lambda: len(other.trades) == expected, lambda: (len(other.trades), expected), 30)
            assert await end_of(slow) == 4006
            task.cancel()
        assert [type(m) for m in other.others if isinstance(m, Reconnected)] == []
        status = await mds.get("/status")
        assert status is not None
        assert status["ready"]


async def test_a_client_that_only_shouts_is_stopped_and_costs_little(
    common: dict[str, object], tape: Tape, tmp_path: Path
) -> None:
    """It reads no answer, so nothing more is read of it, and it is ended; memory stays, and others hear on time."""
    loud = {"messages_per_s": 1_000_000, "stall_s": 3}
    async with serving(common, tmp_path, **loud) as (mds, url), aiohttp.ClientSession() as http:
        await tape.play(0, 2, wall_s=0.3)
        other = Reader()
        async with TaskKit("clients") as tasks:
            task = tasks.spawn("other", read(Stream(url, NAMES, channels=["quotes"]), other))
            await until(lambda: bool(other.heard(Heartbeat)), lambda: "no stream", 10)
            before = resident_bytes(mds)
            message = json.dumps({"type": "subscribe", "symbols": [f"{n:060}" for n in range(200)]})
            shouter = await http.ws_connect(url)
            sent = 0
            with suppress(ConnectionError, aiohttp.ClientError, TimeoutError):
                async with asyncio.timeout(15):
                    while not shouter.closed:
                        await shouter.send_str(message)
                        sent += len(message)

            async def is_gone() -> bool:
                status = await mds.get("/status")
                return status is not None and status["clients"] == 1

            await until(is_gone, lambda: sent, 20)
            await shouter.close()
            beats = [int(beat.server_ts) for beat in other.heard(Heartbeat)]
            task.cancel()
        assert max(np.diff(beats)) < 3 * NANOS
        assert resident_bytes(mds) - before < 48 << 20, sent
        assert not other.heard(Reconnected)


def resident_bytes(process: Process) -> int:
    """Memory that a process really has."""
    assert process._process is not None
    status = Path(f"/proc/{process._process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


async def test_the_interval_changes_at_run_time_and_a_drain_says_where_to_go_on(
    common: dict[str, object], tape: Tape, tmp_path: Path
) -> None:
    """`set` is answered with what is in force; after SIGTERM the drain's token leads on without a hole."""
    async with serving(common, tmp_path) as (mds, url):
        reader = Reader()
        stream = Stream(url, NAMES, channels=["quotes", "trades"])
        async with TaskKit("clients") as tasks:
            client = tasks.spawn("c", read(stream, reader))
            await until(lambda: bool(reader.heard(Heartbeat)), lambda: "no heartbeat", 10)
            await stream.set_interval(333)
            await until(lambda: bool(reader.heard(IntervalOut)), lambda: reader.others[-3:], 5)
            assert [told.interval_ms for told in reader.heard(IntervalOut)] == [350]
            await tape.play(0, 5, wall_s=1)
            playing = tasks.spawn("play", tape.play(5, 20, wall_s=3))
            await asyncio.sleep(0.5)
            assert await mds.stop() == 0
            await until(lambda: bool(reader.heard(Drain)), lambda: reader.others[-3:], 5)
            assert reader.heard(Drain)[0].position == stream.position
            await mds.start()
            await playing
            expected = by_symbol(logged_trades(tape))
            await until(lambda: by_symbol(reader.trades) == expected, lambda: len(reader.trades), 20)
            client.cancel()
        resumed = reader.heard(ResumedOut)
        assert [(answer.recovered, answer.interval_ms) for answer in resumed] == [(True, 350)]


async def say(socket: aiohttp.ClientWebSocketResponse, **message: object) -> None:
    await socket.send_str(json.dumps(message))


async def hear(
    socket: aiohttp.ClientWebSocketResponse, kind: str = "", when: Callable[[Any], Any] = lambda _: True
) -> Any:
    """The next message, of a kind if one is given; hellos and heartbeats count only if asked for."""
    async with asyncio.timeout(15):
        while True:
            frame = await socket.receive()
            assert frame.type is aiohttp.WSMsgType.TEXT, (kind, frame, socket.close_code)
            message = json.loads(frame.data)
            if (message["type"] == kind or (not kind and message["type"] not in ("hello", "heartbeat"))) and when(
                message
            ):
                return message


async def end_of(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    """The close code, once all that was sent is read."""
    async with asyncio.timeout(30):
        while (await socket.receive()).type is aiohttp.WSMsgType.TEXT:
            pass
    return socket.close_code


def minutes_of(tape: Tape) -> Minutes:
    """The bars of one minute by the reducer and the roll-up alone, as a client holds them."""
    found: Minutes = {}
    for name, bars in tape.bars().items():
        marks = {int(bars.symbol_id[0]): int((T0_S + 320) * NANOS)} if len(bars) else {}
        found[name] = rows_of(bars_of(roll_up(bars, "1m", calendar("24x7"), marks)))
    return found


def closed_only(minutes: Minutes) -> Minutes:
    return {name: {start: row for start, row in table.items() if row[6] > 0} for name, table in minutes.items()}


def odd(got: Minutes, wanted: Minutes) -> list[object]:
    """The first minutes that differ."""
    return [
        (name, start, got.get(name, {}).get(start), table.get(start))
        for name, table in wanted.items()
        for start in sorted(table.keys() | got.get(name, {}).keys())
        if got.get(name, {}).get(start) != table.get(start)
    ][:5]
