"""The queue of feeds to reconcile: serial per feed, back-off per feed, nobody waits for another's failure."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.operator import virtual_time

from marketfeed_operator.work_queue import DONE, Key, Outcome, Schedule, WorkQueue

A, B = ("demo", "a"), ("demo", "b")
FAILED = Outcome(failed=True)


def schedule(**changes: object) -> Schedule:
    return Schedule(jitter=random.Random(1), **changes)  # type: ignore[arg-type]


def run_at(plan: Schedule, key: Key, now: float, outcome: Outcome = DONE) -> None:
    assert plan.take(now) == key
    plan.finished(key, outcome, now)


def test_a_burst_of_events_is_one_run() -> None:
    """Twenty events about a feed within the settling time cause one run."""
    plan = schedule(settle_s=0.2)
    for step in range(20):
        plan.add(A, step * 0.005)
    run_at(plan, A, 0.2)
    assert plan.take(10.0) is None
    assert plan.depth == 0


def test_what_comes_in_during_a_run_is_run_afterwards_and_not_beside_it() -> None:
    """An event about a feed that is being reconciled leads to exactly one more run, after the first."""
    plan = schedule(settle_s=0.2)
    plan.add(A, 0.0)
    assert plan.take(0.2) == A
    plan.add(A, 0.3)
    plan.add(A, 0.4)
    assert plan.take(5.0) is None
    plan.finished(A, DONE, 5.0)
    run_at(plan, A, 5.0)
    assert plan.next_due() is None


def test_a_failure_waits_longer_each_time_up_to_the_cap() -> None:
    """The pause doubles from a second to the cap, between half and all of it, and a success starts over."""
    plan = schedule(base_s=1.0, cap_s=60.0, settle_s=0.0)
    now, pauses = 0.0, []
    plan.add(A, now)
    for _ in range(10):
        due = plan.next_due()
        assert due is not None
        pauses.append(due - now)
        now = due
        run_at(plan, A, now, FAILED)
    for number, pause in enumerate(pauses[1:]):
        ceiling = min(60.0, 2.0**number)
        assert ceiling / 2 <= pause <= ceiling
    run_at(plan, A, plan.next_due() or 0.0)
    plan.add(A, now)
    assert plan.next_due() == now


def test_the_pause_the_server_asks_for_is_kept() -> None:
    """Retry-After is the least pause."""
    plan = schedule(settle_s=0.0)
    plan.add(A, 0.0)
    run_at(plan, A, 0.0, Outcome(failed=True, at_least_s=30.0))
    assert plan.next_due() == 30.0


def test_events_wait_out_a_back_off_and_a_changed_specification_does_not() -> None:
    """A failing feed's own children cannot make it spin, but its user's correction is tried at once."""
    plan = schedule(settle_s=0.2, base_s=40.0)
    plan.add(A, 0.0)
    run_at(plan, A, 0.2, FAILED)
    due = plan.next_due()
    plan.add(A, 1.0)
    assert due is not None
    assert plan.next_due() == due > 20.0
    plan.add(A, 2.0, urgent=True)
    assert plan.next_due() == 2.2


def test_a_full_queue_refuses_and_knows_those_it_has() -> None:
    """Beyond the limit a new feed is refused, one that waits already is not."""
    plan = schedule(limit=1)
    assert plan.add(A, 0.0)
    assert not plan.add(B, 0.0)
    assert plan.add(A, 0.0)


def test_a_feed_that_is_gone_is_forgotten() -> None:
    """After `forget` nothing of the feed runs, not even what failed before."""
    plan = schedule(settle_s=0.0)
    plan.add(A, 0.0)
    run_at(plan, A, 0.0, FAILED)
    plan.forget(A)
    assert plan.take(1e6) is None
    assert plan.depth == 0


keys = st.sampled_from([A, B, ("demo", "c")])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), keys, st.booleans()),
        st.tuples(st.just("take"), keys, st.booleans()),
        st.tuples(st.just("end"), keys, st.booleans()),
    ),
    max_size=60,
)


@given(steps)
def test_no_request_is_ever_lost_and_no_feed_runs_twice_at_once(history: list[tuple[str, Key, bool]]) -> None:
    """Whatever the order of events, runs and failures: a feed asked for is run afterwards, and never beside itself."""
    plan, running, owed, now = schedule(), set[Key](), set[Key](), 0.0
    for what, key, flag in history:
        now += 0.5
        if what == "add":
            plan.add(key, now, urgent=flag)
            owed.add(key)
        elif what == "take" and (taken := plan.take(now)) is not None:
            assert taken not in running
            running.add(taken)
            owed.discard(taken)
        elif what == "end" and key in running:
            plan.finished(key, FAILED if flag else DONE, now)
            running.discard(key)
            owed |= {key} if flag else set()
    for key in running:
        plan.finished(key, DONE, now)
    while (due := plan.next_due()) is not None:
        taken = plan.take(due)
        assert taken is not None
        owed.discard(taken)
        plan.finished(taken, DONE, due)
    assert owed == set()


def test_a_feed_that_hangs_or_crashes_delays_nobody() -> None:
    """With one feed that hangs until its time-out and one that crashes each time, a good one runs at every request."""

    async def main() -> tuple[list[float], list[float]]:
        good: list[float] = []
        crashes: list[float] = []
        loop = asyncio.get_running_loop()

        async def work(key: Key) -> Outcome:
            if key == ("demo", "hangs"):
                await asyncio.Event().wait()
            if key == ("demo", "crashes"):
                crashes.append(loop.time())
                raise ZeroDivisionError
            good.append(loop.time())
            return DONE

        queue = WorkQueue(schedule(), work, timeout_s=60.0)
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(queue.run_worker()) for _ in range(2)]
            queue.add(("demo", "hangs"))
            queue.add(("demo", "crashes"))
            for _ in range(30):
                queue.add(A)
                await asyncio.sleep(10.0)
            for worker in workers:
                worker.cancel()
        return good, crashes

    good, crashes = virtual_time.run(main())
    assert len(good) == 30
    assert all(abs(at - (number * 10.0 + 0.2)) < 0.01 for number, at in enumerate(good))
    assert 5 <= len(crashes) <= 15
