"""gRPC's port: what a balancer asks, what a watcher is told, and the list of services."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from marketfeed.adapters.grpc_server import MARKET_DATA, ORDERS, GrpcServer
from marketfeed.adapters.tokens import TokenGate
from marketfeed.domain.errors import SettingError

OPEN_GATE = TokenGate(open=True)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[GrpcServer, grpc.aio.Channel]]:
    server = GrpcServer("127.0.0.1", 0, OPEN_GATE)
    server.serve(MARKET_DATA, {})
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield server, channel
    finally:
        await server.close(0.1)


async def status_of(channel: grpc.aio.Channel, name: str) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
    return int(answer.status)


async def test_both_names_say_what_was_said_last() -> None:
    """It begins as NOT_SERVING; the server and what it serves change together; a name not served is NOT_FOUND."""
    async with serving() as (server, channel):
        for name in ("", MARKET_DATA):
            assert await status_of(channel, name) == NOT_SERVING
        await server.say(serving=True)
        for name in ("", MARKET_DATA):
            assert await status_of(channel, name) == SERVING
        for name in (ORDERS, "nobody.v1.Nothing"):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await status_of(channel, name)
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watcher_is_told_before_the_server_ends() -> None:
    """SERVING, then NOT_SERVING as the first thing of the end, whatever is said after that."""
    async with serving() as (server, channel):
        await server.say(serving=True)
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""), timeout=10)
        assert (await watch.read()).status == SERVING
        await server.close(0.2)
        assert (await watch.read()).status == NOT_SERVING
        await server.say(serving=True)


async def test_reflection_lists_the_services() -> None:
    """grpcurl and the like need no proto files."""
    async with serving() as (_, channel):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=5)
        answer = await call.read()
        names = {service.name for service in answer.list_services_response.service}
        assert names == {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection", MARKET_DATA}


async def test_calls_are_counted_by_method() -> None:
    """A method that is not served is not counted: its name is whatever the client made up."""
    heard: list[str] = []
    server = GrpcServer("127.0.0.1", 0, OPEN_GATE, on_call=heard.append)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        await status_of(channel, "")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary("/made.up.Service/Method")(b"", timeout=5)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    await server.close(0.1)
    assert heard == ["/grpc.health.v1.Health/Check"]


async def test_a_port_that_is_taken_is_a_wrong_setting() -> None:
    """Two servers never share a port by accident."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = GrpcServer("127.0.0.1", taken.getsockname()[1], OPEN_GATE)
        with pytest.raises(SettingError, match=r"--grpc-port.* cannot be used; choose another"):
            await server.start()
        await server.close(0.0)
