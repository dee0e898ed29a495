"""Orders as values: mean price, and what counts as the same request."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.domain.order_tapes import NO_PRICE, T0, desk, limit, resting

from marketfeed.domain.orders import ReplaceRequest, Side, TimeInForce


def test_the_mean_price_is_rounded_once() -> None:
    """3 at 10 and 1 at 12 are 10.5, which is 11 when there are no smaller units."""
    order = replace(resting(1, Side.BUY, 20, 10), filled_quantity=4, filled_notional=42)
    assert order.average_price == 11
    assert replace(order, filled_quantity=0, filled_notional=0).average_price == 0


def test_the_same_request_is_known_again() -> None:
    """Any other word in it makes it another."""
    request = limit(Side.BUY, 10, 5)
    order = desk().submit("me", request, NO_PRICE, T0)
    assert order.asks_the_same(request)
    others = [
        replace(request, symbol="B"),
        replace(request, side=Side.SELL),
        replace(request, time_in_force=TimeInForce.DAY),
        replace(request, quantity=6),
        replace(request, limit_price=11),
    ]
    assert not any(order.asks_the_same(other) for other in others)


def test_a_replacement_is_not_what_an_order_of_the_same_words_asked_for() -> None:
    """A key used for a replacement is not free for an order, and the other way round."""
    place = desk()
    order = place.submit("me", limit(Side.BUY, 10, 5), NO_PRICE, T0)
    request = ReplaceRequest(order.number, "k2", 4, 10)
    new, _ = place.replace(order, request, NO_PRICE, T0 + 1)
    assert new.replaces_the_same(request)
    assert not new.asks_the_same(limit(Side.BUY, 10, 4))
    assert not new.replaces_the_same(replace(request, quantity=3))
    assert not order.replaces_the_same(request)
