"""The desk: commands, fills, holes in the tape, ends of orders; no cut of the tape and no crash changes a fill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.domain.order_tapes import (
    NO_PRICE,
    RULES,
    T0,
    Row,
    desk,
    fills_of,
    limit,
    prints_of,
    resting,
    states_of,
)

from marketfeed.domain.errors import CallRefused, CallStatus
from marketfeed.domain.order_desk import DAY_PATIENCE_NS, IOC_PATIENCE_NS, IOC_TAPE_NS, Desk, DeskState
from marketfeed.domain.order_states import OrderState, check_transition
from marketfeed.domain.order_validation import Reference
from marketfeed.domain.orders import Order, OrderChange, OrderRequest, OrderType, ReplaceRequest, Side, TimeInForce
from marketfeed.domain.sessions import calendar
from marketfeed.domain.trades import NANOS

MARKET = OrderRequest("m", "A", Side.BUY, OrderType.MARKET, TimeInForce.IOC, 7, 0)


# Tapes and orders for the properties.


@dataclass(frozen=True)
class Gap:
    """A hole in the tape, told in the place of a record."""

    record: int
    symbol: str
    from_ts: int
    to_ts: int


@st.composite
def tapes(draw: st.DrawFn) -> list[list[Row] | Gap]:
    """Records in the log's order, each with prints or a gap; all logged after every order was accepted."""
    tape: list[list[Row] | Gap] = []
    for record in range(draw(st.integers(1, 10))):
        if draw(st.integers(0, 5)) == 0:
            end = T0 + draw(st.integers(0, 40))
            tape.append(Gap(record, draw(st.sampled_from("AB")), end - 10, end))
            continue
        rows = st.builds(
            Row,
            record=st.just(record),
            symbol=st.sampled_from("ABC"),
            event_ts=st.integers(T0 - 5, T0 + 50),
            price=st.integers(1, 9),
            size=st.integers(0, 9),
            logged=st.just(T0 + 100 + record),
        )
        tape.append(draw(st.lists(rows, min_size=1, max_size=6)))
    return tape


@st.composite
def accepted(draw: st.DrawFn) -> list[Order]:
    """Working orders, accepted around the tape's stamps, some IOC, some for a day that ends within the tape."""
    orders = []
    for number in range(1, draw(st.integers(1, 8)) + 1):
        order = resting(
            number, draw(st.sampled_from(Side)), draw(st.integers(1, 9)), draw(st.integers(1, 20)),
            draw(st.sampled_from("AB")), T0 + draw(st.integers(-5, 20)),
        )  # fmt: skip
        kind = draw(st.sampled_from(TimeInForce))
        ends = T0 + draw(st.integers(10, 60)) if kind is TimeInForce.DAY else 0
        orders.append(replace(order, time_in_force=kind, expires_ts=ends))
    return orders


def play(on: Desk, tape: Sequence[list[Row] | Gap], cuts: frozenset[int] = frozenset()) -> None:
    """Give the tape to a desk; neighbouring records come as one batch, unless cut before a record."""
    batch: list[Row] = []
    for at, part in enumerate(tape):
        if batch and (at in cuts or isinstance(part, Gap)):
            on.prints(prints_of(batch), T0 + 200)
            batch = []
        if isinstance(part, Gap):
            on.gap([part.symbol], part.from_ts, part.to_ts, T0 + 200)
        else:
            batch += part
    if batch:
        on.prints(prints_of(batch), T0 + 200)


@given(tapes(), accepted())
def test_nothing_is_filled_twice(tape: list[list[Row] | Gap], orders: list[Order]) -> None:
    """Of a print at most its size, of an order at most its quantity, only by prints that were for it, at its limit or
    better; and every step is one of the table's, numbered without a hole."""
    place = desk(orders)
    play(place, tape)
    changes = place.take_changes()
    rows = {(r.record, i): r for part in tape if isinstance(part, list) for i, r in enumerate(part)}
    by_number = {order.number: order for order in orders}
    used: dict[tuple[int, int], int] = {}
    for number, record, index, quantity, price in fills_of(changes):
        row, order = rows[record, index], by_number[number]
        used[record, index] = used.get((record, index), 0) + quantity
        assert (row.symbol, row.price) == (order.symbol, price)
        assert row.event_ts > order.queued_ts
        assert not order.expires_ts or row.event_ts < order.expires_ts
        assert price <= order.limit_price if order.side is Side.BUY else price >= order.limit_price
    assert all(quantity <= rows[name].size for name, quantity in used.items())
    for number, steps in groupby(sorted(changes, key=lambda c: c.order.number), lambda c: c.order.number):
        assert_whole(by_number[number], list(steps))
    assert [c.order.update for c in changes] == list(range(1_001, 1_001 + len(changes)))


