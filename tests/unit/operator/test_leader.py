"""Leader election: at most one replica works, a dead one is replaced in time, a stopping one hands over at once."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from tests.unit.operator import virtual_time

from marketfeed_operator.cluster_errors import Conflict, Unavailable
from marketfeed_operator.leader import Election, Elector, LeaseRecord
from marketfeed_operator.lease import body_of, record_of

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@dataclass
class MemoryLease:
    """The API server's part: compare-and-swap by version. `cut` holds those whose requests never come back."""

    stored: LeaseRecord | None = None
    cut: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)


@dataclass
class Line:
    """One replica's connection to the lease."""

    lease: MemoryLease
    who: str

    async def read(self) -> LeaseRecord | None:
        await self._travel()
        return self.lease.stored

    async def write(self, record: LeaseRecord) -> LeaseRecord:
        await self._travel()
        stored = self.lease.stored
        if (stored.version if stored else "") != record.version:
            raise Conflict("PUT lease", 409, "changed")
        self.lease.stored = replace(record, version=str(int(record.version or 0) + 1))
        return self.lease.stored

    async def _travel(self) -> None:
        await asyncio.sleep(0.01)
        if self.who in self.lease.cut:
            await asyncio.Event().wait()
        if self.who in self.lease.refused:
            raise Unavailable("GET lease", 0, "connection refused")


@dataclass
class Replica:
    """An elector and a diary of when it led."""

    lease: MemoryLease
    who: str
    spans: list[list[float]] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    crash_after_s: float | None = None
    winds_down_s: float = 0.0

    async def run(self) -> None:
        await Elector(Line(self.lease, self.who), self.who, 15.0, 10.0, 2.0).run(self.stopping, self._lead)

    async def _lead(self, over: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        span = [loop.time(), float("inf")]
        self.spans.append(span)
        try:
            if self.crash_after_s is not None:
                await asyncio.sleep(self.crash_after_s)
                raise ZeroDivisionError
            await over.wait()
            await asyncio.sleep(self.winds_down_s)
        finally:
            span[1] = loop.time()


def never_together(*replicas: Replica) -> bool:
    spans = sorted(span for replica in replicas for span in replica.spans)
    return all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans))


async def for_a_while(replicas: list[Replica], story: list[tuple[float, object]]) -> None:
    """Run replicas; each (pause, action) of the story is waited for and done; then all stop."""
    async with asyncio.TaskGroup() as group:
        for replica in replicas:
            group.create_task(replica.run())
        for pause_s, action in story:
            await asyncio.sleep(pause_s)
            if callable(action):
                action()
        for replica in replicas:
            replica.lease.cut.discard(replica.who)
            replica.stopping.set()


def test_one_of_two_leads_and_hands_over_at_once_when_it_stops() -> None:
    """The second replica leads within a retry period after the first stopped in order, and not before it ended."""

    async def main() -> tuple[Replica, Replica]:
        lease = MemoryLease()
        first, second = Replica(lease, "first", winds_down_s=5.0), Replica(lease, "second")
        async with asyncio.TaskGroup() as group:
            group.create_task(first.run())
            await asyncio.sleep(1.0)
            group.create_task(second.run())
            await asyncio.sleep(60.0)
            first.stopping.set()
            await asyncio.sleep(30.0)
            second.stopping.set()
        return first, second

    first, second = virtual_time.run(main())
    assert len(first.spans) == 1
    assert len(second.spans) == 1
    assert never_together(first, second)
    assert 0.0 < second.spans[0][0] - first.spans[0][1] < 3.0


@pytest.mark.parametrize("how", ["cut", "refused"])
def test_a_leader_that_cannot_renew_stops_before_another_begins(how: str) -> None:
    """Whether its requests hang or fail, it stops within the deadline, and the other leads within 20 s."""

    async def main() -> tuple[Replica, Replica, float]:
        lease = MemoryLease()
        first, second = Replica(lease, "first"), Replica(lease, "second")
        cut_at = 0.0

        def cut() -> None:
            nonlocal cut_at
            cut_at = asyncio.get_running_loop().time()
            (lease.cut if how == "cut" else lease.refused).add("first")

        async with asyncio.TaskGroup() as group:
            group.create_task(first.run())
            await asyncio.sleep(1.0)
            group.create_task(second.run())
            await asyncio.sleep(30.0)
            cut()
            await asyncio.sleep(40.0)
            lease.cut.clear()
            lease.refused.clear()
            await asyncio.sleep(40.0)
            first.stopping.set()
            second.stopping.set()
        return first, second, cut_at

    first, second, cut_at = virtual_time.run(main())
    assert len(first.spans) == 1
    assert first.spans[0][1] - cut_at <= 11.0
    assert never_together(first, second)
    assert second.spans[0][0] - cut_at <= 20.0


