"""The order service on a real PostgreSQL with a played tape: stored before answered, restarted, overtaken, followed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import asyncpg
import pytest
from tests.integration.orders_bench import ME, PlayedTape, Running, running, until
from tests.unit.domain.order_tapes import Row, limit

from marketfeed.adapters.postgres.store import PostgresStore
from marketfeed.domain.errors import CallRefused, CallStatus, Unavailable
from marketfeed.domain.order_commands import Replace
from marketfeed.domain.order_states import OrderState
from marketfeed.domain.order_validation import Reference
from marketfeed.domain.orders import (
    Fill,
    Order,
    OrderChange,
    OrderRequest,
    OrderType,
    ReplaceRequest,
    Side,
    TimeInForce,
)
from marketfeed.domain.trades import NANOS
from marketfeed.local.stack import Addresses
from marketfeed.orders.updates import follow

pytestmark = pytest.mark.integration
BUY = Side.BUY


@pytest.fixture
async def dsn(stack: Addresses) -> str:
    """A database with the tables."""
    await PostgresStore(stack.postgres).migrate()
    return stack.postgres


@pytest.fixture
def tape() -> PlayedTape:
    """A tape that nothing was played on yet."""
    return PlayedTape()


@pytest.fixture
async def one(dsn: str, feed: str, tape: PlayedTape) -> AsyncIterator[Running]:
    """A service that serves."""
    async with running(dsn, feed, tape) as started:
        await until(lambda: started.health.is_ready, "ready")
        yield started


def soon(size: int, price: int = 4, symbol: str = "A", record: int = 0) -> Row:
    """A print from after every order so far."""
    now = time.time_ns() + NANOS
    return Row(record, symbol, now, price, size, now)


async def state_of(one: Running, number: int) -> OrderState:
    found = await one.reader.by_number(ME, number)
    assert found is not None
    return found[0].state


async def stored(one: Running, number: int, condition: Callable[[Order], bool]) -> list[Fill]:
    """Wait until an order is stored so; its fills."""
    end_s = time.monotonic() + 10
    while True:
        found = await one.reader.by_number(ME, number)
        if found is not None and condition(found[0]):
            return found[1]
        assert time.monotonic() < end_s, found
        await asyncio.sleep(0.02)


async def until_state(one: Running, number: int, state: OrderState) -> None:
    await stored(one, number, lambda order: order.state is state)


async def test_what_was_answered_is_stored(one: Running, tape: PlayedTape) -> None:
    """An order, its fill by the tape and a market order are in the tables, with every step."""
    order = (await one.submit(limit(BUY, 5, 10, key="a"))).order
    assert await state_of(one, order.number) is OrderState.WORKING
    tape.prints(soon(3), soon(99, price=6), soon(4))
    await until_state(one, order.number, OrderState.PARTIALLY_FILLED)
    found = await one.reader.by_number(ME, order.number)
    assert found is not None
    assert [(fill.quantity, fill.price) for fill in found[1]] == [(3, 4), (4, 4)]
    market = OrderRequest("m", "A", BUY, OrderType.MARKET, TimeInForce.IOC, 7, 0)
    answer = await one.submit(market, price=42)
    assert await state_of(one, answer.order.number) is OrderState.FILLED
    assert (await one.cancel(order.number)).order.state is OrderState.CANCELLED
    assert await state_of(one, order.number) is OrderState.CANCELLED


async def test_the_same_key_gives_the_same_order(one: Running) -> None:
    """At the same time, later, and for replacements; another request with the key is refused."""
    request = limit(BUY, 5, 10, key="a")
    answers = await asyncio.gather(*(one.submit(request) for _ in range(10)))
    assert {answer.order.number for answer in answers} == {1}
    with pytest.raises(CallRefused) as refused:
        await one.submit(limit(BUY, 5, 11, key="a"))
    assert refused.value.status is CallStatus.ALREADY_EXISTS
    replacing = Replace(ME, ReplaceRequest(1, "b", 9, 5), Reference(None, "STALE", time.time_ns()))
    first, second = await one.service.ask(replacing), await one.service.ask(replacing)
    assert first == second
    assert first.replaced is not None
    assert (first.order.number, first.replaced.state) == (2, OrderState.REPLACED)
    with pytest.raises(CallRefused) as refused:
        await one.cancel(99)
    assert refused.value.status is CallStatus.NOT_FOUND


async def test_many_commands_share_a_commit(one: Running, dsn: str, feed: str) -> None:
    """Fifty orders at a time cost a few transactions, not fifty."""
    before = await one.reader.version()
    requests = [limit(BUY, 5, 1, key=f"k{n}") for n in range(40)]
    answers = await asyncio.gather(*(one.submit(request) for request in requests))
    assert sorted(answer.order.number for answer in answers) == list(range(1, 41))
    assert await one.reader.version() - before < 20


async def test_a_restart_goes_on_where_the_stored_tape_stood(dsn: str, feed: str, tape: PlayedTape) -> None:
    """What was played meanwhile fills then; what was taken before does not fill again."""
    async with running(dsn, feed, tape) as one:
        await until(lambda: one.health.is_ready, "ready")
        await one.submit(limit(BUY, 5, 100, key="a"))
        tape.prints(soon(3, record=0))
        await until_state(one, 1, OrderState.PARTIALLY_FILLED)
    tape.prints(soon(5, record=1))
    async with running(dsn, feed, tape) as two:
        tape.prints(soon(7, record=2))
        fills = await stored(two, 1, lambda order: order.filled_quantity >= 15)
        assert [(f.print and f.print.offset, f.quantity) for f in fills] == [(0, 3), (1, 5), (2, 7)]
        assert tape.asked[-1] == "1"
        assert [order.state for order in await two.reader.page(ME, 0, 9, working_only=True, symbol="")] == [
            OrderState.PARTIALLY_FILLED
        ]


async def test_a_lost_tape_suspends_until_it_is_fresh(dsn: str, feed: str, tape: PlayedTape) -> None:
    """After a restart to which the tape cannot be given whole; what is played from then on fills."""
    async with running(dsn, feed, tape) as one:
        await until(lambda: one.health.is_ready, "ready")
        await one.submit(limit(BUY, 5, 100, key="a"))
        # Any answer stores the tape's place, too.
        await one.submit(limit(BUY, 1, 1, "C", key="c"))
    tape.prints(soon(5))
    tape.lost = len(tape.events)
    async with running(dsn, feed, tape) as two:
        await until_state(two, 1, OrderState.SUSPENDED)
        tape.passes(time.time_ns() + 5 * NANOS)
        await until_state(two, 1, OrderState.WORKING)
        tape.prints(soon(7, record=2))
        await until_state(two, 1, OrderState.PARTIALLY_FILLED)
        found = await two.reader.by_number(ME, 1)
        assert found is not None
        assert [fill.quantity for fill in found[1]] == [7]


async def test_a_gap_suspends_and_a_print_resumes(one: Running, tape: PlayedTape) -> None:
    """Only the symbol that it names."""
    await one.submit(limit(BUY, 5, 10, key="a"))
    await one.submit(limit(BUY, 5, 10, "B", key="b"))
    tape.hole(["A"], 0, time.time_ns())
    await until_state(one, 1, OrderState.SUSPENDED)
    assert await state_of(one, 2) is OrderState.WORKING
    tape.prints(soon(2))
    await until_state(one, 1, OrderState.PARTIALLY_FILLED)


async def test_a_second_process_overtakes_the_first(dsn: str, feed: str, tape: PlayedTape) -> None:
    """The first answers nothing any more and stands by, until the second has gone."""
    async with running(dsn, feed, tape, "one") as one:
        await until(lambda: one.health.is_ready, "ready")
        await one.submit(limit(BUY, 5, 10, key="a"))
        async with running(dsn, feed, tape, "two") as two:
            await until(lambda: two.health.is_ready, "the second is ready")
            await until(lambda: not one.health.is_ready, "the first stands by")
            with pytest.raises(CallRefused) as refused:
                await one.submit(limit(BUY, 5, 10, key="b"))
            assert (refused.value.status, refused.value.reason) == (CallStatus.UNAVAILABLE, "NOT_WRITER")
            await two.submit(limit(BUY, 5, 10, key="b"))
            tape.prints(soon(15))
            await until_state(two, 2, OrderState.PARTIALLY_FILLED)
            assert await state_of(two, 1) is OrderState.FILLED
        await until(lambda: one.health.is_ready, "the first is the writer again")
        tape.prints(soon(2, record=1), soon(3, record=1))
        await until_state(one, 2, OrderState.FILLED)
        fills = [f for n in (1, 2) for f in (await one.reader.by_number(ME, n) or (None, []))[1]]
        assert sum(fill.quantity for fill in fills) == 20


async def test_an_answer_waits_for_the_store(one: Running, dsn: str, feed: str) -> None:
    """While the row is locked nothing is answered; when the connection is cut, nothing is told to have happened."""
    holder = await asyncpg.connect(dsn)
    try:
        async with holder.transaction():
            await holder.execute("SELECT FROM orders.tape_position WHERE feed = $1 FOR UPDATE", feed)
            asking = asyncio.gather(one.submit(limit(BUY, 5, 10, key="a")), return_exceptions=True)
            done, _ = await asyncio.wait({asking}, timeout=0.5)
            assert not done
            await holder.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'marketfeed-orders'"
                " AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()"
            )
            (error,) = await asking
            assert isinstance(error, CallRefused | Unavailable)
    finally:
        await holder.close()
    await until(lambda: one.health.is_ready and one.service.status()["writer"], "serves again")
    answer = await one.submit(limit(BUY, 5, 10, key="a"))
    assert answer.order.state is OrderState.WORKING


async def test_followers_get_each_change_once_and_in_order(one: Running, tape: PlayedTape) -> None:
    """A snapshot of what works and of what changed since a number, then changes without a hole, through a restart."""
    for n in range(3):
        await one.submit(limit(BUY, 5, 10, key=f"k{n}"))
    await one.cancel(2)
    told: list[Order | OrderChange] = []

    async def listen(after: int, count: int) -> None:
        async with asyncio.timeout(10), aclosing(follow(one.updates, one.reader, ME, after)) as events:
            async for event in events:
                if event is not None:
                    told.append(event)
                    if len(told) == count:
                        return

    await listen(0, 2)
    assert [event.number for event in told if isinstance(event, Order)] == [1, 3]
    told.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(listen(3, 8))
        await until(lambda: len(told) == 3, "the snapshot")
        tape.prints(soon(25))
        await one.submit(limit(BUY, 5, 10, key="k3"))
        await one.submit(limit(BUY, 5, 10, "B", key="k4"))
        await one.cancel(4)
    assert [event.number for event in told[:3] if isinstance(event, Order)] == [1, 3, 2]
    changes = [event for event in told[3:] if isinstance(event, OrderChange)]
    assert [change.order.update for change in changes] == [5, 6, 7, 8, 9]


async def test_a_follower_that_takes_nothing_is_ended(one: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told to come back; others are not held up."""
    monkeypatch.setattr("marketfeed.orders.updates.CHANGES_MAX", 3)
    async with aclosing(follow(one.updates, one.reader, ME, 0)) as events:
        await anext(events)
        for n in range(5):
            await one.submit(limit(BUY, 5, 10, key=f"k{n}"))
        with pytest.raises(CallRefused) as refused:
            await anext(events)
    assert refused.value.reason == "TOO_SLOW"
