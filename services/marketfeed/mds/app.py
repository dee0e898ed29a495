"""mds put together: adapters, the hub between them, and one task group."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

import msgspec

from marketfeed.adapters.finnhub_rest import FinnhubRest
from marketfeed.adapters.grpc_server import MARKET_DATA, GrpcServer, announce
from marketfeed.adapters.kafka import LogAdmin, LogConsumer, trades_topic
from marketfeed.adapters.postgres import PostgresStore
from marketfeed.adapters.postgres.span import read_span
from marketfeed.adapters.postgres.start import read_start
from marketfeed.adapters.redis import RedisCache
from marketfeed.adapters.tokens import gate_of
from marketfeed.adapters.websocket_server import Connection, HttpServer, Refuse, Request, Response
from marketfeed.domain.access import Seats
from marketfeed.domain.client_messages import CloseCode, Goodbye
from marketfeed.domain.client_session import Limits
from marketfeed.domain.sessions import calendar
from marketfeed.mds import metrics
from marketfeed.mds.api import Api
from marketfeed.mds.clients import Client
from marketfeed.mds.door import Door
from marketfeed.mds.finnhub import FinnhubServer
from marketfeed.mds.history import Archive
from marketfeed.mds.hub import Hub
from marketfeed.mds.joins import Joins
from marketfeed.mds.market_data import MarketData
from marketfeed.mds.market_streams import Streams
from marketfeed.mds.minutes import Minutes
from marketfeed.mds.openapi import openapi
from marketfeed.mds.pipeline import Follower, House, Yesterday, fan_out
from marketfeed.mds.recovery import Recovery
from marketfeed.mds.settings import MdsSettings
from marketfeed.mds.snapshot import Snapshots
from marketfeed.mds.start import LogOrigins
from marketfeed.mds.stores import PatientStore
from marketfeed.mds.stream import Greeting, StreamServer
from marketfeed.runtime.service import ServiceContext, default_instance
from marketfeed.runtime.service import main as service_main
from marketfeed.runtime.tasks import TaskKit
from marketfeed.runtime.tls_files import tls_of

# Calls that run when gRPC's server ends have this long.
GRPC_GRACE_S = 2.0
# Between the drain message and the close frame: time for a client to read it.
DRAIN_S = 0.2

_NO_PAGE = b"<!doctype html><title>marketfeed</title><p>The page is not built: run <code>make ui</code>, then reload."


class _LogEnds:
    """The log's ends, of one topic."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._admin = LogAdmin(bootstrap)
        self._topic = topic

    async def topic_id(self) -> str:
        return await self._admin.topic_id(self._topic)

    async def partitions(self) -> int:
        return await self._admin.partitions(self._topic)

    async def begin_offsets(self) -> dict[int, int]:
        return await self._admin.begin_offsets(self._topic)

    async def offsets_for_time(self, ts_ns: int) -> dict[int, int]:
        return await self._admin.offsets_for_time(self._topic, ts_ns)


