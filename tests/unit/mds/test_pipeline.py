"""The loops, with a log and a store in memory that fail on purpose."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import pytest

from marketfeed.domain.errors import LogReplaced, LogTrimmed, MalformedRecord, Unavailable
from marketfeed.domain.log import Logged
from marketfeed.domain.sessions import calendar
from marketfeed.mds import pipeline
from marketfeed.mds.live import Beginning, nothing_known
from marketfeed.mds.pipeline import Follower, House, Yesterday, fan_out
from marketfeed.runtime.health import Health
from marketfeed.runtime.logs import get_logger

T0 = 1_790_000_000
LOG = get_logger("test")


@dataclass
class Script:
    """A log whose polls are a list of what happens; afterwards it stops the follower."""

    steps: list[list[Logged] | Exception]
    stopping: asyncio.Event
    malformed: deque[MalformedRecord] = field(default_factory=deque)
    assigned: list[dict[int, int]] = field(default_factory=list)
    topics: deque[str] = field(default_factory=lambda: deque(["topic"]))

    async def assign(self, positions: Mapping[int, int], topic_id: str | None = None) -> None:
        self.assigned.append(dict(positions))

    async def poll(self, max_records: int = 500, timeout_s: float = 0.5, gather_s: float = 0.0) -> list[Logged]:
        if not self.steps:
            self.stopping.set()
            return []
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    async def beginning(self) -> Beginning:
        topic = self.topics[0] if len(self.topics) == 1 else self.topics.popleft()
        if topic == "away":
            raise Unavailable("Kafka", "here", "away")
        return nothing_known(topic, {0: 0})


async def follow(market: Any, script: Script) -> Health:
    health = Health("test")
    follower = Follower(
        hub=market.hub, origins=script, reader=script, calendar=calendar("24x7"), window_s=5,
        window_bytes_max=1 << 20, gather_s=0.0, health=health, log=LOG,
        tape_s=300.0,
        tape_bytes_max=1 << 20,
    )  # fmt: skip
    async with asyncio.timeout(10):
        await follower.run(script.stopping)
    return health


async def test_what_the_log_says_arrives_and_errors_are_survived(market: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Away at first, away in between, a record that cannot be read: all records arrive, each once."""
    market.log.own("A")
    for second in range(3):
        market.log.trade("A", second, 10.0 + second)
    records = list(market.log.records)
    script = Script([records[:2], Unavailable("Kafka", "here", "away"), records[2:3], []], asyncio.Event())
    script.topics.appendleft("away")
    script.malformed.append(MalformedRecord(0, 3, "garbage"))
    health = await follow(market, script)
    assert market.hub.state.trades == 2
    assert health.is_ready
    assert market.hub.state.log_down_since_ts is None


async def test_a_trimmed_log_is_passed_over_and_a_replaced_one_begins_anew(market: Any) -> None:
    """Trimmed: owners are learned again from what is left. Replaced: another state, offset 0."""
    market.log.own("A")
    first = market.hub.state
    script = Script(
        [LogTrimmed("t", 0, 0, 7), LogReplaced("t", "topic", "next"), list(market.log.records)], asyncio.Event()
    )
    script.topics = deque(["topic", "next"])
    await follow(market, script)
    assert script.assigned == [{0: 0}, {0: 7}, {0: 0}]
    assert market.hub.state is not first
    assert market.hub.state.topic_id == "next"
    market.hub.state.commit(0.0)
    assert market.hub.state.known_id("A") is not None