def assert_whole(order: Order, steps: list[OrderChange]) -> None:
    """The steps of an order follow each other, and its sums are those of its fills."""
    state = order.state
    for step in steps:
        assert step.before is state
        check_transition(state, step.order.state)
        state = step.order.state
    fills = [step.fill for step in steps if step.fill is not None]
    last = steps[-1].order
    assert last.filled_quantity == sum(fill.quantity for fill in fills) <= order.quantity
    assert last.filled_notional == sum(fill.quantity * fill.price for fill in fills)
    assert (last.state is OrderState.FILLED) == (last.filled_quantity == order.quantity)


@given(tapes(), accepted(), st.frozensets(st.integers(0, 10)))
def test_the_cut_of_the_tape_into_batches_changes_nothing(
    tape: list[list[Row] | Gap], orders: list[Order], cuts: frozenset[int]
) -> None:
    """However records are joined on the way, the same steps come in the same order."""
    whole, cut = desk(orders), desk(orders)
    play(whole, tape)
    play(cut, tape, cuts)
    assert cut.take_changes() == whole.take_changes()


@given(tapes(), accepted(), st.data())
def test_a_crash_at_any_step_gives_the_same_fills(
    tape: list[list[Row] | Gap], orders: list[Order], data: st.DataObject
) -> None:
    """A desk that is loaded from what was stored, at the stored place of the tape, goes on as if nothing had been."""
    uninterrupted = desk(orders)
    play(uninterrupted, tape)
    expected = uninterrupted.take_changes()
    stored = {order.number: order for order in orders}
    changes: list[OrderChange] = []
    place, next_fill, updates, at = desk(orders), 1, {"me": 1_000}, 0
    while at < len(tape):
        until = data.draw(st.integers(at + 1, len(tape)))
        play(place, tape[at:until])
        if data.draw(
            st.booleans()
        ):  # the crash comes before the commit: nothing of this is kept, the tape is read again
            state = DeskState(len(orders) + 1, next_fill, 1, updates, [o for o in stored.values() if o.is_working])
            place = Desk(state, RULES, calendar("24x7"))
            play(place, tape[at:until])
        new = place.take_changes()
        stored |= {change.order.number: change.order for change in new}
        changes += new
        next_fill, updates, at = place.next_fill, dict(place.updates), until
    assert changes == expected


@given(tapes(), accepted(), st.integers(0, 10))
def test_an_older_print_in_a_batch_makes_it_not_for_the_order(
    tape: list[list[Row] | Gap], orders: list[Order], logged_early: int
) -> None:
    """However records logged before and after an order's acceptance are joined, none of the former fills it."""
    early = [
        [replace(row, logged=T0 - 10) for row in part] if isinstance(part, list) and i < logged_early else part
        for i, part in enumerate(tape)
    ]
    for cuts in (frozenset[int](), frozenset(range(10))):
        place = desk(orders)
        play(place, early, cuts)
        assert all(record >= logged_early for _, record, *_ in fills_of(place.take_changes()))


# Commands.


def test_a_market_order_fills_whole_at_the_reference_price() -> None:
    """It begins as working and is filled in the same instant, without a print."""
    place = desk()
    order = place.submit("me", MARKET, Reference(42, "", T0), T0 + 1)
    assert (order.state, order.filled_quantity, order.average_price) == (OrderState.FILLED, 7, 42)
    first, second = place.take_changes()
    assert (first.before, first.order.state) == (None, OrderState.WORKING)
    assert second.fill is not None
    assert second.fill.print is None
    assert len(place.book) == 0


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        (NO_PRICE, "STALE"),
        (Reference(None, "HALTED", T0), "HALTED"),
        (Reference(42, "", T0 - RULES.max_age_ms * 1_000_000), "STALE"),
    ],
)
def test_a_market_order_without_a_fresh_price_is_rejected(reference: Reference, reason: str) -> None:
    """The reason is kept with the order; a price that has waited here for too long is stale, too."""
    place = desk()
    order = place.submit("me", MARKET, reference, T0 + 1)
    assert (order.state, order.reason, order.filled_quantity) == (OrderState.REJECTED, reason, 0)
    assert len(place.book) == 0


