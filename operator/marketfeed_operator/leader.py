"""Which replica works: leader election by a Lease, with a pure election and a thin loop around it.

The `kubernetes` package has a Lease lock and an elector, but they set no time-out on their requests (one that hangs
outlives the deadline), end on a broken connection and cannot give the Lease back. The rules here are those of
Kubernetes' own components: a Lease is judged by when *this* process last saw it change, on its own monotonic clock,
so clocks of different machines need not agree.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from marketfeed_operator import metrics
from marketfeed_operator.cluster_errors import ClusterError, Conflict
from marketfeed_operator.logs import facts

log = logging.getLogger("operator.leader")


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What a Lease says. `holder` is empty when it was given back; `version` is the object's resourceVersion."""

    holder: str
    duration_s: float
    acquired: datetime
    renewed: datetime
    transitions: int = 0
    version: str = ""


@dataclass(frozen=True, slots=True)
class Election:
    """One candidate's view: who it is, what it saw and when (`seen_at`: own monotonic seconds)."""

    identity: str
    duration_s: float
    seen: LeaseRecord | None = None
    seen_at: float = 0.0

    def observe(self, record: LeaseRecord | None, now: float) -> Election:
        """The view after reading the Lease; only a change restarts the clock of the Lease's age."""
        if record == self.seen:
            return self
        return replace(self, seen=record, seen_at=now)

    def may_take(self, now: float) -> bool:
        """Whether the Lease is free, ours, or older than its holder promised."""
        if self.seen is None or self.seen.holder in ("", self.identity):
            return True
        return now - self.seen_at >= self.seen.duration_s

    def claim(self, wall: datetime) -> LeaseRecord:
        """The record to write to take or to renew."""
        seen = self.seen
        if seen is not None and seen.holder == self.identity:
            return replace(seen, renewed=wall, duration_s=self.duration_s)
        transitions = seen.transitions + 1 if seen is not None else 0
        version = seen.version if seen is not None else ""
        return LeaseRecord(self.identity, self.duration_s, wall, wall, transitions, version)

    def release(self, wall: datetime) -> LeaseRecord | None:
        """The record that gives the Lease back, or None if it is not ours."""
        if self.seen is None or self.seen.holder != self.identity:
            return None
        return replace(self.seen, holder="", duration_s=1.0, renewed=wall)


class LeaseStore(Protocol):
    """Where the Lease is kept. Each call raises ClusterError, and Conflict if somebody else wrote first."""

    async def read(self) -> LeaseRecord | None:
        """The Lease, or None if there is none."""

    async def write(self, record: LeaseRecord) -> LeaseRecord:
        """Create (version is empty) or replace the Lease; returns it as stored."""


Lead = Callable[[asyncio.Event], Awaitable[None]]


