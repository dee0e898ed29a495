"""Speaking for symbols: follows `<feed>.control`, claims, takes over, reconciles, and stays known to be alive.

What to do is decided by `domain/claims.py`; this file does it. Rules of this file
- Records of `<feed>.control` go straight to the producer, never through the spool, and signs of life one at a time:
  while one is not acknowledged no other is sent, so no stale ones pile up for when Kafka is back.
- Nobody is heard while Kafka does not answer us, so then silence proves nothing (`Claimant.deaf`).
- A take-over is a task of its own; until it is live its symbols' trades are buffered. What a previous run left in the
  spool is published first, then the buffer, each less what the log counts already.
- A gap is owed for the symbols of which our connection did not yet carry everything at their predecessor's watermark.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from marketfeed.domain.claim_actions import (
    Action,
    KeepBuffer,
    RepeatTakeover,
    SendAlive,
    SendClaim,
    SendPreparing,
    SendWatermark,
    TakeOver,
    Withdraw,
    Yield,
)
from marketfeed.domain.claims import Claimant
from marketfeed.domain.errors import LogTrimmed, Unavailable
from marketfeed.domain.log import Alive, Claim, ControlBody, Logged, Preparing
from marketfeed.domain.reconciliation import READ_BACK_NS
from marketfeed.ingest.buffer import StandbyBuffer
from marketfeed.ingest.cutter import Cutter
from marketfeed.ingest.pipeline import Pipeline
from marketfeed.ingest.sender import Sender
from marketfeed.ingest.takeover import TakeoverDesk
from marketfeed.runtime.logs import get_logger
from marketfeed.runtime.tasks import TaskKit
from marketfeed.wire.records import FEED_HEADER, KIND_HEADER, SHARD_HEADER, encode_body

_log = get_logger("owner")

_TICK_S = 0.05
_FORESEE_TICKS = 5
# Own control records unanswered for this long: we are cut off, and others' silence is ours.
_DEAF_AFTER_S = 2.0
# How much of <feed>.control is read at the start: the last Alive of everyone who is of interest is in there.
_HISTORY_RECORDS = 20_000
_RETRY_S = 0.3
_EPOCHS_KEPT = 10_000


class ControlReader(Protocol):
    """What is used of a reader of `<feed>.control`; see `adapters.kafka.LogConsumer`."""

    positions: dict[int, int]

    async def assign(self, positions: Mapping[int, int], topic_id: str | None = None) -> None:
        """Read from these offsets."""

    async def poll(self, max_records: int = 500, timeout_s: float = 0.5, gather_s: float = 0.0) -> list[Logged]:
        """Records in order."""

    async def begin_offsets(self) -> dict[int, int]:
        """First offsets."""

    async def end_offsets(self) -> dict[int, int]:
        """Offsets after the last records."""


class Owner:
    """The ownership of one process' symbols, from standby to leaving."""

    def __init__(
        self,
        claimant: Claimant,
        control: ControlReader,
        control_topic: str,
        feed: str,
        cutter: Cutter,
        sender: Sender,
        pipeline: Pipeline,
        buffer: StandbyBuffer,
        desk: TakeoverDesk,
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called whenever the set of symbols that are published has changed."""
        self._claimant = claimant
        self._control = control
        self._control_topic = control_topic
        self._headers = {FEED_HEADER: feed, SHARD_HEADER: claimant.shard}
        self._cutter = cutter
        self._sender = sender
        self._pipeline = pipeline
        self._buffer = buffer
        self._desk = desk
        desk.owners_at = self._owners_at
        self._alive_since: dict[int, int] = {}  # epoch -> when its first sign of being live was logged (Unix ns)
        self._changed = changed
        self._unanswered: dict[str, float] = {}  # kind -> when the one on its way was sent (monotonic)
        self._control_end = 0
        self._claim_due: Claim | None = None  # one that no producer has taken yet
        self._deaf = False
        # Why `<feed>.control` cannot be followed at present; empty when it can.
        self.trouble = ""

    @property
    def cut_off(self) -> bool:
        """Whether Kafka leaves our control records unanswered."""
        return any(time.monotonic() - sent_s > _DEAF_AFTER_S for sent_s in self._unanswered.values())

    async def run(self, tasks: TaskKit) -> None:
        """Do what is due, for ever; take-overs become tasks of `tasks`."""
        for tick in itertools.count():
            self._listen()
            self.act(tasks)
            if tick % _FORESEE_TICKS == 0:
                self._desk.foresee(self._claimant.foreseen(time.monotonic()), tasks)
            await asyncio.sleep(_TICK_S)

    async def follow_control(self, tasks: TaskKit) -> None:
        """Read `<feed>.control` for ever, tell the claimant and do what it says to that.

        Without a pause in between: a take-over must not go live after a higher claim has been read.
        """
        await self._assign()
        while True:
            try:
                records = await self._control.poll(2000, 0.5)
            except LogTrimmed:
                await self._assign()
                continue
            except Unavailable as error:
                self.trouble = str(error)
                await asyncio.sleep(_RETRY_S)
                continue
            now_s = time.monotonic()
            for record in records:
                if isinstance(record.body, ControlBody):
                    self._note_alive(record.body, record.append_ts)
                    self._claimant.see(record.offset, record.body, now_s)
                    self._forget_what_is_logged(record.body)
            self.act(tasks)
            self.trouble = ""

    async def leave(self, timeout_s: float) -> None:
        """Say that nobody is spoken for any more, so that a successor need not wait. After everything was sent."""
        live = tuple(sorted(self._claimant.live_epochs()))
        self._claimant.leave()
        # First the watermark that was reached, for a small gap; then that nobody is spoken for.
        for epochs in (live, ()) if live else ():
            self._unanswered.pop("alive", None)
            self._send_alive(epochs)
        deadline_s = time.monotonic() + timeout_s
        while "alive" in self._unanswered and time.monotonic() < deadline_s:
            self._sender.pump()
            await asyncio.sleep(0.005)

    def act(self, tasks: TaskKit) -> None:
        """Everything that is due now."""
        if self._claim_due is not None:
            self._send(self._claim_due)
        self._claimant.prepared(self._pipeline.whole_from(self._claimant.missing()))
        for action in self._claimant.due(time.monotonic()):
            self._do(action, tasks)

    def _do(self, action: Action, tasks: TaskKit) -> None:
        match action:
            case SendClaim(claim):
                _log.info("claiming", symbols=len(claim.symbols), shard=claim.shard)
                self._send(replace(claim, held_from_ts=self._pipeline.held_from_ts()))
            case TakeOver():
                self._take_over(action, tasks)
            case Withdraw(epoch, symbols):
                _log.info("a higher claim came first", epoch=epoch, symbols=len(symbols))
                self._desk.withdraw(epoch, symbols)
            case KeepBuffer(challenger, symbols):
                _log.info("challenged", by=challenger, symbols=len(symbols))
                self._pipeline.keep_too(symbols)
            case Yield(symbols, to_epoch):
                _log.info("yielding", to=to_epoch, symbols=len(symbols))
                self._pipeline.flush()
                self._pipeline.yielding(symbols)
                self._cutter.park(symbols)
                self._pipeline.stop_keeping(symbols)
                self._buffer.take(symbols)
                self._owned_changed()
            case RepeatTakeover(epoch, symbols):
                self._desk.send_takeover(epoch, symbols, None)
            case SendPreparing(epoch):
                self._send(Preparing(epoch, self._claimant.shard, self._claimant.instance))
            case SendAlive(epochs):
                self._send_alive(epochs)
            case SendWatermark():
                self._pipeline.send_watermarks()

    def _take_over(self, action: TakeOver, tasks: TaskKit) -> None:
        epoch, symbols = action.epoch, action.symbols
        self._pipeline.flush()
        # Trades under an epoch whose marker found no room would count for nobody: then it is as with a stranger's.
        if not action.reconcile and not self._desk.send_takeover(epoch, symbols, None):
            self._live(epoch, symbols)
            return
        self._cutter.park(symbols)
        self._pipeline.stop_keeping(symbols)  # What was kept stays in the buffer; parked trades go there by themselves.
        self._owned_changed()
        work = self._desk.take_over(epoch, symbols, action.predecessors, self._live, known=action.known)
        tasks.spawn(f"take-over-{epoch}", work)

    def _live(self, epoch: int, symbols: tuple[str, ...]) -> None:
        """The moment from which trades of these symbols are published as they come."""
        self._cutter.publish(symbols, epoch)
        self._pipeline.stop_keeping(symbols)
        self._owned_changed()
        self._claimant.went_live(epoch, time.monotonic())
        if self._claimant.settled and not self._claimant.missing():
            self._buffer.clear()
        _log.info("live", epoch=epoch, symbols=len(symbols))

    def _owned_changed(self) -> None:
        """The partitions of ours may be others now; an acknowledged watermark is carried over, and lowered only to what
        a take-over has just published from: no acknowledgement speaks for that yet.

        Before the first acknowledgement it is a predecessor's, else where what we hold begins: an `Alive` must not say
        0, as a successor would then know no place to begin its gap.
        """
        pipeline = self._pipeline
        floor_ts = pipeline.acked.value or self._desk.predecessors_watermark or pipeline.held_from_ts()
        pipeline.acked.speak_for(self._cutter.epochs_by_partition(), floor_ts)
        published_from_ts, self._desk.published_from_ts = self._desk.published_from_ts, None
        if published_from_ts is not None:
            pipeline.acked = pipeline.acked.lowered(published_from_ts)
        self._changed()

    def _send_alive(self, epochs: tuple[int, ...]) -> None:
        pipeline = self._pipeline
        lateness_ns = pipeline.clock.lateness_ns(time.time_ns())
        alive = Alive(epochs, self._claimant.shard, self._claimant.instance, pipeline.acked.value, lateness_ns)
        self._send(alive)

    def _send(self, body: Claim | Preparing | Alive) -> None:
        """Append to `<feed>.control`, unless one of this kind is still on its way."""
        kind, value = encode_body(body)
        producer = self._sender.producer
        if isinstance(body, Claim):  # The claimant waits for its answer, so it is not left out like a sign of life.
            self._claim_due = body if producer.failure is not None else None
        if producer.failure is not None or (kind in self._unanswered and kind != "claim"):
            return
        self._unanswered[kind] = time.monotonic()
        headers = {KIND_HEADER: kind, **self._headers}
        producer.send(self._control_topic, 0, value, headers, lambda _: self._answered(kind))

    def _answered(self, kind: str) -> None:
        self._unanswered.pop(kind, None)

    def _listen(self) -> None:
        """Tell the claimant whether what it hears is all there is."""
        now_s = time.monotonic()
        position = self._control.positions.get(0)
        caught_up = position is not None and position >= self._control_end and not self.trouble
        if self._deaf is False and (self.cut_off or self.trouble):
            self._deaf = True
            self._claimant.deaf(now_s)
        elif caught_up and not self.cut_off and (self._deaf or self._claimant.phase == "following"):
            self._deaf = False
            self._claimant.caught_up(now_s)

    def _note_alive(self, body: ControlBody, append_ts: int) -> None:
        if isinstance(body, Alive):
            for epoch in body.epochs:
                self._alive_since.setdefault(epoch, append_ts)
            while len(self._alive_since) > _EPOCHS_KEPT:
                del self._alive_since[next(iter(self._alive_since))]

    def _owners_at(self, symbols: Iterable[str], since_ts: int) -> Mapping[str, int] | None:
        """The owners of these symbols, if each was live before that time already."""
        names = frozenset(symbols)
        owners = self._claimant.last_live(names)
        if owners is None or len(owners) < len(names):
            return None
        if any(self._alive_since.get(epoch, since_ts) >= since_ts for epoch in owners.values()):
            return None
        return owners

    def _forget_what_is_logged(self, body: ControlBody) -> None:
        """As a standby keep what is newer than the owners' logged watermark less the time that is read back."""
        if not isinstance(body, Alive) or body.instance == self._claimant.instance or not self._claimant.settled:
            return
        if logged_until := self._claimant.logged_until():
            self._buffer.forget_before(logged_until - READ_BACK_NS)

    async def _assign(self) -> None:
        """Start (again) from far enough back, up to where the log ends now."""
        while True:
            try:
                begin, end = await self._control.begin_offsets(), await self._control.end_offsets()
                self._control_end = end[0]
                await self._control.assign({0: max(begin[0], end[0] - _HISTORY_RECORDS)})
            except Unavailable as error:
                self.trouble = str(error)
                await asyncio.sleep(_RETRY_S)
                continue
            self.trouble = ""
            return
