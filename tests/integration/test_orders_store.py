"""Orders on a real PostgreSQL: all or nothing, one writer, nothing forbidden, and everything read back as it was."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest
from tests.unit.domain.order_tapes import NO_PRICE, RULES, T0, Row, limit, prints_of

from marketfeed.adapters.postgres.orders import OrderReader, OrderWriter
from marketfeed.adapters.postgres.store import PostgresStore
from marketfeed.domain.errors import StalePosition, Unavailable
from marketfeed.domain.order_desk import Desk
from marketfeed.domain.order_states import ALLOWED, OrderState
from marketfeed.domain.order_validation import Reference
from marketfeed.domain.orders import OrderCommit, OrderRequest, OrderType, ReplaceRequest, Side, TimeInForce
from marketfeed.domain.sessions import calendar
from marketfeed.local.stack import Addresses

pytestmark = pytest.mark.integration

ME = "me"


class Service:
    """A desk with its writer, as one process would have them."""

    def __init__(self, dsn: str, feed: str, name: str) -> None:
        self.writer = OrderWriter(dsn, feed, name)
        self.position = ""

    async def claim(self) -> None:
        self.position, state = await self.writer.claim()
        self.desk = Desk(state, RULES, calendar("24x7"))

    async def commit(self, position: str | None = None) -> None:
        """Store what the desk has done, up to a place of the tape."""
        desk, after = self.desk, self.position if position is None else position
        what = OrderCommit(desk.take_changes(), self.position, after, desk.tape, desk.next_order, desk.next_fill)
        await self.writer.commit(what)
        self.position = after


@pytest.fixture
async def service(stack: Addresses, feed: str) -> AsyncIterator[Service]:
    """The first process of a new feed."""
    await PostgresStore(stack.postgres).migrate()
    started = Service(stack.postgres, feed, "one")
    await started.claim()
    yield started
    await started.writer.close()


@pytest.fixture
async def reader(stack: Addresses, feed: str, service: Service) -> AsyncIterator[OrderReader]:
    """What answers questions about orders."""
    opened = OrderReader(stack.postgres, feed)
    await opened.open()
    yield opened
    await opened.close()


def keyed(key: str, price: int = 5, quantity: int = 10) -> OrderRequest:
    return limit(Side.BUY, price, quantity, key=key)


async def test_a_new_process_has_everything_as_it_was(service: Service, stack: Addresses, feed: str) -> None:
    """Working orders, numbers, the tape's place: the desk goes on where the stored one stood."""
    service.desk.tape_begins(False, T0)
    first = service.desk.submit(ME, keyed("a"), NO_PRICE, T0)
    service.desk.submit("you", keyed("a"), NO_PRICE, T0)
    over = service.desk.submit(ME, keyed("b"), NO_PRICE, T0)
    service.desk.cancel(over, T0 + 1)
    service.desk.prints(prints_of([Row(7, "A", T0 + 1, 4, 3, T0 + 1)], partition=2), T0 + 2)
    service.desk.gap(["A"], T0, T0 + 5, T0 + 6)
    expected = {order.number: order for order in service.desk.book}
    await service.commit("log@2=8")
    other = Service(stack.postgres, feed, "two")
    await other.claim()
    assert {order.number: order for order in other.desk.book} == expected
    assert expected[first.number].state is OrderState.SUSPENDED
    assert other.position == "log@2=8"
    mine, theirs = other.desk, service.desk
    assert (mine.next_order, mine.next_fill, mine.tape) == (theirs.next_order, theirs.next_fill, theirs.tape)
    assert mine.updates == theirs.updates
    await other.writer.close()


async def test_a_process_that_was_overtaken_writes_nothing(
    service: Service, reader: OrderReader, stack: Addresses, feed: str
) -> None:
    """Its order is not there, the other's is, and by claiming anew it sees that one."""
    other = Service(stack.postgres, feed, "two")
    await other.claim()
    service.desk.submit(ME, keyed("late"), NO_PRICE, T0)
    with pytest.raises(StalePosition):
        await service.commit("log@0=1")
    other.desk.submit(ME, keyed("in time"), NO_PRICE, T0)
    await other.commit("log@0=2")
    assert await reader.by_client_order_id(ME, "late") is None
    await service.writer.close()
    await service.claim()
    assert [order.client_order_id for order in service.desk.book] == ["in time"]
    assert service.position == "log@0=2"
    with pytest.raises(StalePosition):
        await other.commit("log@0=3")
    await other.writer.close()


async def test_another_place_of_the_tape_than_expected_is_refused(service: Service) -> None:
    """Even with the right version: whoever stands elsewhere must not write."""
    await service.commit("log@0=1")
    service.position = "log@0=0"
    with pytest.raises(StalePosition):
        await service.commit("log@0=2")


async def test_a_commit_is_whole_or_nothing(service: Service, reader: OrderReader) -> None:
    """A print that fills the same order a second time is refused with everything else in that transaction."""
    desk = service.desk
    desk.submit(ME, keyed("a"), NO_PRICE, T0)
    desk.prints(prints_of([Row(7, "A", T0 + 1, 4, 3, T0 + 1)]), T0 + 2)
    await service.commit("log@0=8")
    desk.submit(ME, keyed("b"), NO_PRICE, T0)
    desk.prints(prints_of([Row(7, "A", T0 + 1, 4, 3, T0 + 1)]), T0 + 2)
    with pytest.raises(asyncpg.UniqueViolationError):
        await service.commit("log@0=9")
    assert await reader.by_client_order_id(ME, "b") is None
    found = await reader.by_client_order_id(ME, "a")
    assert found is not None
    order, fills = found
    assert (order.filled_quantity, [fill.quantity for fill in fills]) == (3, [3])


