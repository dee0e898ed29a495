"""What an order must be like to be accepted: its form, the tick of its price, its lot, its distance from the market.

What is wrong with a request whatever the market does is refused by status and not kept. What the market's state forbids
now makes a REJECTED order, which the same client order id gives again.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation

from marketfeed.domain.errors import CallRefused, CallStatus
from marketfeed.domain.order_states import OrderReason
from marketfeed.domain.orders import NANOS_MAX, OrderRequest, OrderType, ReplaceRequest, TimeInForce
from marketfeed.domain.reference_price import NoPrice
from marketfeed.domain.sessions import Calendar
from marketfeed.domain.trades import NANOS

# Letters, digits and signs of ASCII, no spaces.
_CLIENT_ORDER_ID = re.compile(r"[!-~]{1,64}", re.ASCII)
# The longest run of days without a session that a calendar may have.
_CLOSED_DAYS_MAX = 14
_BPS = 10_000


@dataclass(frozen=True, slots=True)
class Ticks:
    """The smallest step of a price by band: from `floors[i]` on it is `steps[i]` (nanos, floors rise from 0)."""

    floors: tuple[int, ...]
    steps: tuple[int, ...]

    @staticmethod
    def parse(text: str) -> Ticks:
        """Bands such as `0:0.0001,1:0.01`. Raises ValueError with a sentence.

        >>> Ticks.parse("0:0.0001,1:0.01").of(1_500_000_000)
        10000000
        """
        pairs = [part.strip().split(":") for part in text.split(",")]
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError("write bands as FROM:TICK,FROM:TICK such as 0:0.0001,1:0.01")
        floors, steps = tuple(amount(pair[0]) for pair in pairs), tuple(amount(pair[1]) for pair in pairs)
        if floors[0] != 0 or list(floors) != sorted(set(floors)) or min(steps) <= 0:
            raise ValueError("bands begin at 0 and rise, and ticks are above 0")
        return Ticks(floors, steps)

    def of(self, price: int) -> int:
        """The tick at a price."""
        return self.steps[bisect_right(self.floors, price) - 1]


def amount(text: str) -> int:
    """The nanos of a decimal, such as 0.01. Raises ValueError."""
    try:
        scaled = Decimal(text.strip()) * NANOS
        if scaled == scaled.to_integral_value() and 0 <= scaled <= NANOS_MAX:
            return int(scaled)
    except InvalidOperation:
        pass
    raise ValueError(f"{text!r} is no amount with at most 9 decimals")


@dataclass(frozen=True, slots=True)
class OrderRules:
    """What is accepted. Amounts in nanos; `collar_bps` of 10,000 the reference price, `max_age_ms` of that price."""

    ticks: Ticks
    lot: int
    quantity_max: int
    collar_bps: int
    max_age_ms: int
    working_max: int
    account_working_max: int


@dataclass(frozen=True, slots=True)
class Reference:
    """What mds said about a symbol's price: nanos, or the reason why there is none; asked at `asked_ts`."""

    price: int | None
    refusal: str
    asked_ts: int


def check_form(request: OrderRequest, rules: OrderRules) -> None:
    """Raise CallRefused (INVALID_ARGUMENT) for what is wrong with an order by itself."""
    _check_id(request.client_order_id)
    if not 1 <= len(request.symbol) <= 64 or not request.symbol.isprintable():
        raise _wrong("BAD_SYMBOL", "symbol is missing, or no name that a feed would have")
    _check_quantity(request.quantity, rules)
    if request.type is OrderType.LIMIT:
        _check_limit(request.limit_price, rules)
    else:
        if request.limit_price:
            raise _wrong("BAD_PRICE", "a market order has no limit price; leave it out")
        if request.time_in_force is TimeInForce.GTC:
            raise _wrong("BAD_TIME_IN_FORCE", "a market order is filled at once; choose IOC or DAY")


def check_replace_form(request: ReplaceRequest, rules: OrderRules) -> None:
    """The same for a replacement."""
    _check_id(request.client_order_id)
    _check_quantity(request.quantity, rules)
    _check_limit(request.limit_price, rules)


def _check_id(client_order_id: str) -> None:
    if not _CLIENT_ORDER_ID.fullmatch(client_order_id):
        raise _wrong("BAD_CLIENT_ORDER_ID", "the client order id has 1 to 64 printable ASCII characters, no spaces")


def _check_quantity(quantity: int, rules: OrderRules) -> None:
    if not 0 < quantity <= rules.quantity_max:
        raise _wrong("BAD_QUANTITY", f"the quantity is above 0 and at most {rules.quantity_max}", "quantity")
    if quantity % rules.lot:
        raise _wrong("BAD_LOT", f"the quantity is a multiple of {rules.lot}", "quantity")


def _check_limit(limit_price: int, rules: OrderRules) -> None:
    if limit_price <= 0:
        raise _wrong("BAD_PRICE", "a limit order needs a limit price above 0", "limit_price")
    tick = rules.ticks.of(limit_price)
    if limit_price % tick:
        raise _wrong("BAD_TICK", f"the limit price is a multiple of {tick}", "limit_price")


def _wrong(reason: str, message: str, field: str = "") -> CallRefused:
    unit = f" (nanos, {field})" if field else ""
    return CallRefused(CallStatus.INVALID_ARGUMENT, reason, message + unit)


def market_refusal(request: OrderRequest, reference: Reference, rules: OrderRules, now_ns: int) -> str:
    """Why the market's state forbids the order now; empty if it does not.

    A market order needs a fresh price. A limit order may rest without one, as it fills by the tape only; with one, its
    limit must lie within the collar.
    """
    if reference.price is None:
        return reference.refusal if request.type is OrderType.MARKET else ""
    if now_ns - reference.asked_ts > rules.max_age_ms * 1_000_000:
        # It was fresh when it was asked for, and has waited here since.
        return NoPrice.STALE.value if request.type is OrderType.MARKET else ""
    if request.type is OrderType.LIMIT and outside_collar(request.limit_price, reference.price, rules):
        return OrderReason.OUTSIDE_COLLAR.value
    return ""


def outside_collar(limit_price: int, reference_price: int, rules: OrderRules) -> bool:
    """Whether a limit lies further from the reference price than allowed, on either side.

    >>> rules = OrderRules(Ticks((0,), (1,)), 1, 10, 1000, 5000, 10, 10)
    >>> [outside_collar(limit, 100, rules) for limit in (89, 90, 110, 111)]
    [True, False, False, True]
    """
    return abs(limit_price - reference_price) * _BPS > reference_price * rules.collar_bps


def expires_ts(time_in_force: TimeInForce, calendar: Calendar, now_ns: int) -> int:
    """When a DAY order ends: with the last session of this trade date, or of the next that has one still to come; 0
    for the others."""
    if time_in_force is not TimeInForce.DAY:
        return 0
    day = calendar.trade_date(now_ns)
    for ahead in range(_CLOSED_DAYS_MAX):
        hours = calendar.hours(day + timedelta(days=ahead))
        if hours and hours[-1].end_s * NANOS > now_ns:
            return hours[-1].end_s * NANOS
    raise AssertionError(f"{calendar.name} has no session within {_CLOSED_DAYS_MAX} days of {day}")
