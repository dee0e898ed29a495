"""Messages of `marketfeed.v1.Orders`: requests into values, values into messages. Enumerations share their numbers."""

from __future__ import annotations

from collections.abc import Iterable

from marketfeed.domain.errors import CallRefused, CallStatus
from marketfeed.domain.orders import Fill, Order, OrderRequest, OrderType, ReplaceRequest, Side, TimeInForce
from marketfeed.wire.v1 import orders_pb2 as pb

NO_PARTITION = -1


def order_request(request: pb.SubmitOrderRequest) -> OrderRequest:
    """What is asked for. A market order without a time in force is IOC. Raises CallRefused for a missing word."""
    market = request.type == pb.ORDER_TYPE_MARKET
    time_in_force = request.time_in_force or (pb.TIME_IN_FORCE_IOC if market else 0)
    try:
        return OrderRequest(
            request.client_order_id,
            request.symbol,
            Side(request.side),
            OrderType(request.type),
            TimeInForce(time_in_force),
            request.quantity_nanos,
            request.limit_price_nanos,
        )
    except ValueError as error:
        what = "side, type and, for limit orders, time_in_force have to be given"
        raise CallRefused(CallStatus.INVALID_ARGUMENT, "MISSING_WORD", what) from error


def replace_request(request: pb.ReplaceOrderRequest) -> ReplaceRequest:
    """What is asked for. Raises CallRefused for an order id that is none."""
    return ReplaceRequest(
        order_number(request.order_id),
        request.new_client_order_id,
        request.quantity_nanos,
        request.limit_price_nanos,
    )


def order_number(order_id: str) -> int:
    """The number in an order id. Raises CallRefused for what is none of ours."""
    if order_id.isascii() and order_id.isdigit() and len(order_id) <= 18 and int(order_id):
        return int(order_id)
    raise CallRefused(CallStatus.INVALID_ARGUMENT, "BAD_ORDER_ID", "this is no order id of ours")


def order_message(order: Order) -> pb.Order:
    """An order as it stands."""
    return pb.Order(
        order_id=str(order.number),
        client_order_id=order.client_order_id,
        account=order.account,
        symbol=order.symbol,
        side=int(order.side),  # type: ignore[arg-type]  # a number of the enum, here and below
        type=int(order.type),  # type: ignore[arg-type]
        time_in_force=int(order.time_in_force),  # type: ignore[arg-type]
        quantity_nanos=order.quantity,
        limit_price_nanos=order.limit_price,
        state=int(order.state),  # type: ignore[arg-type]
        filled_quantity_nanos=order.filled_quantity,
        average_price_nanos=order.average_price,
        reason=order.reason,
        accepted_ts=order.accepted_ts,
        updated_ts=order.updated_ts,
        update=order.update,
        replaces=str(order.replaces or ""),
        replaced_by=str(order.replaced_by or ""),
    )


def fill_message(fill: Fill) -> pb.Fill:
    """A fill; that of a market order has the partition -1."""
    name = fill.print
    return pb.Fill(
        fill_id=str(fill.number),
        order_id=str(fill.order),
        quantity_nanos=fill.quantity,
        price_nanos=fill.price,
        event_ts=fill.event_ts,
        partition=NO_PARTITION if name is None else name.partition,
        offset=0 if name is None else name.offset,
        index=0 if name is None else name.index,
    )


def fill_messages(fills: Iterable[Fill]) -> list[pb.Fill]:
    """Several, in their order."""
    return [fill_message(fill) for fill in fills]
