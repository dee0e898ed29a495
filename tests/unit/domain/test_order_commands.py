"""Commands: idempotent by the caller's key, each account with its own orders, and one turn that sees itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.domain.order_tapes import NO_PRICE, T0, desk, limit

from marketfeed.domain.errors import CallRefused
from marketfeed.domain.order_commands import (
    Cancel,
    Command,
    KnownOrders,
    Replace,
    Submit,
    carry_out,
    keys_of,
    numbers_of,
)
from marketfeed.domain.order_desk import Desk
from marketfeed.domain.order_states import OrderState
from marketfeed.domain.orders import Order, ReplaceRequest, Side

ORDER = limit(Side.BUY, 5, 10, key="a")


def refusal(command: Command, place: Desk, known: KnownOrders) -> tuple[str, str]:
    with pytest.raises(CallRefused) as refused:
        carry_out(command, place, known, T0)
    return refused.value.status.name, refused.value.reason


def test_a_key_stands_for_one_request() -> None:
    """The same gives the order as it stands, within a turn and from storage; another is refused."""
    place = desk()
    known = KnownOrders(place, [])
    order = carry_out(Submit("me", ORDER, NO_PRICE), place, known, T0).order
    assert carry_out(Submit("me", ORDER, NO_PRICE), place, known, T0 + 1).order is order
    carry_out(Cancel("me", 0, "a"), place, known, T0 + 2)
    again = carry_out(Submit("me", ORDER, NO_PRICE), place, known, T0 + 3).order
    assert (again.number, again.state) == (1, OrderState.CANCELLED)
    other = Submit("me", replace(ORDER, quantity=11), NO_PRICE)
    assert refusal(other, place, known) == ("ALREADY_EXISTS", "CLIENT_ORDER_ID_TAKEN")
    later = desk([])
    assert carry_out(Submit("me", ORDER, NO_PRICE), later, KnownOrders(later, [again]), T0).order is again
    assert not later.changes


def test_nobody_sees_anothers_orders() -> None:
    """Neither by number nor by key; and a key is free in another account."""
    place = desk()
    known = KnownOrders(place, [])
    order = carry_out(Submit("me", ORDER, NO_PRICE), place, known, T0).order
    unknown = ("NOT_FOUND", "UNKNOWN_ORDER")
    assert refusal(Cancel("you", order.number, ""), place, known) == unknown
    assert refusal(Cancel("you", 0, "a"), place, known) == unknown
    assert refusal(Replace("you", ReplaceRequest(order.number, "b", 5, 5), NO_PRICE), place, known) == unknown
    assert carry_out(Submit("you", ORDER, NO_PRICE), place, known, T0).order.number == 2


def test_a_replacement_is_made_once() -> None:
    """Asked again it gives both orders as they stand; its key is taken for anything else."""
    place = desk()
    known = KnownOrders(place, [])
    carry_out(Submit("me", ORDER, NO_PRICE), place, known, T0)
    command = Replace("me", ReplaceRequest(1, "b", 5, 5), NO_PRICE)
    first = carry_out(command, place, known, T0 + 1)
    assert carry_out(command, place, known, T0 + 2) == first
    assert first.replaced is not None
    assert (first.order.replaces, first.replaced.replaced_by) == (1, 2)
    taken = ("ALREADY_EXISTS", "CLIENT_ORDER_ID_TAKEN")
    assert refusal(Replace("me", ReplaceRequest(1, "b", 6, 5), NO_PRICE), place, known) == taken
    assert refusal(Submit("me", replace(ORDER, client_order_id="b"), NO_PRICE), place, known) == taken
    again = Replace("me", ReplaceRequest(1, "c", 5, 5), NO_PRICE)
    assert refusal(again, place, known) == ("FAILED_PRECONDITION", "NOT_WORKING")


def test_a_refused_command_leaves_no_trace() -> None:
    """What the desk has noted before is all there is."""
    place = desk()
    known = KnownOrders(place, [])
    refusal(Cancel("me", 7, ""), place, known)
    assert not place.changes
    assert place.next_order == 1


def test_what_is_looked_up_before() -> None:
    """Keys of all, numbers of those that name one."""
    commands: list[Command] = [
        Submit("me", ORDER, NO_PRICE),
        Cancel("you", 3, ""),
        Replace("me", ReplaceRequest(4, "b", 5, 5), NO_PRICE),
    ]
    assert keys_of(commands) == [("me", "a"), ("you", ""), ("me", "b")]
    assert numbers_of(commands) == [3, 4]
    stored: list[Order] = []
    assert KnownOrders(desk(), stored).by_key("me", "a") is None
