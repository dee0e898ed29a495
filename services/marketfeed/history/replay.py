"""`history replay`: a file through Kafka as if it were a feed, in event time or as fast as it goes.

Mechanism: blocks are decoded in a worker thread; each trade is due when the replay's clock has reached the highest
stamp before it, so the order of the file is kept. Trades go out as records of one epoch, as an ingest's do (`speaker`).
The feed's watermark is the file's time: the replay's clock at a pace, but not past the next trade, and the highest
stamp sent at full speed. At the end of the files it is moved on until all bars are FINAL.

A stamp that lies more than the allowed lateness below an earlier one ends the replay: it would be counted in no bar.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from marketfeed.domain.bar_window import CLOSE_AFTER_S, LATENESS_S
from marketfeed.domain.claims import ALIVE_EVERY_S, TAKEOVER_EVERY_S, WATERMARK_EVERY_S
from marketfeed.domain.errors import SettingError, Unavailable
from marketfeed.domain.trades import NANOS, Int64Array, TradeColumns
from marketfeed.history import metrics
from marketfeed.history.pipeline import PROGRESS_EVERY_S, blocks_of
from marketfeed.history.ports import BadLines, Producer, TradeSource
from marketfeed.history.progress import Progress
from marketfeed.history.settings import ReplaySettings
from marketfeed.history.speaker import Speaker
from marketfeed.runtime.logs import Logger
from marketfeed.runtime.tasks import TaskKit
from marketfeed.wire.trade_csv import Decoded

# Trades sent between two looks at the clock and at what Kafka has acknowledged.
_SLICE = 50_000
_PUMP_S = 0.002
_FLUSH_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast event time runs: `factor` times real time, None as fast as possible."""

    factor: float | None

    @classmethod
    def of(cls, text: str) -> Pace:
        """The pace of a setting: "max", "1", "60" … Raises SettingError."""
        if text == "max":
            return cls(None)
        try:
            factor = float(text)
        except ValueError:
            factor = 0.0
        if not 0 < factor < 1e6:
            raise SettingError("--speed", f"is {text!r}; it must be max or a number above 0, such as 1 or 60")
        return cls(factor)