def test_a_limit_order_rests_without_a_price_but_keeps_to_the_collar_with_one() -> None:
    """Ten per cent here, on both sides."""
    place = desk()
    assert place.submit("me", limit(Side.BUY, 200, 1), NO_PRICE, T0).state is OrderState.WORKING
    for price, state in ((89, "REJECTED"), (90, "WORKING"), (110, "WORKING"), (111, "REJECTED")):
        order = place.submit("me", limit(Side.BUY, price, 1), Reference(100, "", T0), T0)
        assert order.state.name == state
        assert order.reason == ("OUTSIDE_COLLAR" if state == "REJECTED" else "")


def test_there_is_a_bound_on_working_orders() -> None:
    """Of an account and of the service; what has ended leaves room."""
    place = desk()
    orders = [place.submit("me", limit(Side.BUY, 5, 1), NO_PRICE, T0) for _ in range(RULES.account_working_max)]
    with pytest.raises(CallRefused) as refused:
        place.submit("me", limit(Side.BUY, 5, 1), NO_PRICE, T0)
    assert (refused.value.status, refused.value.reason) == (CallStatus.RESOURCE_EXHAUSTED, "TOO_MANY_ORDERS")
    for _ in range(RULES.working_max - RULES.account_working_max):
        place.submit("you", limit(Side.BUY, 5, 1), NO_PRICE, T0)
    with pytest.raises(CallRefused):
        place.submit("you", limit(Side.BUY, 5, 1), NO_PRICE, T0)
    place.cancel(orders[0], T0)
    place.submit("me", limit(Side.BUY, 5, 1), NO_PRICE, T0)


def test_cancelling_twice_is_cancelling_once() -> None:
    """A second cancel changes nothing; one of a filled order is refused with its state."""
    place = desk()
    order = place.submit("me", limit(Side.BUY, 5, 1), NO_PRICE, T0)
    cancelled = place.cancel(order, T0 + 1)
    assert (cancelled.state, cancelled.reason) == (OrderState.CANCELLED, "CANCELLED_BY_CALLER")
    assert place.cancel(cancelled, T0 + 2) is cancelled
    filled = place.submit("me", MARKET, Reference(42, "", T0), T0)
    with pytest.raises(CallRefused) as refused:
        place.cancel(filled, T0 + 2)
    assert (refused.value.reason, refused.value.facts["state"]) == ("NOT_WORKING", "FILLED")


@pytest.mark.parametrize(("price", "quantity", "first"), [(5, 10, 1), (5, 6, 1), (5, 11, 2), (6, 10, 1), (4, 10, 2)])
def test_only_less_at_the_same_limit_keeps_the_place(price: int, quantity: int, first: int) -> None:
    """Other limits rank by themselves, more at the same limit goes to the end."""
    place = desk()
    order = place.submit("me", limit(Side.BUY, 5, 10), NO_PRICE, T0)
    place.submit("you", limit(Side.BUY, 5, 10), NO_PRICE, T0 + 1)
    request = ReplaceRequest(order.number, "k2", quantity, price)
    new, replaced = place.replace(order, request, NO_PRICE, T0 + 2)
    assert (replaced.state, replaced.replaced_by, new.replaces) == (OrderState.REPLACED, new.number, order.number)
    assert (new.queued_ts == T0) == (price == 5 and quantity <= 10)
    place.prints(prints_of([Row(0, "A", T0 + 3, 4, 1, T0 + 3)]), T0 + 4)
    assert fills_of(place.take_changes())[0][0] == {1: new.number, 2: 2}[first]


def test_a_replacement_counts_what_was_filled_before() -> None:
    """The quantity is the whole, so that a fill on the way to us cannot make it more than asked for."""
    place = desk()
    order = place.submit("me", limit(Side.BUY, 5, 10), NO_PRICE, T0)
    place.prints(prints_of([Row(0, "A", T0 + 1, 4, 3, T0 + 1)]), T0 + 2)
    order = place.book.find(order.number) or order
    for quantity in (2, 3):
        with pytest.raises(CallRefused) as refused:
            place.replace(order, ReplaceRequest(order.number, "k2", quantity, 5), NO_PRICE, T0 + 3)
        assert refused.value.reason == "ALREADY_FILLED"
    new, _ = place.replace(order, ReplaceRequest(order.number, "k2", 5, 5), NO_PRICE, T0 + 3)
    assert (new.state, new.filled_quantity, new.remaining) == (OrderState.PARTIALLY_FILLED, 3, 2)
    place.prints(prints_of([Row(1, "A", T0 + 4, 5, 9, T0 + 4)]), T0 + 5)
    last = place.take_changes()[-1].order
    assert (last.number, last.state, last.average_price) == (new.number, OrderState.FILLED, 4)


