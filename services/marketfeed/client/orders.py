"""The public client of `marketfeed.v1.Orders`.

    async with OrdersClient("127.0.0.1:50052") as client:
        answer = await client.submit(pb.SubmitOrderRequest(client_order_id="mine-1", symbol="AAPL", …))

Every call may be repeated with the same client order id, and is repeated by its caller after Unavailable: whether it
was carried out then is not known, and asking again tells. One TCP connection serves all calls of a client.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.message import Message

from marketfeed.client.market_data import SILENCE_S, translated
from marketfeed.domain.errors import Unavailable
from marketfeed.wire.v1 import orders_pb2 as pb

CALL_S = 15.0
_SERVICE = "/marketfeed.v1.Orders/"
_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),  # the library's two minutes are longer than any restart
    ("grpc.lb_policy_name", "round_robin"),
)


class OrdersClient:
    """One channel to an address; `token` is sent as a bearer token. Calls raise CallRefused, Unavailable."""

    def __init__(self, target: str, *, token: str | None = None) -> None:
        self._target = target
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all calls."""
        await self._channel.close()

    async def submit(self, request: pb.SubmitOrderRequest, timeout_s: float = CALL_S) -> pb.SubmitOrderResponse:
        """A new order, or what stands under its client order id."""
        found: pb.SubmitOrderResponse = await self._call("SubmitOrder", request, pb.SubmitOrderResponse, timeout_s)
        return found

    async def cancel(self, request: pb.CancelOrderRequest, timeout_s: float = CALL_S) -> pb.CancelOrderResponse:
        """The end of an order."""
        found: pb.CancelOrderResponse = await self._call("CancelOrder", request, pb.CancelOrderResponse, timeout_s)
        return found

    async def replace(self, request: pb.ReplaceOrderRequest, timeout_s: float = CALL_S) -> pb.ReplaceOrderResponse:
        """Another limit or quantity."""
        found: pb.ReplaceOrderResponse = await self._call("ReplaceOrder", request, pb.ReplaceOrderResponse, timeout_s)
        return found

    async def get(self, request: pb.GetOrderRequest, timeout_s: float = CALL_S) -> pb.GetOrderResponse:
        """An order with its fills."""
        found: pb.GetOrderResponse = await self._call("GetOrder", request, pb.GetOrderResponse, timeout_s)
        return found

    async def list(self, request: pb.ListOrdersRequest, timeout_s: float = CALL_S) -> pb.ListOrdersResponse:
        """A page of orders."""
        found: pb.ListOrdersResponse = await self._call("ListOrders", request, pb.ListOrdersResponse, timeout_s)
        return found

    async def stream(self, after_update: int = 0) -> AsyncIterator[pb.StreamOrdersResponse]:
        """The messages of one StreamOrders call. It ends with CallRefused or Unavailable: come back with the newest
        update number."""
        method = self._channel.unary_stream(
            _SERVICE + "StreamOrders", pb.StreamOrdersRequest.SerializeToString, pb.StreamOrdersResponse.FromString
        )
        call = method(pb.StreamOrdersRequest(after_update=after_update), metadata=self._metadata)
        try:
            while True:
                async with asyncio.timeout(SILENCE_S):
                    message = await call.read()
                if message is grpc.aio.EOF:
                    raise Unavailable("Orders", self._target, "the stream has ended")
                yield message
        except TimeoutError as error:
            raise Unavailable("Orders", self._target, f"silent for {SILENCE_S:g} s") from error
        except grpc.aio.AioRpcError as error:
            raise translated(error, self._target, "Orders") from error
        finally:
            call.cancel()

    async def _call(self, name: str, request: Message, answer: type[Message], timeout_s: float) -> Any:
        method = self._channel.unary_unary(_SERVICE + name, type(request).SerializeToString, answer.FromString)
        try:
            return await method(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise translated(error, self._target, "Orders") from error
