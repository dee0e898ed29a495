"""gRPC's port: health (grpc.health.v1) and reflection, with the limits that every service behind it shares.

Health is what balancers and orchestrators ask: the empty name stands for the whole server, and each service is there by
its name. Watchers are told at once. A server that ends says NOT_SERVING first, so that clients look elsewhere
while it still answers.

Limits: a client may ping every 10 s; connections that answer no ping for 10 s are cut; a connection is asked to go
after half an hour, so that clients of a headless Service find new replicas; streams of one connection, messages and
calls at once are bounded.

Access: every call of a service that is served here passes the gate, by its `authorization` metadata or its client
certificate, and then the check of its method; a stream ends when its principal does. Health and reflection are open to
everybody. TLS is optional, and its files may be replaced while the server runs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from marketfeed.domain.access import AccessDenied, Denial, Gate, Principal, Seats
from marketfeed.domain.errors import CallRefused, CallStatus, SettingError, Unavailable
from marketfeed.runtime.health import Health
from marketfeed.runtime.tls_files import TlsFiles, TlsMaterial

_log = logging.getLogger("marketfeed.grpc")

MARKET_DATA = "marketfeed.v1.MarketData"
ORDERS = "marketfeed.v1.Orders"
CALLS_MAX = 10_000
STREAMS_MAX = 128
MESSAGE_BYTES_MAX = 4 << 20
REQUEST_BYTES_MAX = 64 << 10
METADATA_BYTES_MAX = 16 << 10

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, not a share of the connections
    ("grpc.max_concurrent_streams", STREAMS_MAX),
    ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # Room for a token of the longest kind; whoever sends more is refused by the library with RESOURCE_EXHAUSTED.
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_connection_age_ms", 30 * 60_000),  # gRPC spreads it by a tenth either way
    ("grpc.max_connection_age_grace_ms", 30_000),
)


ERROR_DOMAIN = "marketfeed"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the principal, metadata with lower-case names (binary ones left out), and the other end."""

    principal: Principal
    metadata: Mapping[str, str]
    peer: str


@dataclass(frozen=True, slots=True)
class Call:
    """A method: the request's type, and what answers it, either once or by a stream.

    An answer is a message, or the bytes of one, which several streams may share. A stream is read no faster than its
    client takes it. Whoever answers raises CallRefused, or Unavailable.
    """

    request: type[Message]
    unary: Callable[[Any, Caller], Awaitable[Message | bytes]] | None = None
    stream: Callable[[Any, Caller], AsyncIterator[Message | bytes]] | None = None


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


@dataclass(frozen=True, slots=True)
class _Door:
    """What each call passes: who is it, may it, and for streams: is there a seat left, and for how long.

    names       whether the names in client certificates count
    on_denied   hears the code of each refusal
    """

    gate: Gate
    seats: Seats
    names: bool
    on_denied: Callable[[str], None]

    def principal(self, context: grpc.aio.ServicerContext, method: str, metadata: Mapping[str, str]) -> Principal:
        """Who calls. Raises CallRefused."""
        try:
            found = self._shown(context, metadata.get("authorization"))
            if not found.may_call(method):
                raise AccessDenied(Denial.FORBIDDEN, f"{found.subject} may not call {method}")
        except AccessDenied as denied:
            self.on_denied(denied.code)
            raise call_refused(denied) from denied
        return found

    def _shown(self, context: grpc.aio.ServicerContext, authorization: str | None) -> Principal:
        """A token counts before a certificate: a gateway's certificate does not say for whom it calls."""
        if authorization is not None and not self.gate.open:
            scheme, _, token = authorization.partition(" ")
            if scheme.lower() != "bearer":
                raise AccessDenied(Denial.MALFORMED, "authorization must be: Bearer, a space, the token")
            return self.gate.admit(token.strip())
        if self.names:
            return self.gate.certified(_certificate_names(context.auth_context()))
        return self.gate.admit(None)