async def test_a_client_order_id_is_used_once_per_account(service: Service) -> None:
    """The table refuses what a desk that looked nothing up would accept."""
    service.desk.submit(ME, keyed("a"), NO_PRICE, T0)
    service.desk.submit("you", keyed("a"), NO_PRICE, T0)
    await service.commit()
    service.desk.submit(ME, keyed("a"), NO_PRICE, T0)
    with pytest.raises(asyncpg.UniqueViolationError):
        await service.commit()


async def test_the_database_knows_the_same_steps(service: Service, stack: Addresses, feed: str) -> None:
    """Of all pairs of states the CHECK lets pass just those of the table in the domain."""
    service.desk.submit(ME, keyed("a"), NO_PRICE, T0)
    await service.commit()
    connection = await asyncpg.connect(stack.postgres)
    passed = set()
    for before in (None, *OrderState):
        for after in OrderState:
            try:
                async with connection.transaction():
                    await connection.execute(
                        "INSERT INTO orders.transition VALUES ($1, 'x', 1, 1, $2, $3, '', 0, NULL)", feed, before, after
                    )
                    passed.add((before, after))
                    raise asyncpg.CheckViolationError("undo")
            except asyncpg.CheckViolationError:
                pass
    await connection.close()
    assert passed == {(before, after) for before, following in ALLOWED.items() for after in following}


async def test_orders_and_fills_are_read_back_whole(service: Service, reader: OrderReader) -> None:
    """In every field, market fills without a print, and nobody sees another's."""
    desk = service.desk
    request = OrderRequest("m", "A", Side.SELL, OrderType.MARKET, TimeInForce.IOC, 7, 0)
    market = desk.submit(ME, request, Reference(2**62, "", T0), T0)
    resting = desk.submit(ME, keyed("a"), NO_PRICE, T0)
    desk.prints(prints_of([Row(2**40, "A", T0 + 1, 4, 3, T0 + 1)], partition=3), T0 + 2)
    new, _ = desk.replace(desk.book.find(resting.number) or resting, ReplaceRequest(2, "c", 9, 5), NO_PRICE, T0 + 3)
    changes = list(desk.changes)
    await service.commit()
    newest = {change.order.number: change.order for change in changes}
    for number in (market.number, resting.number, new.number):
        found = await reader.by_number(ME, number)
        assert found is not None
        assert found[0] == newest[number]
        assert found[1] == [c.fill for c in changes if c.fill is not None and c.fill.order == number]
        assert await reader.by_number("you", number) is None
    assert await service.writer.find([(ME, "c"), ("you", "c")], [market.number]) == [newest[1], newest[3]]


async def test_pages_and_changes_go_on_where_they_ended(service: Service, reader: OrderReader) -> None:
    """Lists by number, changes by update number up to a ceiling; without a number only working orders."""
    desk = service.desk
    orders = [desk.submit(ME, keyed(f"k{n}"), NO_PRICE, T0) for n in range(5)]
    orders[1] = desk.cancel(orders[1], T0)
    await service.commit()
    found = await reader.page(ME, 0, 2, working_only=True, symbol="")
    assert [order.number for order in found] == [1, 3]
    found = await reader.page(ME, 3, 9, working_only=False, symbol="A")
    assert [order.number for order in found] == [4, 5]
    assert await reader.page(ME, 0, 9, working_only=False, symbol="B") == []
    assert [o.number for o in (await reader.changed_since(ME, 0, 0, None, 9))[1]] == [1, 3, 4, 5]
    ceiling, first = await reader.changed_since(ME, 3, 0, None, 4)
    assert (ceiling, [o.number for o in first]) == (6, [1, 3, 4, 5])
    desk.cancel(orders[2], T0)
    await service.commit()
    assert await reader.changed_since(ME, 3, first[-1].update, ceiling, 4) == (6, [orders[1]])


async def test_the_version_rises_with_every_commit(service: Service, reader: OrderReader) -> None:
    """By it another process sees that this one is at work."""
    assert await reader.is_migrated()
    before = await reader.version()
    await service.commit("log@0=1")
    assert await reader.version() == before + 1


async def test_a_server_that_is_away_is_unavailable(feed: str) -> None:
    """Both sides say so."""
    nowhere = "postgresql://postgres@127.0.0.1:1/postgres"
    with pytest.raises(Unavailable):
        await OrderWriter(nowhere, feed, "one").claim()
    with pytest.raises(Unavailable):
        await OrderReader(nowhere, feed).version()


async def test_amounts_beyond_a_double_are_exact(service: Service, reader: OrderReader) -> None:
    """The sum of price times quantity has up to 38 digits."""
    order = service.desk.submit(ME, keyed("a"), NO_PRICE, T0)
    assert order.number == 1
    changed = replace(service.desk.changes[-1].order, filled_quantity=9, filled_notional=10**37 + 1)
    changed = replace(changed, state=OrderState.WORKING)
    service.desk.changes[-1] = replace(service.desk.changes[-1], order=changed)
    await service.commit()
    found = await reader.by_number(ME, 1)
    assert found is not None
    assert found[0].filled_notional == 10**37 + 1
