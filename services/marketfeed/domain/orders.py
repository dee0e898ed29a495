"""Orders and fills as values. Prices are integers of 10^-9 of the currency, quantities of 10^-9 of a share (nanos).

`Order.stepped` is the only way from one state to the next, so no order in memory or storage has gone a forbidden way.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from marketfeed.domain.order_states import WORKING_STATES, OrderState, check_transition

# What an int64 holds: prices and quantities are never larger.
NANOS_MAX = 2**63 - 1


class Side(enum.IntEnum):
    """Numbers as in `marketfeed.v1.Side`."""

    BUY = 1
    SELL = 2


class OrderType(enum.IntEnum):
    """Numbers as in `marketfeed.v1.OrderType`."""

    LIMIT = 1
    MARKET = 2


class TimeInForce(enum.IntEnum):
    """Numbers as in `marketfeed.v1.TimeInForce`."""

    DAY = 1
    GTC = 2
    IOC = 3


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """What a caller asks for. `limit_price` is 0 for a market order."""

    client_order_id: str
    symbol: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    quantity: int
    limit_price: int


@dataclass(frozen=True, slots=True)
class ReplaceRequest:
    """Another quantity or limit for the order `number`. `quantity` is the whole, what has been filled included."""

    number: int
    client_order_id: str
    quantity: int
    limit_price: int


@dataclass(frozen=True, slots=True)
class PrintId:
    """A print's name. `tape` counts the tapes of a service: after a tape that was lost, offsets may begin anew."""

    tape: int
    partition: int
    offset: int
    index: int


@dataclass(frozen=True, slots=True)
class Fill:
    """A part of an order that was filled, at `price`; `print` is None for a market order."""

    number: int
    order: int
    quantity: int
    price: int
    event_ts: int
    print: PrintId | None


@dataclass(frozen=True, slots=True)
class Order:
    """An order as it stands after its update number `update`. Stamps are Unix nanoseconds.

    number            names the order; numbers rise
    filled_quantity   what was filled, by orders that this one replaces included
    filled_notional   sum of price times quantity of those fills, in 10^-18
    queued_ts         prints stamped or logged up to then are not for it: when it was accepted, or when the order was
                      whose place it has kept
    priority          rank among equal limits, the lower the earlier
    expires_ts        prints stamped from then on are not for it; 0: it does not expire
    suspended_until   end of the hole in the tape; a print or a watermark beyond it ends the suspension
    replaces, replaced_by   numbers of orders, 0 for none
    """

    number: int
    account: str
    client_order_id: str
    symbol: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    quantity: int
    limit_price: int
    state: OrderState
    filled_quantity: int
    filled_notional: int
    reason: str
    accepted_ts: int
    updated_ts: int
    update: int
    replaces: int
    replaced_by: int
    queued_ts: int
    priority: int
    expires_ts: int
    suspended_until: int

    @property
    def remaining(self) -> int:
        """What is not filled yet."""
        return self.quantity - self.filled_quantity

    @property
    def average_price(self) -> int:
        """Mean price of the fills, rounded half up; 0 without any."""
        filled = self.filled_quantity
        return (self.filled_notional + filled // 2) // filled if filled else 0

    @property
    def is_working(self) -> bool:
        """Whether it is not over."""
        return self.state in WORKING_STATES

    @property
    def resting_state(self) -> OrderState:
        """The state of an order that is neither over nor suspended."""
        return OrderState.PARTIALLY_FILLED if self.filled_quantity else OrderState.WORKING

    def stepped(self, state: OrderState, update: int, now_ns: int, **changed: Any) -> Order:
        """This order in its next state. Raises IllegalTransition for a step that no order may take."""
        check_transition(self.state, state)
        return replace(self, state=state, update=update, updated_ts=now_ns, **changed)

    def asks_the_same(self, request: OrderRequest) -> bool:
        """Whether it is what this request asked for."""
        asked = (request.symbol, request.side, request.type, request.time_in_force)
        amounts = (request.quantity, request.limit_price)
        mine = (self.symbol, self.side, self.type, self.time_in_force)
        return not self.replaces and mine == asked and (self.quantity, self.limit_price) == amounts

    def replaces_the_same(self, request: ReplaceRequest) -> bool:
        """Whether it is what this request made."""
        asked = (request.number, request.quantity, request.limit_price)
        return (self.replaces, self.quantity, self.limit_price) == asked


@dataclass(frozen=True, slots=True)
class OrderChange:
    """One step of an order: the state before (None: it is new), the order after it, and the fill that made it."""

    before: OrderState | None
    order: Order
    fill: Fill | None = None


@dataclass(frozen=True, slots=True)
class OrderCommit:
    """What one transaction writes, with the tape's place after it and the one it begins at."""

    changes: Sequence[OrderChange]
    expected_position: str
    position: str
    tape: int
    next_order: int
    next_fill: int
