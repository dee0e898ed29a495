"""The middle of mds: the live state, its frames, the clients, and whoever waits for the log to get somewhere.

While there is no state (the log or every store is away at the start) nobody is served. When the log is replaced the
state is, too, and all clients are told to come back: their ids and positions mean nothing any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from marketfeed.domain.client_messages import CloseCode, Goodbye
from marketfeed.domain.errors import Unavailable
from marketfeed.domain.log import Logged
from marketfeed.mds import metrics
from marketfeed.mds.clients import Client
from marketfeed.mds.fanout import Fanout
from marketfeed.mds.frames import Frames
from marketfeed.mds.live import LiveState
from marketfeed.runtime import tracing
from marketfeed.wire.records import TRACEPARENT_HEADER


class Hub:
    """One per process. `on_goodbye` ends a client's connection; `on_appeared` is told of symbols seen first."""

    def __init__(self, tick_ms: int, heartbeat_ms: int, on_goodbye: Callable[[Client, Goodbye], None]) -> None:
        self._tick_ms = tick_ms
        self._heartbeat_ms = heartbeat_ms
        self._on_goodbye = on_goodbye
        self.on_appeared: Callable[[set[int]], None] = lambda _: None
        self._state: LiveState | None = None
        self._frames: Frames | None = None
        self._fanout: Fanout | None = None
        self._waiting: set[tuple[int, int, asyncio.Future[None]]] = set()
        self._turn: asyncio.Future[None] | None = None
        self._committed: dict[int, int] = {}
        self._unsent_trace: str | None = None  # of what was applied since the last turn of the fan-out
        self.lag_s = 0.0

    @property
    def serving(self) -> bool:
        """Whether there is a state to serve."""
        return self._state is not None

    @property
    def state(self) -> LiveState:
        """The live state; only while `serving`."""
        assert self._state is not None
        return self._state

    @property
    def frames(self) -> Frames:
        """Messages about the state; only while `serving`."""
        assert self._frames is not None
        return self._frames

    @property
    def fanout(self) -> Fanout:
        """The clients; only while `serving`."""
        assert self._fanout is not None
        return self._fanout

    def begin(self, state: LiveState) -> None:
        """Serve this state from now on; clients of another one must come back."""
        if self._fanout is not None:
            for client in self._fanout.everyone():
                self._fanout.dismiss(client, Goodbye(CloseCode.RESTART, "the log was replaced"))
        for _, _, waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(Unavailable("log", state.topic_id, "it was replaced"))
        self._waiting.clear()
        self._state = state
        self._frames = Frames(state)
        self._fanout = Fanout(self._frames, self._tick_ms, self._on_goodbye, self._heartbeat_ms)

    def apply(self, records: Sequence[Logged]) -> None:
        """Let records happen, and wake whoever waited for them."""
        started_s = time.perf_counter()
        state = self.state
        parent = records[-1].headers.get(TRACEPARENT_HEADER) if records and tracing.enabled() else None
        with tracing.continued("mds.apply", parent, records=len(records)):
            metrics.TRADES.inc(state.apply(records, time.monotonic()))
            self._unsent_trace = tracing.current_traceparent() or self._unsent_trace
        if records:
            self.lag_s = max(0.0, time.time() - max(record.append_ts for record in records[-8:]) / 1e9)
        else:
            self.lag_s = 0.0  # nothing is waiting
        metrics.LAG_S.set(self.lag_s)
        metrics.APPLY_S.observe(time.perf_counter() - started_s)
        if self._waiting:
            self._wake(state.next_offsets)

    async def reached(self, partition: int, offset: int, timeout_s: float) -> bool:
        """Wait until everything before `offset` is applied; False if that takes longer than `timeout_s`.

        Raises Unavailable when the log is replaced meanwhile.
        """
        if self.state.next_offsets.get(partition, 0) >= offset:
            return True
        waiter = asyncio.get_running_loop().create_future()
        entry = (partition, offset, waiter)
        self._waiting.add(entry)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(entry)
        return True

    def refresh(self) -> None:
        """Make all that has been applied a version, and frames be made of it with the stamp of now."""
        now_s = time.monotonic()
        self._commit(now_s)
        self.fanout.begin(now_s, time.time_ns())

    def tick(self) -> None:
        """One turn of the fan-out."""
        now_s = time.monotonic()
        self._commit(now_s)
        self.frames.lag_ms = round(self.lag_s * 1000)
        trace, self._unsent_trace = self._unsent_trace, None
        with tracing.continued("mds.send", trace, clients=self.fanout.clients):
            self.fanout.tick(now_s, time.time_ns())
        metrics.TICK_S.observe(time.monotonic() - now_s)

        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)
        self._turn = None

    async def turned(self) -> None:
        """Wait for the end of the next turn: everything applied until then is in bars and quotes."""
        if self._turn is None:
            self._turn = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._turn)

    def judge_sources(self) -> None:
        """Tell clients whose symbols went stale, down or live again."""
        self.state.judge_sources(self.fanout.watched, time.monotonic(), time.time_ns())

    @property
    def committed(self) -> dict[int, int]:
        """The first offset of each partition that is in no version yet: bars and quotes are of everything before."""
        return dict(self._committed)

    def _commit(self, now_s: float) -> None:
        self._committed = self.state.next_offsets
        self.state.minutes.watched = self.fanout.minutes_watched
        if appeared := self.state.commit(now_s):
            self.on_appeared(appeared)

    def _wake(self, offsets: dict[int, int]) -> None:
        for entry in tuple(self._waiting):
            partition, offset, waiter = entry
            if offsets.get(partition, 0) >= offset and not waiter.done():
                waiter.set_result(None)