class Replay:
    """Sends files to a feed."""

    def __init__(
        self,
        files: Sequence[TradeSource],
        bad_lines: BadLines,
        producer: Producer,
        settings: ReplaySettings,
        pace: Pace,
        instance: str,
        log: Logger,
    ) -> None:
        self.progress = Progress(sum(file.bytes_total for file in files), time.monotonic())
        self._files = files
        self._blocks = blocks_of(files)
        self._bad_lines = bad_lines
        self._producer = producer
        self._settings = settings
        self._pace = pace
        self._log = log
        self._speaker = Speaker(producer, settings.feed, settings.partitions, instance)
        self._reached = 0  # highest stamp of the blocks read so far
        self._begun: tuple[float, int] | None = None  # our clock and the file's, at the first trade
        self._next_s = {"alive": 0.0, "takeover": 0.0, "watermark": 0.0, "report": time.monotonic() + PROGRESS_EVERY_S}

    @property
    def sent(self) -> int:
        """Trades that Kafka has acknowledged."""
        return self._speaker.acknowledged

    async def run(self, stopping: asyncio.Event) -> bool:
        """Send everything and wait for its acknowledgement; False if it was told to stop before."""
        self.progress.phase = "reading"
        async with TaskKit("history") as tasks:
            pump = tasks.spawn("pump", self._pump())
            finished = await self._send_all(stopping)
            self.progress.phase = "storing"
            left = await self._producer.flush(_FLUSH_TIMEOUT_S)
            pump.cancel()
        if left:
            raise Unavailable("Kafka", self._settings.kafka, f"{left} records were not acknowledged")
        self.progress.phase = "done" if finished else "reading"
        return finished

    async def _send_all(self, stopping: asyncio.Event) -> bool:
        while not stopping.is_set() and (found := await asyncio.to_thread(self._next_block)) is not None:
            decoded, bytes_read = found
            bytes_before = self.progress.bytes_read if len(decoded.trades) else bytes_read
            self.progress.add(0, len(decoded.bad), bytes_before, time.monotonic())
            if len(decoded.trades):
                await self._send_block(decoded, self._due_stamps(decoded), bytes_read, stopping)
        finished = not stopping.is_set()
        if finished and not self._reached:
            raise SettingError("FILE", f"holds no trade that can be used ({self.progress.bad_lines} bad lines)")
        if finished:
            self._speaker.watermark(self._reached + (1 + CLOSE_AFTER_S + LATENESS_S) * NANOS)
        self._speaker.leave()
        return finished

    async def _pump(self) -> None:
        """Serve acknowledgements, and end everything when Kafka cannot be written to any more."""
        while True:
            self._producer.poll()
            if self._producer.failure is not None:
                raise self._producer.failure
            await asyncio.sleep(_PUMP_S)

    def _next_block(self) -> tuple[Decoded, int] | None:
        """Decode the next block; runs in a worker thread."""
        found = next(self._blocks, None)
        if found is None:
            return None
        _, decoded, bytes_read = found
        self._bad_lines.add(decoded.bad)
        for bad in decoded.bad:
            metrics.BAD_LINES.labels(bad.reason).inc()
        metrics.ROWS.inc(len(decoded.trades))
        return decoded, bytes_read

    def _due_stamps(self, decoded: Decoded) -> Int64Array:
        """The stamp that each trade waits for: the highest up to it. Raises SettingError for too much disorder."""
        event_ts = decoded.trades.event_ts
        due = np.maximum(np.maximum.accumulate(event_ts), self._reached)
        late = due - event_ts > LATENESS_S * NANOS
        if late.any():
            line = int(decoded.line[int(np.argmax(late))])
            raise SettingError(
                "FILE",
                f"line {line} is stamped more than {LATENESS_S // 60} minutes before an earlier line; sort the file by"
                " event_ts for a replay (an import takes any order)",
            )
        self._reached = int(due[-1])
        return due

    async def _send_block(self, decoded: Decoded, due: Int64Array, bytes_read: int, stopping: asyncio.Event) -> None:
        """Send a block at the pace. What is sent counts at once: at real time a block may take hours."""
        trades, bytes_before = decoded.trades, self.progress.bytes_read
        if self._speaker.unknown(trades.symbols):
            await self._speaker.claim(trades.symbols)
        if self._begun is None:
            self._begun = (time.monotonic(), int(due[0]))
        at = 0
        while at < len(trades) and not stopping.is_set():
            end = min(at + _SLICE, int(np.searchsorted(due, self._clock(), "right")))
            if end > at:
                self._speaker.send(_slice(trades, at, end), time.time_ns())
                self._speaker.note(int(due[end - 1]))
                reached = bytes_before + (bytes_read - bytes_before) * end // len(trades)
                self.progress.add(end - at, 0, reached, time.monotonic())
                at = end
            self._keep_alive(int(due[at]) if at < len(trades) else self._speaker.reached)
            await self._wait(stopping, idle=end < min(len(trades), at + _SLICE))

    def _clock(self) -> int:
        """What the file's time is now; the end of time at full speed."""
        if self._pace.factor is None:
            return 2**62
        assert self._begun is not None
        begun_s, first_ts = self._begun
        return first_ts + int((time.monotonic() - begun_s) * self._pace.factor * NANOS)

    async def _wait(self, stopping: asyncio.Event, *, idle: bool) -> None:
        """Wait for the next trades' time, or until Kafka has taken enough of what was sent."""
        await asyncio.sleep(self._settings.flush_interval_ms / 1e3 if idle else 0)
        bound = self._settings.buffer_bytes_max
        while self._producer.buffered_bytes > bound and not stopping.is_set():  # noqa: ASYNC110 (the pump tells nobody)
            await asyncio.sleep(_PUMP_S)

    def _keep_alive(self, next_ts: int) -> None:
        """The repeated records of an owner, and a line of progress; the next trade to send is due at `next_ts`.

        The clock may run ahead of decoding and of Kafka: time that is told must not pass what is still to be sent.
        """
        now_s = time.monotonic()
        if self._is_due("watermark", now_s, WATERMARK_EVERY_S):
            self._speaker.watermark(self._speaker.reached if self._pace.factor is None else min(self._clock(), next_ts))
        if self._is_due("alive", now_s, ALIVE_EVERY_S):
            self._speaker.alive()
        if self._is_due("takeover", now_s, TAKEOVER_EVERY_S):
            self._speaker.repeat_takeover()
        if self._is_due("report", now_s, PROGRESS_EVERY_S):
            self._log.info("replaying", **self.progress.status(now_s), sent=self.sent)

    def _is_due(self, what: str, now_s: float, every_s: float) -> bool:
        if now_s < self._next_s[what]:
            return False
        self._next_s[what] = now_s + every_s
        return True


def _slice(trades: TradeColumns, start: int, end: int) -> TradeColumns:
    """Trades start to end - 1 with the same dictionaries."""
    return TradeColumns(
        trades.symbols,
        trades.symbol_index[start:end],
        trades.event_ts[start:end],
        trades.price[start:end],
        trades.size[start:end],
        trades.condition_sets,
        trades.condition_index[start:end],
    )