class MdsApp:
    """One mds process."""

    def __init__(self, context: ServiceContext[MdsSettings], tasks: TaskKit) -> None:
        settings = context.settings
        self._context = context
        self._settings = settings
        self._gate = gate_of(settings)
        self._seats = Seats(settings.principal_connections_max)
        self._tasks = tasks
        self._draining = False
        self._rate = _Rate()
        self._calendar = calendar(settings.calendar)
        database = PostgresStore(settings.postgres, "marketfeed-mds")
        self._store = PatientStore(database, settings.feed, partial(read_start, database), partial(read_span, database))
        self._cache = RedisCache(settings.redis, settings.feed)
        self._consumer = LogConsumer(settings.kafka, trades_topic(settings.feed))
        self.hub = Hub(settings.tick_ms, settings.heartbeat_ms, self._on_goodbye)
        self._snapshots = Snapshots(self.hub, self._store, self._cache, settings.feed, settings.snapshots_at_once)
        self._archive = Archive(self.hub, self._snapshots, self._store, settings.feed)
        self._recovery = Recovery(self.hub, self._store, settings.feed, self._log_again)
        self._stream = self._stream_server()
        self._finnhub = FinnhubServer(self.hub, _limits(settings), self._gate, self._seats)
        self.hub.on_appeared = self._on_appeared
        self._server = self._http_server()
        self._grpc = None if settings.grpc_port is None else self._grpc_server(settings.grpc_port)
        self._streams = self._market_streams()
        if self._grpc is not None:
            market_data = MarketData(hub=self.hub, archive=self._archive, streams=self._streams)
            self._grpc.serve(MARKET_DATA, market_data.calls())
        context.health.status_source = self._status

    async def run(self) -> None:
        """Serve until the service is told to stop, then drain."""
        context, settings, stopping = self._context, self._settings, self._context.stopping
        await self._server.start()
        tasks = self._tasks
        announcing = None
        if self._grpc is not None:
            await self._grpc.start()
            announcing = tasks.spawn("announce", announce(context.health, self._grpc))
        context.log.info("serving", url=self._url(), grpc=self._grpc_address(), feed=settings.feed)
        loops = [
            tasks.spawn("follow", self._follower().run(stopping)),
            tasks.spawn("fan-out", fan_out(self.hub, settings.tick_ms, stopping)),
            tasks.spawn("house", self._house().run(stopping)),
            tasks.spawn("minutes", self._minutes().run(stopping)),
            tasks.spawn("yesterday", self._yesterday().run(stopping)),
        ]
        await stopping.wait()
        if announcing is not None:
            announcing.cancel()
        await self._drain()
        for loop in loops:
            await loop
        await self._consumer.close()
        await self._store.close()
        await self._cache.close()

    async def _drain(self) -> None:
        """Refuse newcomers, tell everybody when to come back, and close."""
        self._draining = self._streams.draining = True
        self._context.health.ready("draining", False, "stopping")
        if self._grpc is not None:
            await self._grpc.say(serving=False)
        if self.hub.serving:
            self._stream.drain()
            if self.hub.fanout.clients:
                await asyncio.sleep(DRAIN_S)
        if self._grpc is not None:
            await self._grpc.close(min(GRPC_GRACE_S, self._context.remaining_s()))
        await self._server.close(int(CloseCode.RESTART), "restart")

    def _grpc_server(self, port: int) -> GrpcServer:
        settings = self._settings
        return GrpcServer(
            settings.grpc_host,
            port,
            self._gate,
            seats=self._seats,
            tls=tls_of(settings),
            reflects=settings.grpc_reflection,
            on_call=_count_call,
            on_denied=lambda code: metrics.REFUSED.labels(code).inc(),
        )

    def _log_again(self) -> LogConsumer:
        settings = self._settings
        return LogConsumer(settings.kafka, trades_topic(settings.feed), queue_bytes_max=16 << 20)

    def _market_streams(self) -> Streams:
        settings = self._settings
        bounds = (settings.tick_ms, settings.symbols_max, settings.snapshot_span_s)
        return Streams(self.hub, self._recovery, self._snapshots, *bounds)

    def _stream_server(self) -> StreamServer:
        settings = self._settings
        greeting = Greeting(
            version=version("marketfeed"),
            feed=settings.feed,
            instance=settings.instance or default_instance(),
            calendar=settings.calendar,
            heartbeat_ms=settings.heartbeat_ms,
        )
        bounds = (settings.snapshot_bars_per_part, settings.snapshot_span_s, settings.buffer_bytes_max)
        joins = Joins(self.hub, self._snapshots, self._archive, *bounds)
        limits = _limits(settings)
        return StreamServer(self.hub, joins, self._recovery, limits, greeting, self._gate, self._seats)

    def _minutes(self) -> Minutes:
        return Minutes(hub=self.hub, snapshots=self._snapshots, log=self._context.log)

    def _follower(self) -> Follower:
        settings, context = self._settings, self._context
        topic = trades_topic(settings.feed)
        return Follower(
            hub=self.hub,
            origins=LogOrigins(_LogEnds(settings.kafka, topic), self._store, settings.window_s, context.log),
            reader=self._consumer,
            calendar=self._calendar,
            window_s=settings.window_s,
            window_bytes_max=settings.window_bytes_max,
            tape_s=settings.tape_s,
            tape_bytes_max=settings.tape_bytes_max,
            gather_s=min(0.01, settings.tick_ms / 4000),
            health=context.health,
            log=context.log,
        )

    def _house(self) -> House:
        settings = self._settings
        return House(
            hub=self.hub,
            store=self._store,
            feed=settings.feed,
            evict_after_s=settings.evict_after_s,
            log=self._context.log,
        )

    def _yesterday(self) -> Yesterday:
        settings = self._settings
        elsewhere = None
        if settings.finnhub_rest_url and settings.finnhub_api_key:
            elsewhere = FinnhubRest(settings.finnhub_rest_url, settings.finnhub_api_key)
        return Yesterday(
            hub=self.hub,
            store=self._store,
            elsewhere=elsewhere,
            feed=settings.feed,
            calendar=self._calendar,
            log=self._context.log,
        )

    def _http_server(self) -> HttpServer:
        settings = self._settings
        server = HttpServer(
            settings.public_host,
            settings.public_port,
            request_timeout_s=settings.handshake_timeout_s,
            port_setting="--public-port",
        )
        door = Door(self._gate, settings.origins)
        api = Api(
            hub=self.hub,
            archive=self._archive,
            calendar=self._calendar,
            feed=settings.feed,
            version=version("marketfeed"),
            orders_url=settings.orders_url,
        )
        document = msgspec.json.encode(openapi())
        for path, endpoint in (
            ("/v1/symbols", api.symbols),
            ("/v1/quote", api.quote),
            ("/v1/bars", api.bars),
            ("/v1/config", api.config),
        ):
            server.get(path, door.guarded(api, endpoint))
            server.options(path, door.preflight)
        server.get("/openapi.json", _fixed(document, "application/json"))
        server.websocket(
            "/v1/stream",
            self._on_connect,
            accept=self._accept,
            origins=None if "*" in settings.origins else settings.origins,
            message_bytes_max=settings.message_bytes_max,
        )
        server.websocket(
            "/finnhub",
            self._on_finnhub,
            accept=self._accept_finnhub,
            origins=None if "*" in settings.origins else settings.origins,
            message_bytes_max=settings.message_bytes_max,
        )
        if settings.ui_dir.joinpath("index.html").is_file():
            server.static("/", settings.ui_dir, no_index=("v1/",))
        else:
            server.get("/", _fixed(_NO_PAGE, "text/html; charset=utf-8"))
        return server

    async def _accept(self, _: Request) -> None:
        """Who may not connect is told so before the handshake."""
        reason = (
            "draining" if self._draining
            else "starting" if not self.hub.serving
            else "full" if self._server.connections >= self._settings.connections_max
            else ""
        )  # fmt: skip
        if reason:
            metrics.REFUSED.labels(reason).inc()
            raise Refuse(503, f"{reason}: try again later\n".encode(), {"Retry-After": "1"})

    async def _on_connect(self, connection: Connection, _: Request) -> None:
        await self._stream.serve(connection)

    async def _accept_finnhub(self, request: Request) -> None:
        await self._accept(request)
        await self._finnhub.accept(request)

    async def _on_finnhub(self, connection: Connection, request: Request) -> None:
        await self._finnhub.serve(connection, request)

    def _on_appeared(self, symbol_ids: set[int]) -> None:
        self._stream.on_appeared(symbol_ids)
        self._finnhub.appeared(symbol_ids)

    def _on_goodbye(self, client: Client, goodbye: Goodbye) -> None:
        self._tasks.spawn("goodbye", self._stream.say_goodbye(client.outlet, goodbye))

    def _url(self) -> str:
        return f"http://{self._settings.public_host}:{self._server.port}"

    def _grpc_address(self) -> str | None:
        return None if self._grpc is None else f"{self._settings.grpc_host}:{self._grpc.port}"

    def _status(self) -> dict[str, Any]:
        hub = self.hub
        serving = hub.serving
        return {
            "feed": self._settings.feed,
            "instance": self._settings.instance or default_instance(),
            "public_url": self._url(),
            "grpc": self._grpc_address(),
            "rate": self._rate.of(hub.state.trades if serving else 0),
            "lag_s": round(hub.lag_s, 3),
            "clients": hub.fanout.clients if serving else 0,
            "subscriptions": hub.fanout.subscriptions if serving else 0,
            "bars": len(hub.state.window) if serving else 0,
            "orphans": len(hub.state.orphans) if serving else 0,
            "lost_orphans": hub.state.lost_orphans if serving else 0,
            "position": hub.state.position.text() if serving else None,
            "counted": sum(r.counted for r in hub.state.readers.values()) if serving else 0,
        }


