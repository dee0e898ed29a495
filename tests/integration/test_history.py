"""`history import` and `history replay` on the real servers: what is stored is what the file says."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import numpy as np
import pytest

from marketfeed.adapters.kafka import LogAdmin, LogConsumer, trades_topic
from marketfeed.adapters.postgres import PostgresStore, StoredBars
from marketfeed.adapters.postgres import importer as postgres_importer
from marketfeed.domain.bar_window import BarWindow
from marketfeed.domain.bars import COLUMNS, FINAL, BarColumns, reduce_trades
from marketfeed.domain.errors import SettingError
from marketfeed.domain.ownership import PartitionReader
from marketfeed.domain.rollup import INTERVALS, roll_up
from marketfeed.domain.sessions import calendar
from marketfeed.domain.trades import SymbolTable
from marketfeed.history import replay
from marketfeed.history.app import main
from marketfeed.local.stack import Addresses
from marketfeed.wire.trade_csv import TradeCsv

pytestmark = pytest.mark.integration

HEADER = "symbol,event_ts,price,size,conditions\n"
T0 = 1_741_615_800_000  # 2025-03-10 14:10 UTC
# Places in the log or file, and what only the store knows.
PLACES = {f"{edge}_{part}" for edge in ("open", "close") for part in ("offset", "index")}
PLACES |= {"first_offset", "last_offset", "changed_offset", "late"}


def tape(seconds: int, per_second: int, seed: int = 1, symbols: int = 7) -> str:
    """Lines sorted by time, a few of them out of order."""
    rng = np.random.default_rng(seed)
    count = seconds * per_second
    stamps = T0 + np.sort(rng.integers(0, seconds * 1000, count)) - rng.choice([0, 0, 0, 0, 700], count)
    price, size = rng.integers(1000, 5000, count), rng.integers(0, 50, count)
    return "".join(
        f"S{rng.integers(symbols)},{stamp},{p / 100},{s / 10},@|T\n"
        for stamp, p, s in zip(stamps.tolist(), price.tolist(), size.tolist(), strict=True)
    )


def bars_of_text(text: str) -> tuple[BarColumns, SymbolTable]:
    """The bars that the lines say, and the symbols of their ids, which are in the order of their names."""
    decoded = TradeCsv(HEADER.encode()).decode(text.encode(), 2)
    trades = decoded.trades
    symbols = SymbolTable(sorted(trades.symbols))
    ids = symbols.ids(trades.symbols)[trades.symbol_index]
    none = np.zeros(len(ids), np.int64)
    return reduce_trades(ids, trades.event_ts, trades.price, trades.size, decoded.line, none), symbols


def comparable(bars: BarColumns) -> dict[str, list[object]]:
    """All columns that do not depend on where the trades stood, in rising symbol ids."""
    shown = {name: getattr(bars, name).tolist() for name in COLUMNS if name not in PLACES}
    numbers = {old: new for new, old in enumerate(sorted(set(shown["symbol_id"])))}
    return {**shown, "symbol_id": [numbers[i] for i in shown["symbol_id"]]}


def final(bars: BarColumns) -> BarColumns:
    return replace(bars, state=np.full(len(bars), FINAL, np.int8))


def stored_bars(dsn: str, feed: str, interval: str) -> StoredBars:
    async def read() -> StoredBars:
        store = PostgresStore(dsn)
        await store.open()
        try:
            by_name = [row.symbol_id for row in await store.symbols(feed)]
            found = await store.read_all_bars(feed, INTERVALS[interval], 0, 2**33)
        finally:
            await store.close()
        numbers = {symbol_id: position for position, symbol_id in enumerate(by_name)}
        ids = np.array([numbers[i] for i in found.bars.symbol_id.tolist()], np.int64)
        order = np.lexsort((found.bars.start_s, ids))
        return StoredBars(replace(found.bars, symbol_id=ids).take(order), found.trade_date[order], found.session[order])

    return asyncio.run(read())


@pytest.fixture
def postgres(stack: Addresses) -> str:
    asyncio.run(PostgresStore(stack.postgres).migrate())
    return stack.postgres


def run_import(postgres: str, feed: str, *arguments: str) -> int:
    return main(["import", "--postgres", postgres, "--feed", feed, "--log-format", "json", *arguments])


def test_an_import_stores_the_bars_of_the_file_at_every_interval(postgres: str, feed: str, tmp_path: Path) -> None:
    """Seconds equal the reducer's, coarser bars their roll-up; sessions and trade dates are the calendar's."""
    text = tape(seconds=130, per_second=60)
    path = tmp_path / "trades.csv.gz"
    path.write_bytes(gzip.compress((HEADER + text).encode()))
    assert run_import(postgres, feed, str(path), "--calendar", "us-equity", "--bars-max", "100") == 0
    seconds, _ = bars_of_text(text)
    found = stored_bars(postgres, feed, "1s")
    assert comparable(found.bars) == comparable(final(seconds))
    assert set(found.session.tolist()) == {2}
    assert set(found.trade_date.tolist()) == {20_157}
    reached = dict.fromkeys(range(10), 2**62)
    for interval in ("1m", "1h", "1d"):
        expected = roll_up(seconds, interval, calendar("us-equity"), reached)
        assert comparable(stored_bars(postgres, feed, interval).bars) == comparable(expected), interval


def test_an_import_may_be_repeated_in_any_order_and_replaces_its_days(postgres: str, feed: str, tmp_path: Path) -> None:
    """The same trades sorted by symbol give the same bars; a corrected file leaves nothing of the first one."""
    text = tape(seconds=40, per_second=50, seed=2)
    path = tmp_path / "trades.csv"
    path.write_text(HEADER + text)
    assert run_import(postgres, feed, str(path)) == 0
    expected = comparable(final(bars_of_text(text)[0]))
    assert comparable(stored_bars(postgres, feed, "1s").bars) == expected
    # Sorted by symbol; lines of equal stamps keep their order. Small pieces meet the same bars again and again.
    path.write_text(HEADER + "".join(sorted(text.splitlines(keepends=True), key=lambda line: line.split(",")[0])))
    assert run_import(postgres, feed, str(path), "--bars-max", "5") == 0
    assert comparable(stored_bars(postgres, feed, "1s").bars) == expected
    shorter = "".join(text.splitlines(keepends=True)[:500])
    path.write_text(HEADER + shorter)
    assert run_import(postgres, feed, str(path)) == 0
    corrected, _ = bars_of_text(shorter)
    assert comparable(stored_bars(postgres, feed, "1s").bars) == comparable(final(corrected))
    day = roll_up(corrected, "1d", calendar("24x7"), dict.fromkeys(range(10), 2**62))
    assert comparable(stored_bars(postgres, feed, "1d").bars) == comparable(day)


def test_live_bars_are_refused_unless_they_are_to_be_replaced(
    postgres: str, feed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The refusal names symbol and day, and nothing is stored; --replace deletes the live bars of those days."""
    path = tmp_path / "trades.csv"
    path.write_text(HEADER + f"LIVE,{T0},10,1,\n")
    assert run_import(postgres, feed, str(path)) == 0
    asyncio.run(_make_live(postgres, feed))
    path.write_text(HEADER + f"OTHER,{T0},10,1,\nLIVE,{T0 + 5000},11,1,\n")
    assert run_import(postgres, feed, str(path)) == 2
    assert "live bars are stored for LIVE on 2025-03-10" in capsys.readouterr().err
    assert stored_bars(postgres, feed, "1s").bars.close.tolist() == [10.0]
    assert run_import(postgres, feed, str(path), "--replace") == 0
    assert stored_bars(postgres, feed, "1s").bars.close.tolist() == [11.0, 10.0]


