"""The calls of `marketfeed.v1.Orders`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from marketfeed.adapters.grpc_server import Call, Caller
from marketfeed.domain.access import OPEN, Principal
from marketfeed.domain.errors import CallRefused, CallStatus
from marketfeed.domain.order_commands import Cancel, Replace, Submit, key_is_taken, unknown_order
from marketfeed.domain.order_validation import OrderRules, check_form, check_replace_form
from marketfeed.domain.orders import Fill, Order, OrderChange
from marketfeed.orders.pipeline import OrderService
from marketfeed.orders.ports import Market, Reader
from marketfeed.orders.updates import Updates, follow
from marketfeed.wire.orders import (
    fill_message,
    fill_messages,
    order_message,
    order_number,
    order_request,
    replace_request,
)
from marketfeed.wire.v1 import orders_pb2 as pb

LIST_DEFAULT, LIST_MAX = 100, 1_000
# Whose orders a caller's are.
AccountOf = Callable[[Principal], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCalls:
    """Answers calls about the orders of one feed."""

    service: OrderService
    market: Market
    reader: Reader
    updates: Updates
    rules: OrderRules
    account_of: AccountOf
    fresh_ms: int

    def calls(self) -> Mapping[str, Call]:
        """The methods by name."""
        return {
            "SubmitOrder": Call(pb.SubmitOrderRequest, unary=self.submit),
            "CancelOrder": Call(pb.CancelOrderRequest, unary=self.cancel),
            "ReplaceOrder": Call(pb.ReplaceOrderRequest, unary=self.replace),
            "GetOrder": Call(pb.GetOrderRequest, unary=self.get),
            "ListOrders": Call(pb.ListOrdersRequest, unary=self.page),
            "StreamOrders": Call(pb.StreamOrdersRequest, stream=self.stream),
        }

    async def submit(self, message: pb.SubmitOrderRequest, caller: Caller) -> pb.SubmitOrderResponse:
        """Accept an order, or say what stands under its client order id already, even while mds is away."""
        account, request = self._account(caller), order_request(message)
        before = await self.reader.by_client_order_id(account, request.client_order_id)
        if before is not None:
            if not before[0].asks_the_same(request):
                raise key_is_taken(before[0])
            return _submitted(*before)
        check_form(request, self.rules)
        if not caller.principal.may_see(request.symbol):
            sentence = f"{account} may not trade {request.symbol}"
            raise CallRefused(CallStatus.PERMISSION_DENIED, "FORBIDDEN", sentence)
        reference = await self.market.reference(request.symbol, self.rules.max_age_ms)
        answer = await self.service.ask(Submit(account, request, reference))
        return _submitted(*await self._stored(account, answer.order))

    async def cancel(self, message: pb.CancelOrderRequest, caller: Caller) -> pb.CancelOrderResponse:
        """End an order."""
        number, key = _named(message.order_id, message.client_order_id)
        answer = await self.service.ask(Cancel(self._account(caller), number, key))
        return pb.CancelOrderResponse(order=order_message(answer.order))

    async def replace(self, message: pb.ReplaceOrderRequest, caller: Caller) -> pb.ReplaceOrderResponse:
        """Another order in place of one; as with `submit`, what was done already is told again."""
        account, request = self._account(caller), replace_request(message)
        found = await self.reader.by_number(account, request.number)
        if found is None:
            raise unknown_order()
        before = await self.reader.by_client_order_id(account, request.client_order_id)
        if before is not None:
            if not before[0].replaces_the_same(request):
                raise key_is_taken(before[0])
            return pb.ReplaceOrderResponse(order=order_message(before[0]), replaced=order_message(found[0]))
        check_replace_form(request, self.rules)
        reference = await self.market.reference(found[0].symbol, self.rules.max_age_ms)
        answer = await self.service.ask(Replace(account, request, reference))
        assert answer.replaced is not None
        return pb.ReplaceOrderResponse(order=order_message(answer.order), replaced=order_message(answer.replaced))

    async def get(self, message: pb.GetOrderRequest, caller: Caller) -> pb.GetOrderResponse:
        """One order with its fills."""
        number, key = _named(message.order_id, message.client_order_id)
        account = self._account(caller)
        if number:
            found = await self.reader.by_number(account, number)
        else:
            found = await self.reader.by_client_order_id(account, key)
        if found is None:
            raise unknown_order()
        return pb.GetOrderResponse(order=order_message(found[0]), fills=fill_messages(found[1]))

    async def page(self, message: pb.ListOrdersRequest, caller: Caller) -> pb.ListOrdersResponse:
        """A page of orders, the oldest first."""
        limit = min(message.limit or LIST_DEFAULT, LIST_MAX)
        after = order_number(message.after) if message.after else 0
        found = await self.reader.page(
            self._account(caller), after, limit + 1, working_only=message.working_only, symbol=message.symbol
        )
        page = found[:limit]
        more = str(page[-1].number) if len(found) > limit else ""
        return pb.ListOrdersResponse(orders=[order_message(order) for order in page], next_after=more)

    async def stream(self, message: pb.StreamOrdersRequest, caller: Caller) -> AsyncIterator[pb.StreamOrdersResponse]:
        """What stands, then each change."""
        account = self._account(caller)
        self.service.check_writer()
        async for event in follow(self.updates, self.reader, account, message.after_update):
            yield self._told(event)

    def _told(self, event: Order | OrderChange | None) -> pb.StreamOrdersResponse:
        if event is None:
            now_ns = time.time_ns()
            fresh = self.service.tape.is_fresh(now_ns, self.fresh_ms)
            return pb.StreamOrdersResponse(heartbeat=pb.OrdersHeartbeat(server_ts=now_ns, tape_fresh=fresh))
        if isinstance(event, Order):
            update = pb.OrderUpdate(order=order_message(event), snapshot=True)
        else:
            fill = None if event.fill is None else fill_message(event.fill)
            update = pb.OrderUpdate(order=order_message(event.order), fill=fill)
        return pb.StreamOrdersResponse(update=update)

    def _account(self, caller: Caller) -> str:
        return self.account_of(caller.principal)

    async def _stored(self, account: str, order: Order) -> tuple[Order, list[Fill]]:
        """The order just answered, with its fills; those only come from storage."""
        if not order.filled_quantity:
            return order, []
        return await self.reader.by_number(account, order.number) or (order, [])


def _submitted(order: Order, fills: list[Fill]) -> pb.SubmitOrderResponse:
    return pb.SubmitOrderResponse(order=order_message(order), fills=fill_messages(fills))


def _named(order_id: str, client_order_id: str) -> tuple[int, str]:
    """(number, "") or (0, client order id). Raises CallRefused unless just one is given."""
    if bool(order_id) == bool(client_order_id):
        message = "name the order by order_id or by client_order_id"
        raise CallRefused(CallStatus.INVALID_ARGUMENT, "BAD_NAME", message)
    return (order_number(order_id), "") if order_id else (0, client_order_id)


def account_of(principal: Principal) -> str:
    """The account of a principal is its subject; where everybody is let in, everybody is one account."""
    return "paper" if principal is OPEN else principal.subject
