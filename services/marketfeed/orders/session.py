"""One stay as the writer: the desk as loaded, and turns that let what waits act on it, store it, and only then answer.

A turn takes everything that waits, so that many commands and batches of the tape share one transaction. Its first
statement is the check of the expected place: a process that was overtaken answers nothing. Any error ends the stay;
what was in memory is thrown away, and those who waited are told to ask again with the same client order id.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from marketfeed.domain.errors import CallRefused
from marketfeed.domain.order_commands import Answer, KnownOrders, carry_out, keys_of, numbers_of
from marketfeed.domain.order_desk import Desk
from marketfeed.domain.order_states import OrderState
from marketfeed.domain.orders import OrderChange, OrderCommit
from marketfeed.orders import metrics
from marketfeed.orders.inbox import Asked
from marketfeed.orders.ports import TapeBegins, TapeEvent, TapeHole, TapePasses, TapePrints, Writer
from marketfeed.runtime.logs import get_logger

log = get_logger("orders.session")


@dataclass(slots=True)
class TapeStatus:
    """What the tape has said last, by the service's clock (Unix ns; 0: nothing yet)."""

    began: bool = False
    heard_ts: int = 0
    watermark_ts: int = 0
    newest_ts: int = 0

    def age_s(self, now_ns: int) -> float:
        """Age of what is known: up to the watermark, or else the newest trade."""
        known_ts = max(self.watermark_ts, self.newest_ts)
        return (now_ns - known_ts) / 1e9 if known_ts else -1.0

    def is_fresh(self, now_ns: int, fresh_ms: int) -> bool:
        """Whether it speaks, and of now."""
        limit_s = fresh_ms / 1000
        return self.began and now_ns - self.heard_ts <= fresh_ms * 1_000_000 and 0 <= self.age_s(now_ns) <= limit_s


class Session:
    """The desk and its storage, from `claim` on. `publish` gets the changes of a turn once they are stored."""

    def __init__(
        self,
        writer: Writer,
        desk: Desk,
        position: str,
        tape: TapeStatus,
        publish: Callable[[Sequence[OrderChange]], None],
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._writer = writer
        self.desk = desk
        self._stored_position = position
        self.position = position
        self._tape = tape
        self._publish = publish
        self._clock = clock
        self._stored_s = time.monotonic()

    async def turn(self, items: Sequence[Asked | TapeEvent], store_anyway_s: float) -> None:
        """Let all of it act, store it, answer. Raises StalePosition, Unavailable: then nothing was answered.

        With nothing to tell, the tape's place is stored every `store_anyway_s`.
        """
        commands = [item.command for item in items if isinstance(item, Asked)]
        stored = await self._writer.find(keys_of(commands), numbers_of(commands)) if commands else []
        began_s = time.perf_counter()
        answers = self._act(items, KnownOrders(self.desk, stored))
        metrics.APPLY_S.observe(time.perf_counter() - began_s)
        changes = self.desk.take_changes()
        if changes or commands or time.monotonic() - self._stored_s >= store_anyway_s:
            await self._store(changes, len(commands))
        for asked, answer in answers:
            if isinstance(answer, CallRefused):
                metrics.REFUSED.labels(answer.reason).inc()
                asked.refuse(answer)
            else:
                asked.give(answer)
        self._publish(changes)

    def _act(self, items: Sequence[Asked | TapeEvent], known: KnownOrders) -> list[tuple[Asked, Answer | CallRefused]]:
        answers: list[tuple[Asked, Answer | CallRefused]] = []
        for item in items:
            if not isinstance(item, Asked):
                self._hear(item)
                continue
            try:
                answers.append((item, carry_out(item.command, self.desk, known, self._clock())))
            except CallRefused as refused:
                answers.append((item, refused))
        self.desk.tick(self._clock())
        return answers

    def _hear(self, event: TapeEvent) -> None:
        now_ns = self._tape.heard_ts = self._clock()
        match event:
            case TapePrints():
                metrics.PRINTS.inc(len(event.prints))
                metrics.PRINTS_LOOKED_AT.inc(self.desk.prints(event.prints, now_ns))
                self._tape.newest_ts = max(self._tape.newest_ts, int(event.prints.event_ts.max(initial=0)))
                self.position = event.position
            case TapePasses():
                self._tape.watermark_ts = max(self._tape.watermark_ts, event.watermark_ts)
                self.desk.passes(event.watermark_ts, now_ns)
                self.position = event.position
            case TapeHole():
                self.desk.gap(event.symbols, event.from_ts, event.to_ts, now_ns)
            case TapeBegins():
                self._begin(event, now_ns)

    def _begin(self, event: TapeBegins, now_ns: int) -> None:
        """The first stream of a feed has no place to go on from: nothing is missing, unless orders are here already."""
        lost = not event.recovered and (bool(self.position) or len(self.desk.book) > 0)
        self.desk.tape_begins(not lost, now_ns)
        if lost:
            metrics.TAPES_LOST.inc()
            log.warning("the tape has a hole: working orders are suspended", position=event.position)
        self.position = event.position
        self._tape.began = True

    async def _store(self, changes: Sequence[OrderChange], commands: int) -> None:
        desk = self.desk
        began_s = time.perf_counter()
        await self._writer.commit(
            OrderCommit(changes, self._stored_position, self.position, desk.tape, desk.next_order, desk.next_fill)
        )
        self._stored_position, self._stored_s = self.position, time.monotonic()
        metrics.COMMIT_S.observe(time.perf_counter() - began_s)
        metrics.TURN_COMMANDS.observe(commands)
        for change in changes:
            metrics.STEPS.labels(change.order.state.name.lower()).inc()
            if change.fill is not None:
                metrics.FILLS.labels("market" if change.fill.print is None else "print").inc()

    def measure(self) -> dict[str, int]:
        """Working and suspended orders."""
        states = [order.state for order in self.desk.book]
        working, suspended = len(states), states.count(OrderState.SUSPENDED)
        metrics.WORKING.set(working)
        metrics.SUSPENDED.set(suspended)
        return {"working": working, "suspended": suspended}
