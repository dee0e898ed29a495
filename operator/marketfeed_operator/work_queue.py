"""Our own queue of resources to reconcile: one entry a resource, one run at a time, back-off per resource.

kopf does not retry what `on.event` handlers raise, and its timers put finalizers on resources, so events end here. The
`Schedule` is pure, time is an argument; `WorkQueue` runs it with a fixed number of workers. A resource that fails waits
out its own pause and nobody else's; what comes in meanwhile is remembered once.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from marketfeed_operator import metrics
from marketfeed_operator.logs import facts

log = logging.getLogger("operator.queue")

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `failed`: try again with back-off; `again_after_s`: look again then, although all is well."""

    failed: bool = False
    again_after_s: float | None = None
    at_least_s: float = 0.0  # of a failure: the pause that the API server asked for


DONE = Outcome()


@dataclass(slots=True)
class _Entry:
    due: float | None = None
    since: float = 0.0
    running: bool = False
    failures: int = 0
    not_before: float = 0.0
    pending: tuple[float, bool] | None = None  # asked for while running: when, and whether urgently


@dataclass(slots=True)
class Schedule:
    """Which resource is due when.

    settle_s   an event waits so long for the ones that follow it
    base_s, cap_s   the pause after the first failure and the longest one
    limit      resources that may wait; an addition beyond it is refused
    """

    settle_s: float = 0.2
    base_s: float = 1.0
    cap_s: float = 60.0
    limit: int = 10_000
    jitter: random.Random = field(default_factory=random.Random)
    _entries: dict[Key, _Entry] = field(default_factory=dict)
    _heap: list[tuple[float, Key]] = field(default_factory=list)

    def add(self, key: Key, now: float, *, after_s: float | None = None, urgent: bool = False) -> bool:
        """Ask for a run of `key`; says False if there is no room for it.

        `urgent` (the specification changed) forgets the back-off; anything else waits until it is over.
        """
        entry = self._entries.get(key)
        if entry is None:
            if self.depth >= self.limit:
                return False
            entry = self._entries[key] = _Entry()
        due = now + (self.settle_s if after_s is None else after_s)
        if entry.running:
            earlier = entry.pending is None or due < entry.pending[0]
            entry.pending = (
                due if earlier or entry.pending is None else entry.pending[0],
                urgent or (entry.pending is not None and entry.pending[1]),
            )
            return True
        if urgent:
            entry.failures, entry.not_before = 0, 0.0
        self._set_due(key, entry, max(due, entry.not_before), now)
        return True

    def _set_due(self, key: Key, entry: _Entry, due: float, now: float) -> None:
        if entry.due is not None and entry.due <= due:
            return
        if entry.due is None:
            entry.since = due
        entry.since = min(entry.since, due)
        entry.due = due
        heapq.heappush(self._heap, (due, key))

    def next_due(self) -> float | None:
        """When the next run is due; None if nothing waits."""
        while self._heap:
            due, key = self._heap[0]
            entry = self._entries.get(key)
            if entry is not None and entry.due == due and not entry.running:
                return due
            heapq.heappop(self._heap)
        return None

    def take(self, now: float) -> Key | None:
        """The resource to run now, if one is due; it counts as running until `finished`."""
        due = self.next_due()
        if due is None or due > now:
            return None
        _, key = heapq.heappop(self._heap)
        entry = self._entries[key]
        entry.due, entry.running = None, True
        return key

    def finished(self, key: Key, outcome: Outcome, now: float) -> None:
        """The run of `key` ended: schedule the retry, the next look, or what came in meanwhile."""
        entry = self._entries[key]
        entry.running = False
        pending, entry.pending = entry.pending, None
        if outcome.failed:
            pause = max(self.backoff_s(entry.failures), outcome.at_least_s)
            entry.failures += 1
            entry.not_before = now + pause
            self._set_due(key, entry, entry.not_before, now)
        else:
            entry.failures, entry.not_before = 0, 0.0
            if outcome.again_after_s is not None:
                self._set_due(key, entry, now + outcome.again_after_s, now)
        if pending is not None:
            due, urgent = pending
            self.add(key, now, after_s=max(0.0, due - now), urgent=urgent)
        if entry.due is None:
            del self._entries[key]

    def backoff_s(self, failures: int) -> float:
        """Pause after `failures` earlier failures: doubling, capped, half of it random."""
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(failures, 32))
        return ceiling * (0.5 + 0.5 * self.jitter.random())

    def forget(self, key: Key) -> None:
        """The resource is gone: nothing of it waits any more."""
        entry = self._entries.get(key)
        if entry is None:
            return
        entry.due, entry.pending = None, None
        if not entry.running:
            del self._entries[key]

    @property
    def depth(self) -> int:
        """Resources that wait for a run, those in a pause included."""
        return sum(1 for entry in self._entries.values() if entry.due is not None)

    def _overdue(self, now: float) -> Iterator[float]:
        for entry in self._entries.values():
            if entry.due is not None and entry.due <= now:
                yield now - entry.due

    def oldest_s(self, now: float) -> float:
        """How long the most overdue resource has waited for a worker."""
        return max(self._overdue(now), default=0.0)


Work = Callable[[Key], Awaitable[Outcome]]


class WorkQueue:
    """Workers over a `Schedule`. `run_worker` is spawned once per worker by the owner of the task group."""

    def __init__(self, schedule: Schedule, work: Work, timeout_s: float) -> None:
        self._schedule = schedule
        self._work = work
        self._timeout_s = timeout_s
        self._changed = asyncio.Event()

    def add(self, key: Key, *, after_s: float | None = None, urgent: bool = False) -> None:
        """Ask for a run; a full queue drops it with a counter, the resync brings it back."""
        if not self._schedule.add(key, self._now(), after_s=after_s, urgent=urgent):
            metrics.QUEUE_DROPPED.inc()
            return
        metrics.QUEUE_DEPTH.set(self._schedule.depth)
        self._changed.set()

    def forget(self, key: Key) -> None:
        """Drop what waits for a resource that is gone."""
        self._schedule.forget(key)

    def oldest_s(self) -> float:
        """How long the most overdue resource has waited."""
        return self._schedule.oldest_s(self._now())

    async def run_worker(self) -> None:
        """Take and run, for ever. Ends by cancellation only."""
        while True:
            key = await self._next()
            outcome = Outcome(failed=True)
            try:
                async with asyncio.timeout(self._timeout_s):
                    outcome = await self._work(key)
            except TimeoutError:
                metrics.RECONCILE_ERRORS.labels("Timeout").inc()
                log.error("reconcile took too long", extra=facts(feed="/".join(key), limit_s=self._timeout_s))
            except Exception:
                # A bug in the work of one resource must not end the others; it is logged whole and tried again.
                metrics.RECONCILE_ERRORS.labels("Bug").inc()
                log.exception("reconcile crashed", extra=facts(feed="/".join(key)))
            finally:
                self._schedule.finished(key, outcome, self._now())
                self._changed.set()
                metrics.QUEUE_DEPTH.set(self._schedule.depth)

    async def _next(self) -> Key:
        while True:
            if (key := self._schedule.take(self._now())) is not None:
                return key
            self._changed.clear()
            due = self._schedule.next_due()
            try:
                async with asyncio.timeout(None if due is None else max(0.0, due - self._now())):
                    await self._changed.wait()
            except TimeoutError:
                continue

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