def test_a_replacement_keeps_to_the_collar_and_leaves_the_order_alone_when_refused() -> None:
    """The old order goes on as it was."""
    place = desk()
    order = place.submit("me", limit(Side.BUY, 100, 10), NO_PRICE, T0)
    with pytest.raises(CallRefused) as refused:
        place.replace(order, ReplaceRequest(order.number, "k2", 10, 200), Reference(100, "", T0), T0 + 1)
    assert refused.value.reason == "OUTSIDE_COLLAR"
    assert place.book.find(order.number) == order


# Ends.


def test_an_ioc_order_is_decided_by_the_first_print_that_is_for_it() -> None:
    """What the print does not fill is cancelled; earlier prints decide nothing."""
    place = desk()
    place.submit("me", limit(Side.BUY, 5, 10, tif=TimeInForce.IOC), NO_PRICE, T0)
    place.submit("me", limit(Side.BUY, 3, 10, tif=TimeInForce.IOC), NO_PRICE, T0)
    place.take_changes()
    rows = [Row(0, "A", T0, 5, 9, T0 + 1), Row(0, "A", T0 + 1, 4, 6, T0 + 1), Row(0, "A", T0 + 2, 1, 99, T0 + 1)]
    place.prints(prints_of(rows), T0 + 2)
    changes = place.take_changes()
    assert fills_of(changes) == [(1, 0, 1, 6, 4)]
    assert states_of(changes) == [
        (1, OrderState.PARTIALLY_FILLED, ""),
        (1, OrderState.CANCELLED, "IOC_UNFILLED"),
        (2, OrderState.CANCELLED, "IOC_UNFILLED"),
    ]


def test_an_ioc_order_ends_when_the_tape_has_nothing_for_it() -> None:
    """With a known tape one second after it was accepted, without one after five by the clock."""
    for watermark, now, reason in (
        (T0 + IOC_TAPE_NS, T0 + IOC_TAPE_NS, "IOC_UNFILLED"),
        (0, T0 + IOC_PATIENCE_NS, "IOC_NO_TAPE"),
    ):
        place = desk()
        order = place.submit("me", limit(Side.BUY, 5, 10, tif=TimeInForce.IOC), NO_PRICE, T0)
        place.passes(max(0, watermark - 1), now - 1)
        assert place.book.find(order.number) == order
        if watermark:
            place.passes(watermark, now)
        else:
            place.tick(now)
        assert states_of(place.take_changes())[-1] == (1, OrderState.CANCELLED, reason)


def test_a_day_order_ends_when_the_tape_has_passed_its_day() -> None:
    """A service that was away over midnight first reads what came before it; without a known tape it waits a minute."""
    place = desk()
    order = place.submit("me", limit(Side.BUY, 5, 10, tif=TimeInForce.DAY), NO_PRICE, T0)
    end = order.expires_ts
    assert end % (86_400 * NANOS) == 0
    assert T0 < end <= T0 + 86_400 * NANOS
    later = end + 3_600 * NANOS
    place.tape_begins(True, later)
    place.passes(0, later)
    place.passes(end - 1, later + DAY_PATIENCE_NS - 1)
    rows = [Row(0, "A", end, 5, 9, later), Row(0, "A", end - 1, 5, 3, later)]
    place.prints(prints_of(rows), later)
    changes = place.take_changes()
    assert fills_of(changes) == [(1, 0, 1, 3, 5)]
    place.passes(end, later)
    assert states_of(place.take_changes()) == [(1, OrderState.EXPIRED, "DAY_ENDED")]
    place = desk([order])
    place.tape_begins(True, later)
    place.passes(0, later + DAY_PATIENCE_NS)
    assert states_of(place.take_changes()) == [(1, OrderState.EXPIRED, "DAY_ENDED")]


# Holes in the tape.


