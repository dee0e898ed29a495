"""What an order must be like: its form, ticks and lots, the day it ends with."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.unit.domain.order_tapes import RULES, limit

from marketfeed.domain.errors import CallRefused, CallStatus
from marketfeed.domain.order_validation import Ticks, amount, check_form, check_replace_form, expires_ts
from marketfeed.domain.orders import OrderRequest, OrderType, ReplaceRequest, Side, TimeInForce
from marketfeed.domain.sessions import calendar
from marketfeed.domain.trades import NANOS

RULES_OF_STOCKS = replace(RULES, ticks=Ticks.parse("0:0.0001,1:0.01"), lot=NANOS // 10, quantity_max=100 * NANOS)
GOOD = limit(Side.BUY, 10_010_000_000, 3 * NANOS)


def refusal(request: OrderRequest) -> str:
    """The reason for which a request is refused, empty for none."""
    try:
        check_form(request, RULES_OF_STOCKS)
    except CallRefused as refused:
        return refused.reason if refused.status is CallStatus.INVALID_ARGUMENT else refused.status.name
    return ""


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, ""),
        ({"client_order_id": ""}, "BAD_CLIENT_ORDER_ID"),
        ({"client_order_id": "with space"}, "BAD_CLIENT_ORDER_ID"),
        ({"client_order_id": "x" * 65}, "BAD_CLIENT_ORDER_ID"),
        ({"client_order_id": "x\n"}, "BAD_CLIENT_ORDER_ID"),
        ({"symbol": ""}, "BAD_SYMBOL"),
        ({"symbol": "A\0"}, "BAD_SYMBOL"),
        ({"quantity": 0}, "BAD_QUANTITY"),
        ({"quantity": -NANOS}, "BAD_QUANTITY"),
        ({"quantity": 101 * NANOS}, "BAD_QUANTITY"),
        ({"quantity": NANOS // 10 + 1}, "BAD_LOT"),
        ({"limit_price": 0}, "BAD_PRICE"),
        ({"limit_price": -1}, "BAD_PRICE"),
        ({"limit_price": 10_001_000_000}, "BAD_TICK"),
        ({"limit_price": 500_100_000}, ""),
        ({"limit_price": 500_110_000}, "BAD_TICK"),
    ],
)
def test_the_form_of_a_limit_order(changed: dict[str, object], reason: str) -> None:
    """Each wrong word has a reason of its own; the tick depends on the price."""
    assert refusal(replace(GOOD, **changed)) == reason  # type: ignore[arg-type]


def test_the_form_of_a_market_order() -> None:
    """It has no price and does not wait."""
    market = replace(GOOD, type=OrderType.MARKET, limit_price=0, time_in_force=TimeInForce.IOC)
    assert refusal(market) == ""
    assert refusal(replace(market, time_in_force=TimeInForce.DAY)) == ""
    assert refusal(replace(market, time_in_force=TimeInForce.GTC)) == "BAD_TIME_IN_FORCE"
    assert refusal(replace(market, limit_price=1)) == "BAD_PRICE"


def test_the_form_of_a_replacement() -> None:
    """The same rules hold for it."""
    good = ReplaceRequest(1, "k2", 3 * NANOS, 10_010_000_000)
    check_replace_form(good, RULES_OF_STOCKS)
    for bad in (replace(good, client_order_id=""), replace(good, quantity=1), replace(good, limit_price=1)):
        with pytest.raises(CallRefused):
            check_replace_form(bad, RULES_OF_STOCKS)


@pytest.mark.parametrize("text", ["", "1:0.01", "0:0", "0:-1", "0:0.01,0:1", "0:1,5:1,2:1", "0:0.0000000001", "0"])
def test_ticks_that_mean_nothing_are_refused(text: str) -> None:
    """Bands begin at 0 and rise, ticks are above 0 and at most nine decimals fine."""
    with pytest.raises(ValueError, match=r"."):
        Ticks.parse(text)


def test_amounts_are_exact() -> None:
    """Decimals, not doubles."""
    assert amount(" 0.1 ") == 100_000_000
    assert amount("1e2") == 100 * NANOS
    for text in ("x", "nan", "inf", "-1", "1e30"):
        with pytest.raises(ValueError, match="amount"):
            amount(text)


def instant(text: str) -> int:
    return int(datetime.fromisoformat(text).astimezone(UTC).timestamp()) * NANOS


@pytest.mark.parametrize(
    ("name", "now", "ends"),
    [
        ("24x7", "2026-03-06T23:59:59+00:00", "2026-03-07T00:00:00+00:00"),
        ("24x7", "2026-03-07T00:00:00+00:00", "2026-03-08T00:00:00+00:00"),
        # Friday's post session ends at 20:00; after that, and before the next one, it is Monday's.
        ("us-equity", "2026-03-06T10:00:00-05:00", "2026-03-06T20:00:00-05:00"),
        ("us-equity", "2026-03-06T03:00:00-05:00", "2026-03-06T20:00:00-05:00"),
        ("us-equity", "2026-03-06T20:00:00-05:00", "2026-03-09T20:00:00-04:00"),
        # The day after Thanksgiving is a half day.
        ("us-equity", "2026-11-26T12:00:00-05:00", "2026-11-27T17:00:00-05:00"),
    ],
)
def test_a_day_ends_with_its_last_session(name: str, now: str, ends: str) -> None:
    """Or with that of the next trade date that has one still to come, through weekends, holidays and time changes."""
    assert expires_ts(TimeInForce.DAY, calendar(name), instant(now)) == instant(ends)
    assert expires_ts(TimeInForce.GTC, calendar(name), instant(now)) == 0