async def turn(house: Any, done: Callable[[], bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run house-keeping quickly until something is true."""
    monkeypatch.setattr(pipeline, "HOUSE_PAUSE_S", 0.001)
    monkeypatch.setattr(pipeline, "PREVIOUS_PAUSE_S", 0.001)
    stopping = asyncio.Event()

    async def stop() -> None:
        async with asyncio.timeout(5):
            while not done():  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        stopping.set()

    await asyncio.gather(house.run(stopping), stop())


async def test_late_bars_are_read_back_and_stored_ones_let_go(
    market: Any, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is let go while the store is away; afterwards the memory is small and late bars are right."""
    market.log.own("A")
    for second in range(30):
        market.log.trade("A", second, 10.0 + second)
    market.log.watermark(100)
    state = market.hub.state
    state.commit(0.0)
    house = House(hub=market.hub, store=store, feed="feed", evict_after_s=0.0, log=LOG)
    store.away = True
    calls = state.window
    await turn(house, lambda: len(calls) == 30, monkeypatch)
    store.away, store.upto = False, len(market.log.records)
    await turn(house, lambda: len(state.window) == 0, monkeypatch)
    market.log.trade("A", 3.5, 99.0)
    state.commit(0.0)
    assert len(state.orphans) == 1
    store.upto = len(market.log.records)
    await turn(house, lambda: not state.orphans, monkeypatch)
    a = state.symbols.id("A")
    assert state.bars(np.array([a]), np.array([T0 + 3])).high.tolist() == [99.0]


async def test_previous_closes_come_from_the_store_or_from_elsewhere(
    market: Any, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each symbol is asked for once; what nobody knows stays unknown."""

    class Elsewhere:
        def __init__(self) -> None:
            self.asked: list[str] = []

        async def previous_close(self, symbol: str) -> float | None:
            self.asked.append(symbol)
            return 7.5 if symbol == "B" else None

    market.log.own("A", "B", "C")
    for days, symbol in enumerate(("A", "B", "C")):
        market.log.trade(symbol, 1 + 86_400 * days, 5.0)
    market.hub.tick()
    version = market.hub.state.log.version
    store.closes["A"] = 4.5
    elsewhere = Elsewhere()
    yesterday = Yesterday(
        hub=market.hub, store=store, elsewhere=elsewhere, feed="feed", calendar=calendar("24x7"), log=LOG
    )  # fmt: skip
    await turn(yesterday, lambda: len(elsewhere.asked) >= 2, monkeypatch)
    ids = [market.hub.state.symbols.id(symbol) for symbol in ("A", "B", "C")]
    market.hub.refresh()
    closes = [market.hub.frames.quote(i).previous_close for i in ids]
    assert closes == [4.5, 7.5, None]
    assert elsewhere.asked == ["B", "C"]
    assert store.asked == {"A": date(2026, 9, 21), "B": date(2026, 9, 22), "C": date(2026, 9, 23)}
    assert market.hub.state.log.since(version).quotes == set(ids[:2]), "subscribers are told"


async def test_somebody_who_fails_is_left_alone_for_a_while(
    market: Any, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is asked again at once, the other after a pause that grows; what the store knows is taken meanwhile."""
    turns = tries = 0
    known = store.previous_close

    async def counted(feed: str, names: list[str], before: date) -> Any:
        nonlocal turns
        turns += 1
        return await known(feed, names, before)

    class Failing:
        async def previous_close(self, symbol: str) -> float | None:
            nonlocal tries
            tries += 1
            raise Unavailable("Finnhub's REST API", "there", "no")

    market.log.own("A", "B")
    market.log.trade("A", 1, 5.0)
    market.log.trade("B", 1, 5.0)
    market.hub.tick()
    store.previous_close = counted
    store.closes["B"] = 4.5
    yesterday = Yesterday(
        hub=market.hub, store=store, elsewhere=Failing(), feed="feed", calendar=calendar("24x7"), log=LOG
    )  # fmt: skip
    await turn(yesterday, lambda: turns >= 20, monkeypatch)
    assert tries == 1
    market.hub.refresh()
    assert market.hub.frames.quote(market.hub.state.symbols.id("B")).previous_close == 4.5
    monkeypatch.setattr(pipeline, "ELSEWHERE_PAUSE_S", 0.001)
    await turn(yesterday, lambda: tries >= 3, monkeypatch)


async def test_turns_keep_their_time(market: Any) -> None:
    """As many as fit; they end with the service."""
    stopping = asyncio.Event()
    turns = 0
    before = market.hub.tick

    def counted() -> None:
        nonlocal turns
        turns += 1
        before()
        if turns == 5:
            stopping.set()

    market.hub.tick = counted
    async with asyncio.timeout(5):
        await fan_out(market.hub, 2, stopping)
    assert turns == 5


def test_seconds_are_read_in_few_ranges() -> None:
    """Near ones together, far ones apart."""
    assert pipeline._spans(np.array([1, 5, 50, 500])) == [(1, 51), (500, 501)]
    assert pipeline._spans(np.array([], np.int64)) == []