def test_a_gap_suspends_just_the_orders_it_touches_until_fresh_tape_arrives() -> None:
    """Other symbols, and orders accepted after its end, go on; a watermark beyond its end resumes."""
    place = desk(
        [resting(1, Side.BUY, 5, 10), resting(2, Side.BUY, 5, 10, "B"), resting(3, Side.BUY, 5, 10, "A", T0 + 9)]
    )
    place.gap(["A"], T0 - 5, T0 + 5, T0 + 6)
    assert states_of(place.take_changes()) == [(1, OrderState.SUSPENDED, "FEED_GAP")]
    place.prints(prints_of([Row(0, "A", T0 + 5, 4, 9, T0 + 20)]), T0 + 21)
    assert fills_of(place.take_changes()) == []
    place.passes(T0 + 5, T0 + 7)
    assert place.take_changes() == []
    place.passes(T0 + 6, T0 + 8)
    assert states_of(place.take_changes()) == [(1, OrderState.WORKING, "")]
    place.prints(prints_of([Row(0, "A", T0 + 5, 4, 9, T0 + 20)]), T0 + 21)
    assert fills_of(place.take_changes()) == [(1, 0, 0, 9, 4)]


def test_a_print_after_the_gap_is_fresh_tape() -> None:
    """It ends the suspension and fills, however late the watermark is; a later stamp is what counts."""
    place = desk([resting(1, Side.BUY, 5, 10)])
    place.gap(["A"], T0 - 5, T0 + 5, T0 + 6)
    rows = [Row(0, "A", T0 + 4, 4, 9, T0 + 20), Row(0, "A", T0 + 6, 5, 2, T0 + 20), Row(0, "A", T0 + 4, 4, 1, T0 + 20)]
    place.prints(prints_of(rows), T0 + 21)
    assert fills_of(place.take_changes()) == [(1, 0, 1, 2, 5), (1, 0, 2, 1, 4)]


def test_a_gap_that_is_told_again_changes_nothing() -> None:
    """After a restart the tape is read again from the stored place; a longer gap suspends for longer."""
    place = desk([resting(1, Side.BUY, 5, 10)])
    place.gap(["A"], T0 - 5, T0 + 5, T0 + 6)
    place.gap(["A"], T0 - 5, T0 + 5, T0 + 6)
    place.passes(T0 + 6, T0 + 7)
    place.gap(["A"], T0 - 5, T0 + 5, T0 + 8)
    assert [state for _, state, _ in states_of(place.take_changes())] == [OrderState.SUSPENDED, OrderState.WORKING]
    place.gap(["A"], T0 - 5, T0 + 15, T0 + 16)
    place.gap(["A"], T0 - 5, T0 + 25, T0 + 26)
    place.passes(T0 + 16, T0 + 27)
    assert [order.suspended_until for order in place.book] == [T0 + 25]


def test_a_lost_tape_suspends_everything_that_was_working() -> None:
    """`recovered: false`: all wait for tape from after the loss, IOC orders end, prints get names of a new tape."""
    ioc = replace(resting(3, Side.BUY, 5, 10), time_in_force=TimeInForce.IOC)
    place = desk([resting(1, Side.BUY, 5, 10), resting(2, Side.SELL, 9, 10, "B"), ioc])
    place.tape_begins(True, T0 + 50)
    assert place.take_changes() == []
    place.tape_begins(False, T0 + 50)
    assert states_of(place.take_changes()) == [
        (1, OrderState.SUSPENDED, "TAPE_LOST"),
        (2, OrderState.SUSPENDED, "TAPE_LOST"),
        (3, OrderState.CANCELLED, "TAPE_LOST"),
    ]
    place.prints(prints_of([Row(0, "A", T0 + 51, 4, 9, T0 + 52)]), T0 + 53)
    change = place.take_changes()[-1]
    assert change.fill is not None
    assert change.fill.print is not None
    assert change.fill.print.tape == 2


def test_a_suspended_order_may_be_cancelled_but_not_replaced() -> None:
    """Whoever cannot know whether it was filled must not make it more."""
    place = desk([resting(1, Side.BUY, 5, 10)])
    place.gap(["A"], T0 - 5, T0 + 5, T0 + 6)
    order = next(iter(place.book))
    with pytest.raises(CallRefused) as refused:
        place.replace(order, ReplaceRequest(1, "k2", 5, 5), NO_PRICE, T0 + 7)
    assert refused.value.reason == "NOT_REPLACEABLE"
    assert place.cancel(order, T0 + 7).state is OrderState.CANCELLED
