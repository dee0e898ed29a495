"""Who may call gRPC: tokens, client certificates, methods, seats and the end of a token, on a real server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from tests.certificates import Authority, Pair

from marketfeed.adapters.grpc_server import MARKET_DATA, Call, Caller, GrpcServer
from marketfeed.adapters.tokens import TokenGate, Verifier, gate_of, key_set, sign
from marketfeed.domain.access import Seats
from marketfeed.mds.settings import MdsSettings
from marketfeed.runtime.tls_files import TlsFiles
from marketfeed.wire.v1 import market_data_pb2 as pb

SECRET = b"0123456789abcdef0123456789abcdef"
QUOTE, STREAM = f"/{MARKET_DATA}/GetQuote", f"/{MARKET_DATA}/StreamQuotes"


def token(valid_s: float = 60.0, **grant: object) -> str:
    return sign("HS256", SECRET, "me", "marketfeed", "alice", grant, valid_s)


def gate() -> TokenGate:
    return TokenGate(client_token="shared", verifier=Verifier(key_set("HS256", SECRET, "-"), "me", "marketfeed"))


async def who(request: pb.GetQuoteRequest, caller: Caller) -> pb.GetQuoteResponse:
    """Says in the answer who it was."""
    return pb.GetQuoteResponse(position=caller.principal.subject)


async def on_and_on(request: pb.StreamQuotesRequest, caller: Caller) -> AsyncIterator[pb.StreamQuotesResponse]:
    """Never ends by itself."""
    yield pb.StreamQuotesResponse()
    await asyncio.Event().wait()


@dataclass
class Served:
    """A server, what was denied, and where it is."""

    denied: list[str]
    port: int

    def channel(self, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
        target = f"127.0.0.1:{self.port}"
        if credentials is None:
            return grpc.aio.insecure_channel(target)
        return grpc.aio.secure_channel(target, credentials, options=(("grpc.use_local_subchannel_pool", 1),))


@asynccontextmanager
async def serving(gate: TokenGate, **more: Any) -> AsyncIterator[Served]:
    denied: list[str] = []
    server = GrpcServer("127.0.0.1", 0, gate, on_denied=denied.append, **more)
    calls = {
        "GetQuote": Call(pb.GetQuoteRequest, unary=who),
        "StreamQuotes": Call(pb.StreamQuotesRequest, stream=on_and_on),
    }
    server.serve(MARKET_DATA, calls)
    await server.start()
    try:
        yield Served(denied, server.port)
    finally:
        await server.close(0.1)


async def ask(channel: grpc.aio.Channel, authorization: str | None = None) -> str:
    """Who the server takes us for."""
    metadata = () if authorization is None else (("authorization", authorization),)
    method = channel.unary_unary(QUOTE, pb.GetQuoteRequest.SerializeToString, pb.GetQuoteResponse.FromString)
    return str((await method(pb.GetQuoteRequest(), metadata=metadata, timeout=5)).position)


async def follow(channel: grpc.aio.Channel, bearer: str) -> grpc.aio.UnaryStreamCall:
    """A stream that has begun."""
    method = channel.unary_stream(STREAM, pb.StreamQuotesRequest.SerializeToString, pb.StreamQuotesResponse.FromString)
    call = method(pb.StreamQuotesRequest(), metadata=(("authorization", f"Bearer {bearer}"),), timeout=15)
    assert await call.read() is not grpc.aio.EOF
    return call


def reason(error: grpc.aio.AioRpcError) -> tuple[str, str]:
    """(status, ErrorInfo.reason); the domain is ours, the sentence is there."""
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)
    assert status is not None
    assert status.details[0].Unpack(info)
    assert info.domain == "marketfeed"
    assert error.details()
    return error.code().name, info.reason


async def test_a_call_needs_a_token_and_a_right() -> None:
    """UNAUTHENTICATED and PERMISSION_DENIED, each with the reason that programs read, and both counted."""
    async with serving(gate()) as served, served.channel() as channel:
        for authorization, expected in (
            (None, ("UNAUTHENTICATED", "AUTH_REQUIRED")),
            ("Bearer", ("UNAUTHENTICATED", "AUTH_REQUIRED")),
            ("Basic YTpi", ("UNAUTHENTICATED", "AUTH_MALFORMED")),
            ("Bearer nonsense", ("UNAUTHENTICATED", "AUTH_MALFORMED")),
            (f"Bearer {token(-60.0)}", ("UNAUTHENTICATED", "AUTH_EXPIRED")),
            (f"Bearer {'a' * 9000}", ("UNAUTHENTICATED", "AUTH_TOO_LONG")),
            (f"Bearer {token(methods=['MarketData/GetBars'])}", ("PERMISSION_DENIED", "FORBIDDEN")),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await ask(channel, authorization)
            assert reason(refused.value) == expected
        assert await ask(channel, f"bearer {token()}") == "alice"
        assert await ask(channel, "Bearer shared") == "client-token"
    assert served.denied == [
        "auth_required", "auth_required", "auth_malformed", "auth_malformed", "auth_expired", "auth_too_long",
        "forbidden",
    ]  # fmt: skip


async def test_health_and_reflection_ask_for_nothing() -> None:
    """Balancers and tools have no token; reflection can be switched off."""
    async with serving(gate()) as served, served.channel() as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert (await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)).status
        assert MARKET_DATA in await listed(channel)
    async with serving(gate(), reflects=False) as served, served.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await listed(channel)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def listed(channel: grpc.aio.Channel) -> set[str]:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=5)
    answer = await call.read()
    return {service.name for service in answer.list_services_response.service}


async def test_an_open_server_takes_everybody() -> None:
    """Also those who show a token, which nobody can check."""
    async with serving(TokenGate(open=True)) as served, served.channel() as channel:
        assert await ask(channel) == await ask(channel, "Bearer whatever") == "anonymous"


async def test_a_stream_ends_with_its_token() -> None:
    """The token's end and the leeway, no later than a second after."""
    async with serving(gate()) as served, served.channel() as channel:
        call = await follow(channel, token(-3.0))
        began_s = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()
        assert reason(ended.value) == ("UNAUTHENTICATED", "AUTH_EXPIRED")
        assert 0.5 < time.monotonic() - began_s < 3.5