async def _make_live(dsn: str, feed: str) -> None:
    """Turn a feed's imported bars into live ones, as if they had come through the log."""
    connection = await postgres_importer.connect(dsn, "test")
    try:
        await connection.execute(
            "UPDATE bar_1s SET source = 0 WHERE symbol_id IN (SELECT symbol_id FROM symbol WHERE feed = $1)", feed
        )
    finally:
        await connection.close()


def test_bad_lines_go_to_quarantine_and_a_useless_file_is_refused(
    postgres: str, feed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Good lines are stored, bad ones named; a file without one good line, or without a header, stores nothing."""
    path, bad = tmp_path / "trades.csv", tmp_path / "bad.csv"
    path.write_text(HEADER + f"A,{T0},1,1,\nA,{T0},-1,1,\nrubbish\n")
    assert run_import(postgres, feed, str(path), "--quarantine", str(bad)) == 0
    assert [line.split(",")[:2] for line in bad.read_text().splitlines()] == [
        ["line", "reason"], ["3", "price_not_positive"], ["4", "field_count"]
    ]  # fmt: skip
    path.write_text(HEADER + "rubbish\n")
    assert run_import(postgres, feed, str(path), "--quarantine", str(bad)) == 2
    assert "no trade that can be used (1 bad lines)" in capsys.readouterr().err
    path.write_text("hello\n")
    assert run_import(postgres, feed, str(path)) == 2
    assert "it must name symbol, event_ts, price, size" in capsys.readouterr().err
    assert run_import(postgres, feed, str(tmp_path / "none")) == 2


async def _read_log(kafka: str, feed: str) -> tuple[BarColumns, int, int]:
    """The bars of a feed's log by the readers' rule, the trades counted, and those refused."""
    topic = trades_topic(feed)
    ends = await LogAdmin(kafka).end_offsets(topic)
    consumer = LogConsumer(kafka, topic)
    symbols, window = SymbolTable([f"S{i}" for i in range(7)]), BarWindow()
    readers = {partition: PartitionReader(partition, symbols) for partition in ends}
    counted = refused = 0
    try:
        await consumer.assign(dict.fromkeys(ends, 0))
        async with asyncio.timeout(30):
            while consumer.positions != ends:
                records = await consumer.poll()
                for partition, reader in readers.items():
                    changes = window.apply(reader.read([r for r in records if r.partition == partition]))
                    counted += changes.trades
                    refused += len(changes.late_after_final)
    finally:
        await consumer.close()
    return window.held(), counted, refused


def test_a_replay_gives_the_bars_of_an_import_through_the_log(
    stack: Addresses, feed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At full speed every trade of the file counts once in the log, and all bars are FINAL at its end."""
    text = tape(seconds=30, per_second=200, seed=3)
    path = tmp_path / "trades.csv"
    path.write_text(HEADER + text)
    command = ["replay", str(path), "--kafka", stack.kafka, "--feed", feed, "--partitions", "3", "--log-format", "json"]
    assert main([*command, "--speed", "max"]) == 0
    held, counted, refused = asyncio.run(_read_log(stack.kafka, feed))
    expected, _ = bars_of_text(text)
    assert (counted, refused) == (len(text.splitlines()), 0)
    assert comparable(held) == comparable(final(expected))
    assert main(command) == 2
    assert "has trades already" in capsys.readouterr().err


def test_a_replay_keeps_the_files_pace_and_takes_symbols_as_they_come(
    stack: Addresses, feed: str, tmp_path: Path
) -> None:
    """Two seconds of file at double speed take one second; a symbol of a later file is claimed with the others."""
    paths = [tmp_path / "one.csv", tmp_path / "two.csv"]
    paths[0].write_text(HEADER + "".join(f"S0,{T0 + 100 * i},10,1,\n" for i in range(10)))
    paths[1].write_text(HEADER + "".join(f"S{i % 2},{T0 + 1000 + 100 * i},10,1,\n" for i in range(11)))
    command = ["replay", *map(str, paths), "--kafka", stack.kafka, "--feed", feed, "--partitions", "2"]
    begun = asyncio.run(_clock())
    assert main([*command, "--speed", "2", "--log-format", "json"]) == 0
    assert asyncio.run(_clock()) - begun >= 1.0
    held, counted, refused = asyncio.run(_read_log(stack.kafka, feed))
    assert (counted, refused, held.trades.sum()) == (21, 0, 21)
    assert set(held.state.tolist()) == {FINAL}


async def _clock() -> float:
    return asyncio.get_running_loop().time()


def test_a_replay_refuses_a_file_that_is_not_sorted(
    stack: Addresses, feed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """More than 15 minutes back in time: the line is named, with what to do."""
    path = tmp_path / "trades.csv"
    path.write_text(HEADER + f"S0,{T0},10,1,\nS1,{T0 - 901_000},10,1,\n")
    command = ["replay", str(path), "--kafka", stack.kafka, "--feed", feed, "--speed", "max"]
    assert main(command) == 2
    assert "line 3 is stamped more than 15 minutes before" in capsys.readouterr().err
    with pytest.raises(SettingError, match="must be max or a number above 0"):
        replay.Pace.of("fast")


def test_a_job_waits_for_its_server_as_long_as_it_may(
    postgres: str, feed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody listens: without time an import ends at once, with some it gives up then, or begins when somebody does."""
    path = tmp_path / "trades.csv"
    path.write_text(HEADER + f"S0,{T0},10,1,\n")
    target = urlsplit(postgres)
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    moved = postgres.replace(f":{target.port}/", f":{port}/")
    assert moved != postgres
    assert run_import(moved, feed, str(path)) == 1
    assert "gave up" not in capsys.readouterr().err
    assert run_import(moved, feed, str(path), "--timeout-s", "0.6") == 1
    assert "gave up after 0.6 s (--timeout-s)" in capsys.readouterr().err
    late = Thread(target=serve_later, args=(port, target.port, 1.0), daemon=True)
    late.start()
    assert run_import(moved, feed, str(path), "--timeout-s", "30") == 0
    late.join(10)
    assert len(stored_bars(postgres, feed, "1s").bars) == 1


def serve_later(port: int, target: int, after_s: float) -> None:
    """Pass what comes to `port` on to `target`, from some time on and until nobody is connected any more."""

    async def serve() -> None:
        await asyncio.sleep(after_s)
        connected: set[int] = set()
        ended = asyncio.Event()

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connected.add(id(writer))
            onward_reader, onward = await asyncio.open_connection("127.0.0.1", target)
            await asyncio.gather(_copy(reader, onward), _copy(onward_reader, writer))
            connected.discard(id(writer))
            if not connected:
                ended.set()

        async with await asyncio.start_server(carry, "127.0.0.1", port):
            await ended.wait()

    asyncio.run(serve())


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_status_tells_how_far_a_job_is_and_the_result_file_how_it_ended(
    stack: Addresses, feed: str, tmp_path: Path
) -> None:
    """An orchestrator reads phase and counts while it runs, and the totals when the process is gone."""
    text = "".join(f"S{i % 3},{T0 + 20 * i},10,1,\n" for i in range(200))
    path, port_file, result_file = tmp_path / "trades.csv", tmp_path / "port", tmp_path / "result"
    path.write_text(HEADER + text)
    command = ["history", "replay", str(path), "--kafka", stack.kafka, "--feed", feed, "--speed", "2"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "marketfeed.cli.main", *command, "--result-file", str(result_file)),
        env={**os.environ, "MARKETFEED_PORT_FILE": str(port_file), "MARKETFEED_LOG_FORMAT": "json"},
    )
    seen: list[dict[str, Any]] = []
    async with asyncio.timeout(60), aiohttp.ClientSession() as client:
        while process.returncode is None:
            try:
                async with client.get(f"http://127.0.0.1:{port_file.read_text()}/status") as answer:
                    seen.append(await answer.json())
            except (OSError, aiohttp.ClientError):
                pass
            await asyncio.sleep(0.02)
    assert process.returncode == 0
    assert {status["phase"] for status in seen} >= {"starting", "reading"}
    size = len(HEADER + text)
    assert {status["bytes_total"] for status in seen} == {size}
    rows = [status["rows"] for status in seen]
    assert rows[0] == 0
    assert rows == sorted(rows)
    # The whole file is one block, which takes two seconds to send: what is sent of it counts.
    assert len(set(rows)) > 20
    assert all(0 < status["percent"] < 100 for status in seen if 0 < status["rows"] < 200)
    result = json.loads(result_file.read_text())
    assert (result["result"], result["rows"], result["sent"]) == ("replayed", 200, 200)