class GrpcServer:
    """One server on one port. It begins as NOT_SERVING.

    gate          decides who is let in
    seats         streams and other connections of each principal; by default no bound
    tls           the port's certificate; None for a plain port
    reflects      whether tools are told which methods there are
    on_call       hears the method of each call served
    on_denied     hears the code of each call that was refused for want of a right
    """

    def __init__(
        self,
        host: str,
        port: int,
        gate: Gate,
        *,
        seats: Seats | None = None,
        tls: TlsFiles | None = None,
        reflects: bool = True,
        port_setting: str = "--grpc-port",
        on_call: Callable[[str], None] = lambda _: None,
        on_denied: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._host = host
        self._port = port
        self._port_setting = port_setting
        self._tls = tls
        self._credentials: grpc.ServerCredentials | None = None
        self._reflects = reflects
        self._door = _Door(gate, seats or Seats(CALLS_MAX), tls is not None and tls.asks_clients, on_denied)
        self._health = health_aio.HealthServicer()
        self._server = grpc.aio.server(
            interceptors=(_Counting(on_call),), options=_OPTIONS, maximum_concurrent_rpcs=CALLS_MAX
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._served: list[str] = []
        self._reflected = [HEALTH_SERVICE, reflection.SERVICE_NAME]

    def serve(self, service: str, calls: Mapping[str, Call]) -> None:
        """Answer the methods of a service, by name; before `start`."""
        handlers = {name: _handler(call, self._door, f"/{service}/{name}") for name, call in calls.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        self._reflected.append(service)
        self._served.append(service)

    @property
    def port(self) -> int:
        """The port it listens on; the one asked for until `start`."""
        return self._port

    async def start(self) -> None:
        """Listen. Raises SettingError if the port is taken."""
        await self.say(serving=False)
        if self._reflects:
            reflection.enable_server_reflection(self._reflected, self._server)
        address = f"{self._host}:{self._port}"
        try:
            if self._tls is None:
                self._port = self._server.add_insecure_port(address)
            else:
                self._credentials = _credentials(self._tls)
                self._port = self._server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            reason = f"{self._host}:{self._port} cannot be used; choose another"
            raise SettingError(self._port_setting, reason) from error
        await self._server.start()

    async def say(self, *, serving: bool) -> None:
        """Tell whoever asks, and whoever watches, whether this server wants calls."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *self._served):
            await self._health.set(name, status)

    async def close(self, grace_s: float) -> None:
        """Say NOT_SERVING for good, take no more calls, and cut those that still run after `grace_s`."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)


async def announce(health: Health, server: GrpcServer) -> None:
    """Let gRPC's health say what /readyz says, until cancelled."""
    ready = health.is_ready
    while True:
        await server.say(serving=ready)
        ready = await health.turned()


def _credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials that are looked up at each handshake, so that a renewed certificate needs no restart."""

    def configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
        pair = (material.key, material.chain)
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=material.client_ca)

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        material = files.renewed()
        return None if material is None else configuration(material)

    return grpc.dynamic_ssl_server_credentials(
        configuration(files.material), renewed, require_client_authentication=files.asks_clients
    )


def _certificate_names(auth: Mapping[str, Any]) -> list[str]:
    """Names in a client's certificate: URIs (SPIFFE) first, then other alternative names, then the common name."""
    alternative = [name.decode(errors="replace") for name in auth.get("x509_subject_alternative_name", ())]
    alternative.sort(key=lambda name: "://" not in name)
    return alternative + [name.decode(errors="replace") for name in auth.get("x509_common_name", ())]


def _handler(call: Call, door: _Door, method: str) -> grpc.RpcMethodHandler:
    parse = call.request.FromString
    if call.unary is not None:
        return grpc.unary_unary_rpc_method_handler(_answered(call.unary, door, method), parse, _serialized)
    assert call.stream is not None
    return grpc.unary_stream_rpc_method_handler(_streamed(call.stream, door, method), parse, _serialized)


def _serialized(answer: Message | bytes) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


def _answered(
    call: Callable[[Any, Caller], Awaitable[Message | bytes]], door: _Door, method: str
) -> Callable[[Any, Any], Awaitable[Any]]:
    async def answer(request: Any, context: grpc.aio.ServicerContext) -> Message | bytes:
        try:
            return await call(request, _caller(context, door, method))
        except Exception as error:
            await _refuse(context, error)
            raise AssertionError from error  # `abort` never returns

    return answer


def _streamed(
    call: Callable[[Any, Caller], AsyncIterator[Message | bytes]], door: _Door, method: str
) -> Callable[[Any, Any], Awaitable[None]]:
    async def write(request: Any, context: grpc.aio.ServicerContext, caller: Caller) -> None:
        left_s = caller.principal.left_s(time.time(), door.gate.leeway_s)
        try:
            async with asyncio.timeout(left_s) as until:
                async for answer in call(request, caller):
                    await context.write(answer)
        except TimeoutError:
            if not until.expired():
                raise
            raise call_refused(AccessDenied(Denial.EXPIRED, "the token has expired; call again with another")) from None

    async def stream(request: Any, context: grpc.aio.ServicerContext) -> None:
        try:
            caller = _caller(context, door, method)
            try:
                door.seats.take(caller.principal)
            except AccessDenied as denied:
                door.on_denied(denied.code)
                raise call_refused(denied) from denied
            try:
                await write(request, context, caller)
            finally:
                door.seats.leave(caller.principal)
        except Exception as error:
            await _refuse(context, error)

    return stream


def _caller(context: grpc.aio.ServicerContext, door: _Door, method: str) -> Caller:
    metadata = {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
    return Caller(door.principal(context, method, metadata), metadata, context.peer())


def call_refused(denied: AccessDenied) -> CallRefused:
    """A denial as a call is refused with it."""
    status = {
        Denial.FORBIDDEN: CallStatus.PERMISSION_DENIED,
        Denial.CONNECTIONS: CallStatus.RESOURCE_EXHAUSTED,
    }.get(denied.denial, CallStatus.UNAUTHENTICATED)
    return CallRefused(status, denied.code.upper(), denied.message)


async def _refuse(context: grpc.aio.ServicerContext, error: Exception) -> None:
    """End the call: with the reason if the error was expected, else as a mistake of ours that is in the log."""
    if isinstance(error, CallRefused):
        refused = error
    elif isinstance(error, Unavailable):
        refused = CallRefused(CallStatus.UNAVAILABLE, "UNAVAILABLE", f"{error.what} is away; try again")
    else:
        _log.error("a call failed", exc_info=error)
        await context.abort(grpc.StatusCode.INTERNAL, "the server made a mistake; it is in its log")
        return
    info = error_details_pb2.ErrorInfo(reason=refused.reason, domain=ERROR_DOMAIN, metadata=refused.facts)
    detail = any_pb2.Any()
    detail.Pack(info)
    code = code_pb2.Code.Value(refused.status.value)
    status = status_pb2.Status(code=code, message=refused.message, details=[detail])
    await context.abort_with_status(rpc_status.to_status(status))
