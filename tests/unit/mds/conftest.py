"""A small market for the tests of mds: a log in memory, and what reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import msgspec
import numpy as np
import pytest

from marketfeed.domain.bar_window import BarWindow
from marketfeed.domain.bars import BarColumns
from marketfeed.domain.errors import Unavailable
from marketfeed.domain.log import Body, Logged, Takeover, TradesRecord, Watermark
from marketfeed.domain.ownership import PartitionReader
from marketfeed.domain.position import Position
from marketfeed.domain.second_cells import Cells
from marketfeed.domain.sessions import calendar
from marketfeed.domain.trades import NANOS, SymbolTable, TradeColumns
from marketfeed.mds.clients import Client
from marketfeed.mds.hub import Hub
from marketfeed.mds.live import LiveState, nothing_known
from marketfeed.wire.websocket import ServerMessage

T0 = 1_790_000_000
EPOCH = 3
TOPIC = "topic"


@dataclass
class Log:
    """Records of one partition, applied to a hub as they are written."""

    hub: Hub
    records: list[Logged] = field(default_factory=list)
    seq: int = 0

    def write(self, body: Body) -> None:
        record = Logged(0, len(self.records), (T0 + 1) * NANOS, body)
        self.records.append(record)
        if self.hub.serving:
            self.hub.apply([record])

    def own(self, *symbols: str, epoch: int = EPOCH) -> None:
        self.write(Takeover(epoch, symbols))

    def trade(self, symbol: str, at_s: float, price: float, size: float = 1.0) -> None:
        ts = T0 * NANOS + round(at_s * NANOS)
        one = np.zeros(1, np.uint32)
        columns = TradeColumns((symbol,), one, np.array([ts]), np.array([price]), np.array([size]), (None,), one)
        self.write(TradesRecord(EPOCH, self.seq, ts + 1, columns))
        self.seq += 1

    def watermark(self, at_s: float) -> None:
        self.write(Watermark((EPOCH,), T0 * NANOS + round(at_s * NANOS)))

    def truth(self, upto: int | None = None) -> tuple[SymbolTable, BarColumns]:
        """The bars of the first `upto` records by the reducer alone."""
        symbols, window = SymbolTable(), BarWindow(keep_s=10**9)
        window.apply(PartitionReader(0, symbols).read(self.records[:upto]))
        return symbols, window.held()


@dataclass
class Stored:
    bars: BarColumns


@dataclass
class MemoryStore:
    """A store of the log's first `upto` records; `away` makes it unavailable."""

    log: Log
    upto: int = 0
    away: bool = False
    reads: int = 0
    closes: dict[str, float] = field(default_factory=dict)
    asked: dict[str, date] = field(default_factory=dict)

    def _here(self) -> None:
        if self.away:
            raise Unavailable("PostgreSQL", "memory", "away")

    async def read_bars(
        self, feed: str, symbol: str, interval_s: int, from_s: int, to_s: int, rows_max: int
    ) -> tuple[Position | None, Stored]:
        self._here()
        self.reads += 1
        symbols, bars = self.log.truth(self.upto)
        chosen = (bars.symbol_id == (symbols.find(symbol) or 0)) & (bars.start_s >= from_s) & (bars.start_s < to_s)
        if interval_s != 1:
            chosen &= False
        found = bars.take(chosen).take(slice(0, rows_max))
        position = Position(TOPIC, {0: self.upto}) if self.upto else None
        # The store's ids are its own.
        return position, Stored(replace(found, symbol_id=found.symbol_id + 1000))

    async def read_checkpoint(self, feed: str) -> Position | None:
        self._here()
        return Position(TOPIC, {0: self.upto}) if self.upto else None

    async def previous_close(self, feed: str, symbols: Sequence[str], before: date) -> Mapping[str, Any]:
        self._here()

        @dataclass
        class Close:
            close: float

        self.asked.update(dict.fromkeys(symbols, before))
        return {name: Close(self.closes[name]) for name in symbols if name in self.closes}


@dataclass
class MemoryCache:
    """Closes of every second of the log's first `upto` records."""

    log: Log
    upto: int = 0
    away: bool = False

    async def read_seconds(self, symbol: str, from_s: int, to_s: int) -> tuple[Position | None, Cells]:
        if self.away:
            raise Unavailable("Redis", "memory", "away")
        symbols, bars = self.log.truth(self.upto)
        mine = bars.take((bars.symbol_id == (symbols.find(symbol) or 0)) & (bars.start_s >= from_s))
        cells = Cells(np.zeros(len(mine), np.int64), mine.start_s, mine.close, mine.close_ts)
        return (Position(TOPIC, {0: self.upto}) if self.upto else None), cells


class MemorySocket:
    """A connection whose client is the test: `said` goes in, `frames` came out."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.said: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self.buffered_bytes = 0
        self.closed = False
        self.goodbye: tuple[int, str] | None = None
        self.ended = asyncio.Event()

    def send_frames(self, data: bytes) -> None:
        if not self.closed:
            self.frames.append(data)

    def offer(self, data: bytes) -> bool:
        if not self.buffered_bytes:
            self.send_frames(data)
        return not self.buffered_bytes

    async def messages(self) -> AsyncIterator[str | bytes]:
        while (message := await self.said.get()) is not None:
            yield message

    def texts(self) -> list[str]:
        """The raw messages that came since the last call."""
        return [text.decode() for text in self._payloads()]

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed = True
        self.goodbye = (code, reason)
        self.ended.set()
        self.said.put_nowait(None)

    def take(self) -> list[Any]:
        """The messages that came since the last call."""
        return [msgspec.json.decode(text, type=ServerMessage) for text in self._payloads()]

    def _payloads(self) -> list[bytes]:
        stream, self.frames = b"".join(self.frames), []
        found = []
        while stream:
            size, start = stream[1], 2
            if size == 126:
                size, start = int.from_bytes(stream[2:4]), 4
            elif size == 127:
                size, start = int.from_bytes(stream[2:10]), 10
            found.append(stream[start : start + size])
            stream = stream[start + size :]
        return found


@dataclass
class Market:
    """A hub that serves a log in memory, and what came of its clients."""

    hub: Hub
    log: Log
    goodbyes: list[tuple[Client, Any]]

    def restart(self) -> None:
        """Another log."""
        self.hub.begin(LiveState(nothing_known("other", {0: 0}), calendar("24x7"), 5, 1 << 20))


@pytest.fixture
def market() -> Market:
    return made_market()


@pytest.fixture
def new_market() -> Callable[[], Market]:
    return made_market


def made_market() -> Market:
    goodbyes: list[tuple[Client, Any]] = []
    hub = Hub(50, 1000, lambda client, goodbye: goodbyes.append((client, goodbye)))
    hub.begin(LiveState(nothing_known(TOPIC, {0: 0}), calendar("24x7"), 5, 1 << 20))
    return Market(hub, Log(hub), goodbyes)


@pytest.fixture
def store(market: Market) -> MemoryStore:
    return MemoryStore(market.log)


@pytest.fixture
def cache(market: Market) -> MemoryCache:
    return MemoryCache(market.log)


@pytest.fixture
def socket() -> MemorySocket:
    return MemorySocket()


@pytest.fixture
def new_socket() -> type[MemorySocket]:
    return MemorySocket
