"""The steps an order may take, and no others."""

from __future__ import annotations

import itertools

import pytest
from tests.unit.domain.order_tapes import T0, resting

from marketfeed.domain.order_states import ALLOWED, WORKING_STATES, IllegalTransition, OrderState, check_transition
from marketfeed.domain.orders import Side

ENDS = {OrderState.FILLED, OrderState.CANCELLED, OrderState.REPLACED, OrderState.EXPIRED, OrderState.REJECTED}


def test_every_state_is_either_working_or_final() -> None:
    """What has ended stays as it is, and everything else can end."""
    assert set(OrderState) == WORKING_STATES | ENDS
    assert not WORKING_STATES & ENDS
    for state in WORKING_STATES:
        assert {OrderState.CANCELLED, OrderState.EXPIRED} <= ALLOWED[state]


@pytest.mark.parametrize(("before", "after"), list(itertools.product([None, *OrderState], OrderState)))
def test_a_step_that_the_table_lacks_is_refused(before: OrderState | None, after: OrderState) -> None:
    """Of all pairs, just the table's pass."""
    if after in ALLOWED[before]:
        check_transition(before, after)
    else:
        with pytest.raises(IllegalTransition):
            check_transition(before, after)


def test_a_suspended_order_neither_fills_nor_is_replaced() -> None:
    """While the tape has a hole nothing is filled."""
    assert not ALLOWED[OrderState.SUSPENDED] & {OrderState.FILLED, OrderState.REPLACED}


def test_an_order_in_memory_cannot_take_a_forbidden_step() -> None:
    """The only way to another state looks at the table."""
    over = resting(1, Side.BUY, 10, 5).stepped(OrderState.CANCELLED, 2, T0)
    with pytest.raises(IllegalTransition):
        over.stepped(OrderState.FILLED, 3, T0)
