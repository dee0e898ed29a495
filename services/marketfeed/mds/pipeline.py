"""The loops that move data through mds: log to state, state to clients, and the house-keeping between them.

Expected errors never end a loop: the log away means that clients are told `down` and asked again, a store away means
that bars stay in memory. Only stopping ends them, and bugs, which end the service.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Protocol

import numpy as np

from marketfeed.domain.errors import LogReplaced, LogTrimmed, MalformedRecord, Unavailable
from marketfeed.domain.log import Logged
from marketfeed.domain.sessions import Calendar
from marketfeed.mds import metrics
from marketfeed.mds.hub import Hub
from marketfeed.mds.live import LiveState
from marketfeed.mds.ports import DayClose, Origins, PreviousCloses, Store
from marketfeed.runtime.health import Health
from marketfeed.runtime.logs import Logger, RateLimited
from marketfeed.runtime.tasks import backoff_s, stopped_within

# Records applied at a time: what is taken from the log while it is behind blocks nobody for long.
POLL_RECORDS = 64
POLL_TIMEOUT_S = 0.25
HOUSE_PAUSE_S = 1.0
READ_BACK_MAX = 100
# Of the time a turn of the fan-out took, what must pass until the next one.
BREATH = 0.33
PREVIOUS_PAUSE_S = 10.0
# Between two tries of somebody else who fails: the first pause, and the longest.
ELSEWHERE_PAUSE_S = 10.0
ELSEWHERE_PAUSE_MAX_S = 300.0
PREVIOUS_MAX = 50


class LogReader(Protocol):
    """The log, see adapters/kafka. `malformed` is filled by `poll` and emptied by whoever looks."""

    malformed: deque[MalformedRecord]

    async def assign(self, positions: Mapping[int, int], topic_id: str | None = None) -> None:
        """Read from these offsets. Raises LogReplaced, Unavailable."""

    async def poll(self, max_records: int = 500, timeout_s: float = 0.5, gather_s: float = 0.0) -> list[Logged]:
        """The next records. Raises LogReplaced, LogTrimmed, Unavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower:
    """Follows the log into the hub's state."""

    hub: Hub
    origins: Origins
    reader: LogReader
    calendar: Calendar
    window_s: int
    window_bytes_max: int
    tape_s: float
    tape_bytes_max: int
    gather_s: float
    health: Health
    log: Logger

    async def run(self, stopping: asyncio.Event) -> None:
        """Until stopped: find a beginning, follow from there; anew when the log is replaced."""
        jitter, tries = random.Random(), 0
        self.health.ready("log", False, "starting")
        while not stopping.is_set():
            try:
                beginning = await self.origins.beginning()
                await self.reader.assign(beginning.offsets, beginning.topic_id)
            except (Unavailable, LogReplaced) as error:
                if not tries:
                    self.log.warning("waiting for the log", reason=str(error))
                self.health.ready("log", False, str(error))
                await stopped_within(stopping, backoff_s(tries, 0.2, 2.0, jitter))
                tries += 1
                continue
            tries = 0
            bounds = (self.window_s, self.window_bytes_max, self.tape_s, self.tape_bytes_max)
            self.hub.begin(LiveState(beginning, self.calendar, *bounds))
            try:
                await self._follow(stopping)
            except LogReplaced as error:
                self.log.warning("the log was replaced, beginning anew", reason=str(error))
                self.health.ready("log", False, "the log was replaced")

    async def _follow(self, stopping: asyncio.Event) -> None:
        state, limited, caught_up = self.hub.state, RateLimited(self.log), False
        while not stopping.is_set():
            try:
                records = await self.reader.poll(POLL_RECORDS, POLL_TIMEOUT_S, self.gather_s)
            except LogTrimmed as trimmed:
                self.log.warning("the log was trimmed before it was read", reason=str(trimmed))
                state.readers[trimmed.partition].restart(trimmed.first)
                await self._assign_again(state, stopping)
                continue
            except Unavailable as error:
                state.log_down_since_ts = state.log_down_since_ts or time.time_ns()
                limited.warning("the log cannot be read", reason=str(error))
                await stopped_within(stopping, 0.5)
                continue
            if records:
                state.log_down_since_ts = None
            self._pass_malformed(state)
            self.hub.apply(records)
            if not caught_up and len(records) < POLL_RECORDS:
                caught_up = True
                self.health.ready("log", True)
                self.log.info("following the log", position=state.position.text(), bars=len(state.window))

    async def _assign_again(self, state: LiveState, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            try:
                await self.reader.assign(state.next_offsets, state.topic_id)
            except Unavailable:
                await stopped_within(stopping, 0.5)
            else:
                return

    def _pass_malformed(self, state: LiveState) -> None:
        while self.reader.malformed:
            bad = self.reader.malformed.popleft()
            metrics.MALFORMED.inc()
            self.log.warning("a record cannot be read", reason=str(bad))
            state.readers[bad.partition].pass_malformed(bad.offset)


async def fan_out(hub: Hub, tick_ms: int, stopping: asyncio.Event) -> None:
    """A turn every `tick_ms`. One that comes late is not made up for: the next one carries its changes.

    However long turns take, between two of them there is `BREATH` of a turn's time for everything else: reading the
    log, newcomers, answers.
    """
    tick_s = tick_ms / 1000
    due_s = time.monotonic()
    took_s = 0.0
    while not stopping.is_set():
        now_s = time.monotonic()
        due_s = max(due_s + tick_s, now_s + BREATH * took_s)
        await asyncio.sleep(due_s - now_s)
        started_s = time.monotonic()
        metrics.TICK_LATE_S.observe(max(0.0, started_s - due_s))
        if hub.serving:
            hub.tick()
        took_s = time.monotonic() - started_s


@dataclass(slots=True, kw_only=True)
class House:
    """Keeps memory bounded and late bars right, by following how far the store is.

    A bar leaves the memory `evict_after_s` after the store was seen to have it: longer than what a snapshot has read
    may be used (`snapshot.SHARE_S` + `snapshot.REACH_S`).
    """

    hub: Hub
    store: Store
    feed: str
    evict_after_s: float
    log: Logger
    _state: LiveState | None = None
    _stored: deque[tuple[float, dict[int, int]]] = field(default_factory=deque)

    async def run(self, stopping: asyncio.Event) -> None:
        """Until stopped, once a second."""
        limited = RateLimited(self.log, per_s=0.1)
        while not await stopped_within(stopping, HOUSE_PAUSE_S):
            if not self.hub.serving:
                continue
            self.hub.judge_sources()
            state = self.hub.state
            if state is not self._state:
                self._state = state
                self._stored.clear()
            metrics.CLIENTS.set(self.hub.fanout.clients)
            metrics.SUBSCRIPTIONS.set(self.hub.fanout.subscriptions)
            metrics.HELD_BARS.set(len(state.window))
            metrics.LOST_ORPHANS.set(state.lost_orphans)
            metrics.TAPE_BYTES.set(state.tape.bytes)
            try:
                await self._follow_store(state)
            except Unavailable as error:
                limited.warning("PostgreSQL is away: bars stay in memory", reason=error.reason, bars=len(state.window))
            state.evict(self._long_stored())

    async def _follow_store(self, state: LiveState) -> None:
        position = await self.store.read_checkpoint(self.feed)
        if position is None or position.topic_id != state.topic_id:
            return
        stored = dict(position.offsets)
        self._stored.append((time.monotonic(), stored))
        if self.hub.state is state and (keys := state.readable_orphans(stored)):
            await self._read_back(state, keys[:READ_BACK_MAX])

    def _long_stored(self) -> dict[int, int] | None:
        """What the store had `evict_after_s` ago."""
        horizon_s = time.monotonic() - self.evict_after_s
        while len(self._stored) > 1 and self._stored[1][0] <= horizon_s:
            self._stored.popleft()
        if not self._stored or self._stored[0][0] > horizon_s:
            return None
        return self._stored[0][1]

    async def _read_back(self, state: LiveState, keys: Sequence[tuple[int, int]]) -> None:
        """Bars that late trades changed after they had left the memory, now that the store has them."""
        for symbol_id in {key[0] for key in keys}:
            starts = np.array(sorted(start for one, start in keys if one == symbol_id), np.int64)
            symbol = state.symbols.name(symbol_id)
            for from_s, to_s in _spans(starts):
                position, stored = await self.store.read_bars(self.feed, symbol, 1, from_s, to_s, to_s - from_s)
                if position is None or position.topic_id != state.topic_id:
                    return
                bars = stored.bars
                bars = replace(bars, symbol_id=np.full(len(bars), symbol_id, np.int64))
                state.adopt_older(bars.take(np.isin(bars.start_s, starts)), position.offsets)
                metrics.READ_BACK.inc(len(bars))


def _spans(starts: Sequence[int] | np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[tuple[int, int]]:
    """Seconds, sorted, as few ranges [from, to) with gaps of a minute or more between them."""
    spans: list[tuple[int, int]] = []
    for start in (int(s) for s in starts):
        if spans and start < spans[-1][1] + 60:
            spans[-1] = (spans[-1][0], start + 1)
        else:
            spans.append((start, start + 1))
    return spans


@dataclass(frozen=True, slots=True, kw_only=True)
class Yesterday:
    """Fills in previous closes that are not known: from stored days, else from somebody else who knows."""

    hub: Hub
    store: Store
    elsewhere: PreviousCloses | None
    feed: str
    calendar: Calendar
    log: Logger

    async def run(self, stopping: asyncio.Event) -> None:
        """Until stopped. A symbol is asked for once per trade date."""
        asked: set[tuple[str, date]] = set()
        limited = RateLimited(self.log, per_s=0.1)
        jitter, failures, rest_until_s = random.Random(), 0, 0.0
        while not await stopped_within(stopping, PREVIOUS_PAUSE_S):
            if not self.hub.serving:
                continue
            state = self.hub.state
            today = self.calendar.trade_date(time.time_ns())
            lacking = [(int(i), state.symbols.name(int(i))) for i in state.quotes.lacking_previous()]
            wanted = [(i, name) for i, name in lacking if (name, today) not in asked][:PREVIOUS_MAX]
            if not wanted:
                continue
            try:
                unknown = await self._ask_store(state, wanted)
            except Unavailable as error:
                limited.warning("previous closes cannot be read", reason=str(error))
                continue
            if unknown and self.elsewhere is not None:
                if time.monotonic() < rest_until_s:
                    continue
                try:
                    await self._ask_elsewhere(self.elsewhere, state, unknown, stopping)
                except Unavailable as error:
                    pause_s = backoff_s(failures, ELSEWHERE_PAUSE_S, ELSEWHERE_PAUSE_MAX_S, jitter)
                    failures, rest_until_s = failures + 1, time.monotonic() + pause_s
                    self.log.warning("previous closes cannot be asked for", reason=str(error), pause_s=round(pause_s))
                    continue
                failures = 0
            asked = {key for key in asked if key[1] == today} | {(name, today) for _, name in wanted}

    async def _ask_store(self, state: LiveState, wanted: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
        """Take what is stored; the rest. Yesterday is the day before that of the symbol's own last trade."""
        by_day: dict[date, list[str]] = {}
        for symbol_id, name in wanted:
            by_day.setdefault(self.calendar.trade_date(state.last_trade_ts(symbol_id) or 0), []).append(name)
        found: dict[str, DayClose] = {}
        for day, names in by_day.items():
            found.update(await self.store.previous_close(self.feed, names, day))
        for symbol_id, name in wanted:
            if name in found:
                state.set_previous_close(symbol_id, found[name].close)
        return [(symbol_id, name) for symbol_id, name in wanted if name not in found]

    async def _ask_elsewhere(
        self, elsewhere: PreviousCloses, state: LiveState, unknown: Sequence[tuple[int, str]], stopping: asyncio.Event
    ) -> None:
        for symbol_id, name in unknown:
            if stopping.is_set():
                return
            close = await elsewhere.previous_close(name)
            if close is not None:
                state.set_previous_close(symbol_id, close)
