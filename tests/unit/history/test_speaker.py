"""A replay's records are those of a lawful owner: by the readers' rule every trade counts once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tests.unit.collector import Collector

from marketfeed.adapters.history_csv import BadLineFile, TradeFile
from marketfeed.domain.errors import Unavailable
from marketfeed.domain.log import Alive, Claim, Logged, TradesRecord, Watermark
from marketfeed.domain.ownership import PartitionReader
from marketfeed.domain.tape import TapeTrades, TapeWatermark
from marketfeed.domain.trades import SymbolTable, TradeColumns
from marketfeed.history.ports import Producer
from marketfeed.history.replay import Pace, Replay
from marketfeed.history.settings import ReplaySettings
from marketfeed.history.speaker import Speaker
from marketfeed.runtime import tracing
from marketfeed.runtime.logs import get_logger
from marketfeed.wire.records import KIND_HEADER, TRACEPARENT_HEADER, decode_body


@dataclass
class LogInMemory:
    """Topics as lists; what is sent is acknowledged by the next `poll`, as by a broker."""

    failure: Unavailable | None = None
    topics: dict[tuple[str, int], list[Logged]] = field(default_factory=dict)
    buffered_bytes: int = 0
    acks: list[tuple[Callable[[int], None], int]] = field(default_factory=list)
    traced: list[tuple[str, str | None]] = field(default_factory=list)

    def send(
        self,
        topic: str,
        partition: int,
        value: bytes,
        headers: Mapping[str, str] | None = None,
        on_ack: Callable[[int], None] | None = None,
    ) -> None:
        assert headers is not None
        self.traced.append((headers[KIND_HEADER], headers.get(TRACEPARENT_HEADER)))
        records = self.topics.setdefault((topic, partition), [])
        offset = len(records)
        records.append(Logged(partition, offset, 0, decode_body(headers[KIND_HEADER], value)))
        if on_ack is not None:
            self.acks.append((on_ack, offset))

    def poll(self) -> int:
        acks, self.acks = self.acks, []
        for on_ack, offset in acks:
            on_ack(offset)
        return len(acks)

    async def flush(self, timeout_s: float) -> int:
        self.poll()
        return 0


def batch(symbols: tuple[str, ...], count: int) -> TradeColumns:
    index = (np.arange(count) % len(symbols)).astype(np.uint32)
    stamps = np.arange(1, count + 1, dtype=np.int64)
    return TradeColumns(symbols, index, stamps, stamps * 1.0, stamps * 2.0, (None,), np.zeros(count, np.uint32))


async def claimed(speaker: Speaker, log: LogInMemory, symbols: tuple[str, ...]) -> None:
    claiming = asyncio.ensure_future(speaker.claim(symbols))
    await asyncio.sleep(0)
    log.poll()
    await claiming


async def test_trades_count_once_through_claims_of_more_and_more_symbols() -> None:
    """New symbols make a new epoch for all; nothing is lost, doubled or foreign, and order is kept."""
    log = LogInMemory()
    producer: Producer = log
    speaker = Speaker(producer, "f", partitions=3, instance="me")
    sent: dict[str, int] = {}
    for symbols in (("A", "B"), ("A", "B", "C", "D"), ("E",)):
        assert speaker.unknown(symbols)
        await claimed(speaker, log, symbols)
        speaker.send(batch(symbols, 20_000), received_ts=7)
        speaker.watermark(20_000)
        speaker.repeat_takeover()
        for symbol in symbols:
            sent[symbol] = sent.get(symbol, 0) + 20_000 // len(symbols)
    assert not speaker.unknown(("A", "E"))
    log.poll()
    assert speaker.acknowledged == 60_000
    table = SymbolTable()
    counted: dict[str, int] = {}
    for (topic, partition), records in log.topics.items():
        if topic == "f.control":
            continue
        reader = PartitionReader(partition, table)
        for event in reader.read(records):
            if isinstance(event, TapeTrades):
                for symbol_id, count in zip(*np.unique(event.symbol_id, return_counts=True), strict=True):
                    counted[table.name(int(symbol_id))] = counted.get(table.name(int(symbol_id)), 0) + int(count)
                for symbol_id in np.unique(event.symbol_id):
                    own = event.event_ts[(event.symbol_id == symbol_id) & (event.offset == event.offset[0])]
                    assert (np.diff(own) > 0).all()
        assert (reader.ignored_foreign, reader.ignored_repeat, reader.skipped_seqs) == (0, 0, 0)
    assert counted == sent


async def test_a_replay_begins_a_trace_per_record(collector: Collector) -> None:
    """A record of trades carries the span that made it; signs of life carry none."""
    tracing.set_up("history", "one", collector.endpoint)
    log = LogInMemory()
    speaker = Speaker(log, "f", partitions=1, instance="me")
    await claimed(speaker, log, ("A",))
    speaker.send(batch(("A",), 10), received_ts=7)
    speaker.alive()
    tracing.shut_down()
    (span,) = collector.spans()
    assert span.name == "history.send"
    ((kind, header),) = [(kind, header) for kind, header in log.traced if header]
    assert (kind, header.split("-")[1:3]) == ("trades", [span.trace_id, span.span_id])


async def test_time_never_falls_and_the_end_is_said() -> None:
    """A lower watermark is not said again; leaving gives the symbols up."""
    log = LogInMemory()
    speaker = Speaker(log, "f", partitions=1, instance="me")
    await claimed(speaker, log, ("A",))
    for stamp in (100, 50, 100, 200):
        speaker.note(stamp)
        speaker.watermark(stamp)
    speaker.alive()
    speaker.leave()
    assert speaker.reached == 200
    events = PartitionReader(0, SymbolTable()).read(log.topics["f.trades", 0])
    assert [event.event_ts for event in events if isinstance(event, TapeWatermark)] == [100, 200]
    bodies = [record.body for record in log.topics["f.control", 0]]
    assert [type(body) for body in bodies] == [Claim, Alive, Alive]
    assert [body.epochs for body in bodies if isinstance(body, Alive)] == [(0,), ()]


async def test_a_replay_that_cannot_keep_its_pace_tells_no_time_that_it_has_not_sent(tmp_path: Path) -> None:
    """The file's clock runs ahead of Kafka and of decoding; a watermark ahead of trades would make their bars FINAL."""
    path = tmp_path / "day.csv"
    stamps = [1_767_366_000_000_000_000 + number * 500_000_000 for number in range(120_000)]
    path.write_text("symbol,event_ts,price,size\n" + "".join(f"A,{stamp},1,1\n" for stamp in stamps))
    log = LogInMemory()
    settings = ReplaySettings(files=(str(path),), partitions=1, feed="f")
    pace = Pace.of("900000")
    replay = Replay([TradeFile(path)], BadLineFile(tmp_path / "bad", 1), log, settings, pace, "one", get_logger("test"))
    replay._next_s["watermark"] = -1.0
    monotonic = time.monotonic()
    assert await replay.run(asyncio.Event())
    assert time.monotonic() - monotonic < 20
    told = newest = 0
    for record in log.topics["f.trades", 0]:
        if isinstance(record.body, Watermark):
            told = record.body.event_ts
        elif isinstance(record.body, TradesRecord):
            assert int(record.body.trades.event_ts.min()) >= told
            newest = int(record.body.trades.event_ts.max())
    assert newest == stamps[-1] < told
