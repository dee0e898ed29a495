"""Messages of orders: every word goes over, and what is missing is said."""

from __future__ import annotations

import pytest
from tests.unit.domain.order_tapes import NO_PRICE, T0, Row, desk, limit, prints_of

from marketfeed.domain.errors import CallRefused, CallStatus
from marketfeed.domain.order_states import OrderState
from marketfeed.domain.orders import OrderRequest, OrderType, ReplaceRequest, Side, TimeInForce
from marketfeed.wire.orders import fill_messages, order_message, order_number, order_request, replace_request
from marketfeed.wire.v1 import orders_pb2 as pb


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(Side, "Side"), (OrderType, "OrderType"), (TimeInForce, "TimeInForce"), (OrderState, "OrderState")],
)
def test_enumerations_share_their_numbers(ours: type[Side], theirs: str) -> None:
    """The contract's names and numbers are the domain's, but for the unspecified one."""
    values = pb.DESCRIPTOR.enum_types_by_name[theirs].values
    prefix = values[0].name.removesuffix("UNSPECIFIED")
    assert {value.name.removeprefix(prefix): value.number for value in values[1:]} == {v.name: int(v) for v in ours}


def test_a_request_keeps_its_words() -> None:
    """A market order without a time in force is IOC."""
    message = pb.SubmitOrderRequest(
        client_order_id="a", symbol="A", side=pb.SIDE_SELL, type=pb.ORDER_TYPE_LIMIT,
        time_in_force=pb.TIME_IN_FORCE_GTC, quantity_nanos=7, limit_price_nanos=5,
    )  # fmt: skip
    expected = OrderRequest("a", "A", Side.SELL, OrderType.LIMIT, TimeInForce.GTC, 7, 5)
    assert order_request(message) == expected
    market = pb.SubmitOrderRequest(side=pb.SIDE_BUY, type=pb.ORDER_TYPE_MARKET)
    assert order_request(market).time_in_force is TimeInForce.IOC


@pytest.mark.parametrize("missing", ["side", "type", "time_in_force"])
def test_a_missing_word_is_said(missing: str) -> None:
    """Nothing is guessed for a limit order; an enumeration's number from the future is no word either."""
    words = {"side": 1, "type": 1, "time_in_force": 1}
    for value in (0, 77):
        message = pb.SubmitOrderRequest(client_order_id="a", **words | {missing: value})  # type: ignore[arg-type]
        with pytest.raises(CallRefused) as refused:
            order_request(message)
        assert (refused.value.status, refused.value.reason) == (CallStatus.INVALID_ARGUMENT, "MISSING_WORD")


def test_order_ids_are_numbers_of_ours() -> None:
    """Anything else is refused before storage is asked."""
    assert order_number("42") == 42
    for text in ("", "0", "-1", "x", "1" * 19, "٣"):
        with pytest.raises(CallRefused):
            order_number(text)
    message = pb.ReplaceOrderRequest(order_id="3", new_client_order_id="b", quantity_nanos=2, limit_price_nanos=1)
    assert replace_request(message) == ReplaceRequest(3, "b", 2, 1)


def test_an_order_and_its_fills_are_told() -> None:
    """Numbers are texts, no predecessor is empty, and only fills by the tape name a print."""
    place = desk()
    place.submit("me", limit(Side.BUY, 5, 10), NO_PRICE, T0)
    place.prints(prints_of([Row(9, "A", T0 + 1, 4, 3, T0 + 1)], partition=2), T0 + 2)
    change = place.take_changes()[-1]
    told = order_message(change.order)
    assert (told.order_id, told.account, told.state) == ("1", "me", pb.ORDER_STATE_PARTIALLY_FILLED)
    assert (told.filled_quantity_nanos, told.average_price_nanos, told.update) == (3, 4, 2)
    assert (told.replaces, told.replaced_by, told.limit_price_nanos, told.quantity_nanos) == ("", "", 5, 10)
    assert change.fill is not None
    (fill,) = fill_messages([change.fill])
    assert (fill.partition, fill.offset, fill.index, fill.price_nanos, fill.order_id) == (2, 9, 0, 4, "1")