def test_a_short_outage_of_the_api_server_changes_nothing() -> None:
    """Eight seconds without the API server: the leader goes on leading."""

    async def main() -> Replica:
        lease = MemoryLease()
        only = Replica(lease, "only")
        story = [(20.0, lambda: lease.refused.add("only")), (8.0, lease.refused.clear), (60.0, None)]
        await for_a_while([only], story)
        return only

    assert len(virtual_time.run(main()).spans) == 1


def test_a_leader_whose_work_crashes_gives_the_lease_back() -> None:
    """The crash of the work is not the end: the Lease is free at once and is taken again after a pause."""

    async def main() -> Replica:
        crashing = Replica(MemoryLease(), "only", crash_after_s=3.0)
        await for_a_while([crashing], [(20.0, None)])
        return crashing

    spans = virtual_time.run(main()).spans
    assert len(spans) >= 3
    assert all(2.0 <= later[0] - earlier[1] <= 3.0 for earlier, later in itertools.pairwise(spans))


@pytest.mark.parametrize("who", ["leads", "waits"])
@pytest.mark.parametrize("how", ["cut", "refused"])
def test_the_age_of_the_last_contact_grows_while_the_lease_cannot_be_read(who: str, how: str) -> None:
    """Below the time between two looks while it can, whether the replica leads or waits; a first look counts from the
    beginning."""

    async def main() -> list[tuple[bool, float]]:
        lease, loop, stopping = MemoryLease(), asyncio.get_running_loop(), asyncio.Event()
        if who == "waits":
            lease.stored = LeaseRecord("other", 10_000.0, NOW, NOW, 0, "1")
        elector = Elector(Line(lease, "me"), "me", 15.0, 10.0, 2.0)
        seen = []
        broken = lease.cut if how == "cut" else lease.refused
        broken.add("me")
        running = loop.create_task(elector.run(stopping, lambda over: _until(over)))
        for pause_s, action in ((30.0, broken.clear), (30.0, lambda: broken.add("me")), (100.0, broken.clear)):
            await asyncio.sleep(pause_s)
            seen.append((elector.reached, elector.contact_age_s(loop.time())))
            action()
        await asyncio.sleep(10.0)
        seen.append((elector.reached, elector.contact_age_s(loop.time())))
        stopping.set()
        await running
        return seen

    never, well, broken, again = virtual_time.run(main())
    assert never == (False, pytest.approx(30.0))
    assert well[0]
    assert well[1] < 3.0
    assert 97.0 < broken[1] < 103.0
    assert again[1] < 8.0


async def _until(over: asyncio.Event) -> None:
    await over.wait()


def test_age_is_judged_by_what_this_process_saw() -> None:
    """A Lease whose written times are years old is not taken until it was seen unchanged for its own duration."""
    old = LeaseRecord("other", 15.0, datetime(2001, 1, 1, tzinfo=UTC), datetime(2001, 1, 1, tzinfo=UTC), 3, "7")
    view = Election("me", 15.0).observe(old, 100.0)
    assert not view.may_take(114.9)
    assert view.observe(old, 110.0).may_take(115.0)
    renewed = replace(old, version="8")
    assert not view.observe(renewed, 114.0).may_take(128.9)


def test_a_lease_given_back_is_free_at_once_and_counts_transitions() -> None:
    """An empty holder may be taken; the claim is one more transition and keeps the version for the swap."""
    free = LeaseRecord("", 1.0, NOW, NOW, 3, "9")
    view = Election("me", 15.0).observe(free, 0.0)
    assert view.may_take(0.0)
    claim = view.claim(NOW)
    assert (claim.holder, claim.transitions, claim.version) == ("me", 4, "9")
    assert Election("me", 15.0).observe(claim, 0.0).release(NOW) == replace(claim, holder="", duration_s=1.0)
    assert view.release(NOW) is None


def test_a_lease_object_reads_as_it_was_written() -> None:
    """Record to object and back is the same, to the microsecond."""
    record = LeaseRecord("pod-1", 15.0, NOW, NOW, 2, "41")
    body = body_of(record, "ns", "lease")
    assert body["spec"]["renewTime"] == "2026-01-02T03:04:05.678901Z"
    assert record_of(body) == record


def test_a_lease_that_somebody_made_by_hand_is_free() -> None:
    """A Lease without a holder or times is free."""
    assert record_of({"metadata": {"resourceVersion": "1"}}).holder == ""
