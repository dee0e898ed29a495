"""The order service put together: PostgreSQL, market data, gRPC, and one task group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from marketfeed.adapters.grpc_server import ORDERS, GrpcServer, announce
from marketfeed.adapters.postgres.orders import OrderReader, OrderWriter
from marketfeed.adapters.tokens import gate_of
from marketfeed.adapters.websocket_server import HttpServer
from marketfeed.client.market_data import MarketDataClient
from marketfeed.domain.access import Seats
from marketfeed.domain.errors import SettingError
from marketfeed.domain.order_validation import OrderRules, Ticks, amount
from marketfeed.domain.sessions import calendar
from marketfeed.orders import metrics
from marketfeed.orders.calls import OrderCalls, account_of
from marketfeed.orders.connect import ConnectDoor
from marketfeed.orders.market import GrpcMarket
from marketfeed.orders.pipeline import OrderService
from marketfeed.orders.settings import OrdersSettings
from marketfeed.orders.updates import Updates
from marketfeed.runtime.service import ServiceContext, default_instance
from marketfeed.runtime.service import main as service_main
from marketfeed.runtime.tasks import TaskKit
from marketfeed.runtime.tls_files import tls_of

# Calls that run when gRPC's server ends have this long.
GRPC_GRACE_S = 2.0
_BPS_PER_PERCENT = 100


class OrdersApp:
    """One process of the order service."""

    def __init__(self, context: ServiceContext[OrdersSettings], tasks: TaskKit) -> None:
        settings = self._settings = context.settings
        self._context = context
        self._tasks = tasks
        self._client = MarketDataClient(settings.market_data, token=settings.market_data_token)
        self._reader = OrderReader(settings.postgres, settings.feed)
        self._service = self._make_service()
        self._gate, self._seats = gate_of(settings), Seats(settings.principal_connections_max)
        self._http = self._make_http()
        self._grpc = GrpcServer(
            settings.orders_host,
            settings.orders_port,
            self._gate,
            seats=self._seats,
            tls=tls_of(settings),
            reflects=settings.grpc_reflection,
            port_setting="--orders-port",
            on_call=_count_call,
            on_denied=lambda code: metrics.DENIED.labels(code).inc(),
        )
        context.health.status_source = self._status

    def _make_http(self) -> HttpServer | None:
        settings = self._settings
        if settings.orders_http_port is None:
            return None
        http = HttpServer(settings.orders_host, settings.orders_http_port, port_setting="--orders-http-port")
        door = ConnectDoor(
            gate=self._gate,
            seats=self._seats,
            origins=settings.origins,
            on_call=_count_call,
            on_denied=lambda code: metrics.DENIED.labels(code).inc(),
        )
        door.serve(http, ORDERS, self._calls.calls())
        return http

    def _make_service(self) -> OrderService:
        settings, rules = self._settings, rules_of(self._settings)
        instance = settings.instance or default_instance()
        market = GrpcMarket(self._client, settings.symbols)
        updates = Updates(settings.streams_max)
        service = OrderService(
            market=market,
            reader=self._reader,
            make_writer=lambda: OrderWriter(settings.postgres, settings.feed, instance),
            rules=rules,
            calendar=calendar(settings.calendar),
            health=self._context.health,
            updates=updates,
            commands_max=settings.commands_max,
            commit_every_s=settings.commit_every_s,
            takeover_s=settings.takeover_s,
        )
        self._calls = OrderCalls(
            service=service,
            market=market,
            reader=self._reader,
            updates=updates,
            rules=rules,
            account_of=account_of,
            fresh_ms=settings.fresh_ms,
        )
        return service

    async def run(self) -> None:
        """Serve until the service is told to stop."""
        context = self._context
        self._grpc.serve(ORDERS, self._calls.calls())
        await self._grpc.start()
        if self._http is not None:
            await self._http.start()
        announcing = self._tasks.spawn("announce", announce(context.health, self._grpc))
        where = {"grpc": self._address(), "http": self._http_address()}
        context.log.info("serving", **where, feed=self._settings.feed, kind="paper trading, no broker")
        working = self._tasks.spawn("orders", self._service.run(context.stopping))
        await context.stopping.wait()
        announcing.cancel()
        context.health.ready("draining", False, "stopping")
        await self._grpc.say(serving=False)
        await working
        await self._grpc.close(min(GRPC_GRACE_S, context.remaining_s()))
        if self._http is not None:
            await self._http.close()
        await self._client.close()
        await self._reader.close()

    def _address(self) -> str:
        return f"{self._settings.orders_host}:{self._grpc.port}"

    def _http_address(self) -> str:
        return "" if self._http is None else f"http://{self._settings.orders_host}:{self._http.port}"

    def _status(self) -> dict[str, Any]:
        return {
            "feed": self._settings.feed,
            "instance": self._settings.instance or default_instance(),
            "grpc": self._address(),
            "http": self._http_address(),
            **self._service.status(),
        }


def rules_of(settings: OrdersSettings) -> OrderRules:
    """What is accepted. Raises SettingError for an amount or a band that means nothing."""
    if not 0 < settings.collar_pct < 100:
        raise SettingError("--collar-pct", f"is {settings.collar_pct:g}, must be between 0 and 100")
    return OrderRules(
        ticks=_ticks(settings.ticks),
        lot=_amount("--lot", settings.lot),
        quantity_max=_amount("--quantity-max", settings.quantity_max),
        collar_bps=round(settings.collar_pct * _BPS_PER_PERCENT),
        max_age_ms=settings.max_age_ms,
        working_max=settings.working_max,
        account_working_max=settings.account_working_max,
    )


def _ticks(text: str) -> Ticks:
    try:
        return Ticks.parse(text)
    except ValueError as error:
        raise SettingError("--ticks", str(error)) from None


def _amount(flag: str, text: str) -> int:
    try:
        if found := amount(text):
            return found
    except ValueError as error:
        raise SettingError(flag, str(error)) from None
    raise SettingError(flag, "must be above 0")


def _count_call(method: str) -> None:
    metrics.CALLS.labels(method).inc()


def main(argv: Sequence[str] | None = None) -> int:
    """Take limit and market orders over gRPC and fill them by the live tape: paper trading, a reference, no broker."""
    return service_main("orders", OrdersSettings, run, argv, main.__doc__)


async def run(context: ServiceContext[OrdersSettings]) -> None:
    """Serve until told to stop."""
    async with TaskKit("orders") as tasks:
        await OrdersApp(context, tasks).run()
