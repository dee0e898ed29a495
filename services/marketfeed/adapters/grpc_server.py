"""gRPC's port: health (grpc.health.v1) and reflection, with the limits that every service behind it shares.

Health is what balancers and orchestrators ask: the empty name stands for the whole server, `marketfeed.v1.MarketData`
for market data. Watchers are told at once. A server that ends says NOT_SERVING first, so that clients look elsewhere
while it still answers.

Limits: a client may ping every 10 s; connections that answer no ping for 10 s are cut; a connection is asked to go
after half an hour, so that clients of a headless Service find new replicas; streams of one connection, messages and
calls at once are bounded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from marketfeed.domain.errors import SettingError

MARKET_DATA = "marketfeed.v1.MarketData"
CALLS_MAX = 10_000
STREAMS_MAX = 128
MESSAGE_BYTES_MAX = 4 << 20
REQUEST_BYTES_MAX = 64 << 10

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, not a share of the connections
    ("grpc.max_concurrent_streams", STREAMS_MAX),
    ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_connection_age_ms", 30 * 60_000),  # gRPC spreads it by a tenth either way
    ("grpc.max_connection_age_grace_ms", 30_000),
)


class _Counting(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Tells of each call by its method; methods that are not served are the client's invention and not counted."""

    def __init__(self, on_call: Callable[[str], None]) -> None:
        self._on_call = on_call

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Hand the call on, once it is counted."""
        handler = await continuation(handler_call_details)
        if handler is not None:
            self._on_call(handler_call_details.method)
        return handler


class GrpcServer:
    """One server on one port. It begins as NOT_SERVING; `on_call` hears the method of each call served."""

    def __init__(
        self,
        host: str,
        port: int,
        port_setting: str = "--grpc-port",
        on_call: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._host = host
        self._port = port
        self._port_setting = port_setting
        self._health = health_aio.HealthServicer()
        self._server = grpc.aio.server(
            interceptors=(_Counting(on_call),), options=_OPTIONS, maximum_concurrent_rpcs=CALLS_MAX
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((HEALTH_SERVICE, reflection.SERVICE_NAME), self._server)

    @property
    def port(self) -> int:
        """The port it listens on; the one asked for until `start`."""
        return self._port

    async def start(self) -> None:
        """Listen. Raises SettingError if the port is taken."""
        await self.say(serving=False)
        try:
            self._port = self._server.add_insecure_port(f"{self._host}:{self._port}")
        except RuntimeError as error:
            reason = f"{self._host}:{self._port} cannot be used; choose another"
            raise SettingError(self._port_setting, reason) from error
        await self._server.start()

    async def say(self, *, serving: bool) -> None:
        """Tell whoever asks, and whoever watches, whether this server wants calls."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", MARKET_DATA):
            await self._health.set(name, status)

    async def close(self, grace_s: float) -> None:
        """Say NOT_SERVING for good, take no more calls, and cut those that still run after `grace_s`."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)
