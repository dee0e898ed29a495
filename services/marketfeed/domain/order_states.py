"""The states of an order and the steps between them: what is not in the table below cannot happen.

    (none) ──► WORKING ──► PARTIALLY_FILLED ──► FILLED
       │          │  ▲            │  ▲     └──► CANCELLED, REPLACED, EXPIRED
       │          ▼  │            ▼  │
       │          SUSPENDED ◄──────┘   (the tape has a hole; back once fresh tape arrives)
       └──► REJECTED

Every accepted order begins as WORKING, a market order included, which is FILLED in the same instant. The numbers are
those of `marketfeed.v1.OrderState` and of the column in PostgreSQL, whose CHECK repeats the table.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping


class OrderState(enum.IntEnum):
    """Where an order stands."""

    WORKING = 1
    PARTIALLY_FILLED = 2
    FILLED = 3
    CANCELLED = 4
    REPLACED = 5
    EXPIRED = 6
    REJECTED = 7
    SUSPENDED = 8


class OrderReason(enum.StrEnum):
    """Why an order is cancelled, expired, rejected or suspended; part of the public API.

    A rejected order may also carry one of the reasons for which there is no reference price (`reference_price.py`).
    """

    CANCELLED_BY_CALLER = "CANCELLED_BY_CALLER"
    IOC_UNFILLED = "IOC_UNFILLED"
    IOC_NO_TAPE = "IOC_NO_TAPE"
    DAY_ENDED = "DAY_ENDED"
    OUTSIDE_COLLAR = "OUTSIDE_COLLAR"
    FEED_GAP = "FEED_GAP"
    TAPE_LOST = "TAPE_LOST"


class IllegalTransition(AssertionError):
    """A step that the table does not have: a bug, never a caller's mistake."""


_S = OrderState
_ENDS = frozenset({_S.FILLED, _S.CANCELLED, _S.REPLACED, _S.EXPIRED})
# From a state (None: there is no order yet) to those that may follow it.
ALLOWED: Mapping[OrderState | None, frozenset[OrderState]] = {
    None: frozenset({_S.WORKING, _S.REJECTED}),
    _S.WORKING: _ENDS | {_S.PARTIALLY_FILLED, _S.SUSPENDED},
    # Another part filled is a step, too.
    _S.PARTIALLY_FILLED: _ENDS | {_S.PARTIALLY_FILLED, _S.SUSPENDED},
    # A second hole makes it wait for longer. It neither fills nor is replaced.
    _S.SUSPENDED: frozenset({_S.WORKING, _S.PARTIALLY_FILLED, _S.SUSPENDED, _S.CANCELLED, _S.EXPIRED}),
    _S.FILLED: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.REPLACED: frozenset(),
    _S.EXPIRED: frozenset(),
    _S.REJECTED: frozenset(),
}
# States of an order that is not over.
WORKING_STATES = frozenset(state for state, following in ALLOWED.items() if state is not None and following)


def check_transition(before: OrderState | None, after: OrderState) -> None:
    """Raise IllegalTransition unless `after` may follow `before`."""
    if after not in ALLOWED[before]:
        raise IllegalTransition(f"an order does not go from {before.name if before else 'nothing'} to {after.name}")