async def test_streams_of_a_principal_are_bounded() -> None:
    """Beyond the bound RESOURCE_EXHAUSTED; a stream that has ended leaves its seat to another."""
    seats = Seats(2)
    async with serving(gate(), seats=seats) as served, served.channel() as channel:
        first, _second = await follow(channel, token()), await follow(channel, token())
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await follow(channel, token())
        assert reason(refused.value) == ("RESOURCE_EXHAUSTED", "TOO_MANY_CONNECTIONS")
        assert await ask(channel, f"Bearer {token()}") == "alice"
        first.cancel()
        async with asyncio.timeout(5):
            while seats.taken("alice") == 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await follow(channel, token())


def trusting(authority: Authority, pair: Pair | None = None) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(authority.cert, pair and pair.key, pair and pair.cert)


async def test_a_renewed_certificate_is_shown_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New connections see the new one, old connections go on; a broken file in between stops nobody."""
    monkeypatch.setattr("marketfeed.runtime.watched_files.LOOK_EVERY_S", 0.0)
    old, new = Authority("old"), Authority("new")
    cert, key = old.server().write(tmp_path, "tls")
    async with (
        serving(TokenGate(open=True), tls=TlsFiles(cert, key, None)) as served,
        served.channel(trusting(old)) as before,
    ):
        assert await ask(before) == "anonymous"
        cert.write_bytes(b"broken")
        async with served.channel(trusting(old)) as channel:
            assert await ask(channel) == "anonymous"
        new.server().write(tmp_path, "tls")
        async with served.channel(trusting(new)) as channel:
            assert await ask(channel) == "anonymous"
        async with served.channel(trusting(old)) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await ask(channel)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await ask(before) == "anonymous"


async def test_client_certificates_are_principals(tmp_path: Path) -> None:
    """None, or one of another authority: no connection. One of ours: its name, its grants, unless a token says more."""
    ours, theirs = Authority(), Authority("theirs")
    cert, key = ours.server().write(tmp_path, "tls")
    ca, grants = tmp_path / "ca.crt", tmp_path / "grants.json"
    ca.write_bytes(ours.cert)
    grants.write_text(json.dumps({"spiffe://x/desk": {"symbols": ["*"]}, "blind": {"methods": []}}))
    made = gate_of(
        MdsSettings(jwt_secret=SECRET.decode(), jwt_algorithm="HS256", jwt_issuer="me", grpc_grants_file=grants)
    )
    async with serving(made, tls=TlsFiles(cert, key, ca)) as served:
        for pair in (None, theirs.client("desk", ["spiffe://x/desk"])):
            async with served.channel(trusting(ours, pair)) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await ask(channel)
                assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        async with served.channel(trusting(ours, ours.client("desk", ["spiffe://x/desk"]))) as channel:
            assert await ask(channel) == "spiffe://x/desk"
            assert await ask(channel, f"Bearer {token()}") == "alice"
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await ask(channel, "Bearer nonsense")
            assert reason(refused.value)[0] == "UNAUTHENTICATED"
        for name in ("blind", "unknown"):
            async with served.channel(trusting(ours, ours.client(name))) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await ask(channel)
                assert reason(refused.value) == ("PERMISSION_DENIED", "FORBIDDEN")