class _Rate:
    """A rate between two looks, each at least half a second apart."""

    def __init__(self) -> None:
        self._at_s, self._total, self._rate = time.monotonic(), 0, 0.0

    def of(self, total: int) -> float:
        """Per second, since the last look."""
        now_s = time.monotonic()
        if now_s - self._at_s >= 0.5:
            self._rate = round(max(0, total - self._total) / (now_s - self._at_s), 1)
            self._at_s, self._total = now_s, total
        return self._rate


def _limits(settings: MdsSettings) -> Limits:
    return Limits(
        symbols_max=settings.symbols_max,
        messages_per_s=settings.messages_per_s,
        message_bytes_max=settings.message_bytes_max,
        interval_ms_default=max(50, settings.tick_ms) // settings.tick_ms * settings.tick_ms,
        interval_ms_min=settings.tick_ms,
        buffer_bytes_max=settings.buffer_bytes_max,
        stall_s=settings.stall_s,
        auth_s=settings.auth_timeout_s,
    )


def _fixed(body: bytes, content_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def handle(_: Request) -> Response:
        return Response(body, content_type=content_type, headers={"Cache-Control": "no-cache"})

    return handle


def _count_call(method: str) -> None:
    metrics.GRPC_CALLS.labels(method).inc()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve live prices and bars to WebSocket and HTTP clients, and the page."""
    return service_main("mds", MdsSettings, run, argv, main.__doc__)


async def run(context: ServiceContext[MdsSettings]) -> None:
    """Serve until told to stop."""
    async with TaskKit("mds") as tasks:
        await MdsApp(context, tasks).run()