class Elector:
    """Runs `lead(over)` while this replica holds the Lease.

    `over` is set when leading has to end in order (shutdown); when the Lease is lost, `lead` is cancelled at once, so
    that it has ended before another replica may begin.
    """

    def __init__(
        self, store: LeaseStore, identity: str, duration_s: float, renew_deadline_s: float, retry_period_s: float
    ) -> None:
        self._store = store
        self._election = Election(identity, duration_s)
        self._renew_deadline_s = renew_deadline_s
        self._retry_period_s = retry_period_s
        self._jitter = random.Random()
        self._renewed_at = 0.0
        self._began_at = asyncio.get_running_loop().time()
        self._read_at: float | None = None
        self.held = False

    @property
    def holder(self) -> str:
        """Who holds the Lease as far as this replica has seen."""
        return self._election.seen.holder if self._election.seen else ""

    def renewal_age_s(self, now: float) -> float:
        """Seconds since the last successful renewal; 0 while not leading."""
        return now - self._renewed_at if self.held else 0.0

    @property
    def reached(self) -> bool:
        """Whether the Lease was ever read, or seen not to be there."""
        return self._read_at is not None

    def contact_age_s(self, now: float) -> float:
        """Seconds since the Lease was last read, whoever holds it; since the beginning if it never was."""
        return now - (self._began_at if self._read_at is None else self._read_at)

    async def run(self, stopping: asyncio.Event, lead: Lead) -> None:
        """Stand for election until `stopping`. An error of `lead` gives the Lease back, and it stands again."""
        while not stopping.is_set():
            if await self._try_once():
                await self._hold(stopping, lead)
            await self._pause(stopping)

    async def _hold(self, stopping: asyncio.Event, lead: Lead) -> None:
        self._set_held(True)
        over = asyncio.Event()
        lost = False
        try:
            async with asyncio.TaskGroup() as group:
                leading = group.create_task(_guarded(lead, over), name="leader/work")
                renewing = group.create_task(self._renew(), name="leader/renew")
                stop = group.create_task(stopping.wait(), name="leader/stopping")
                await asyncio.wait({leading, renewing, stop}, return_when=asyncio.FIRST_COMPLETED)
                lost = renewing.done()
                if lost:
                    leading.cancel()
                over.set()
                await asyncio.wait({leading})
                renewing.cancel()
                stop.cancel()
        finally:
            self._set_held(False)
        if not lost:
            await self._give_back()

    async def _renew(self) -> None:
        """Renew for ever; returns when the Lease is lost: taken by another, or not renewed by the deadline."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._retry_period_s)
            left_s = self._renewed_at + self._renew_deadline_s - loop.time()
            if await self._try_once(max(0.1, left_s)):
                continue
            taken = self.holder not in ("", self._election.identity)
            if taken or loop.time() - self._renewed_at >= self._renew_deadline_s:
                log.error("lost the Lease, stopping all work", extra=facts(holder=self.holder, taken=taken))
                return

    async def _try_once(self, limit_s: float | None = None) -> bool:
        """One attempt to take or renew; False on any failure, which the next attempt may mend."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        limit = min(self._renew_deadline_s / 2, limit_s if limit_s is not None else self._renew_deadline_s)
        try:
            async with asyncio.timeout(limit):
                found = await self._store.read()
                self._read_at = loop.time()
                self._election = self._election.observe(found, self._read_at)
                if not self._election.may_take(loop.time()):
                    return False
                stored = await self._store.write(self._election.claim(datetime.now(UTC)))
        except Conflict:
            return False
        except (ClusterError, TimeoutError) as error:
            log.warning("cannot reach the Lease", extra=facts(error=str(error) or "timed out", held=self.held))
            return False
        self._election = self._election.observe(stored, loop.time())
        # From the attempt's beginning: the server may have counted from then.
        self._renewed_at = began
        return True

    async def _give_back(self) -> None:
        record = self._election.release(datetime.now(UTC))
        if record is None:
            return
        try:
            async with asyncio.timeout(self._retry_period_s):
                await self._store.write(record)
        except (ClusterError, TimeoutError) as error:
            log.warning("could not give the Lease back", extra=facts(error=str(error) or "timed out"))
        else:
            log.info("gave the Lease back")

    def _set_held(self, held: bool) -> None:
        self.held = held
        metrics.LEADER.set(held)
        metrics.LEASE_TRANSITIONS.inc()
        log.info("leading" if held else "no longer leading", extra=facts(identity=self._election.identity))

    async def _pause(self, stopping: asyncio.Event) -> None:
        pause_s = self._retry_period_s * (1.0 + 0.2 * self._jitter.random())
        try:
            async with asyncio.timeout(pause_s):
                await stopping.wait()
        except TimeoutError:
            return


async def _guarded(lead: Lead, over: asyncio.Event) -> None:
    """`lead`, whose crash ends the leadership and not the process: another replica or the next try may do better."""
    try:
        await lead(over)
    except Exception:
        log.exception("leading failed; giving the Lease back")
