"""`marketfeed demo`: the whole pipeline on one machine, as separate processes, from nothing to a page that moves.

Order: servers (and the page's build beside them), topics and tables, then all services at once; they wait for each
other by themselves. With a duration the run ends by itself and is proved (proof.py).
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time
import webbrowser
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from marketfeed.client.http import HttpClient
from marketfeed.domain.errors import SettingError, Unavailable
from marketfeed.generator.universe import make_universe
from marketfeed.local import ports
from marketfeed.local.children import Children
from marketfeed.local.kafka_jars import Say
from marketfeed.local.proof import Proof
from marketfeed.local.run_plan import PARTITIONS, RunPlan, retention_gb, service_programs, symbols_file
from marketfeed.local.serve import stop_on_signals
from marketfeed.local.settings import DemoSettings
from marketfeed.local.stack import Addresses, Stack, open_stack
from marketfeed.local.status import Observer
from marketfeed.local.status_table import StatusView
from marketfeed.local.supervision import Supervised
from marketfeed.prepare.settings import TopicsSettings
from marketfeed.prepare.steps import ensure_tables, ensure_topics
from marketfeed.runtime.settings import parse_duration
from marketfeed.runtime.tasks import TaskKit, backoff_s

T = TypeVar("T")

GENERATOR_SYMBOLS_MAX = 9_999
RATE_MIN, RATE_MAX = 0.01, 1_000_000
LOOK_S_TERMINAL = 1.0
LOOK_S_PLAIN = 5.0
PAGE_S = 120.0
PREPARE_S = 30.0
SILENT_TRIES = 3


async def run_demo(settings: DemoSettings) -> int:
    """Run until stopped or for the asked time; the exit code. Raises expected errors, each with one sentence."""
    stopping = stop_on_signals()
    settings = replace(settings, finnhub_api_key=settings.finnhub_api_key or os.environ.get("FINNHUB_API_KEY", ""))
    async with AsyncExitStack() as exits:
        view = exits.enter_context(StatusView(title="marketfeed demo"))
        demo = await until_set(stopping, _start(settings, view, exits, stopping))
        return 0 if demo is None else await demo.run()


async def _start(settings: DemoSettings, view: StatusView, exits: AsyncExitStack, stopping: asyncio.Event) -> Demo:
    """Everything before the services; what is opened on the way is closed by `exits`."""
    state = await asyncio.to_thread(settings.state_dir.absolute)
    plan = make_plan(settings, state, view)
    children = await exits.enter_async_context(Children())
    http = await exits.enter_async_context(HttpClient())
    given = Addresses(settings.kafka, settings.redis, settings.postgres)
    stack = open_stack(state, children, view.say, given.env())
    async with TaskKit("start") as tasks:
        page = tasks.spawn("page", asyncio.to_thread(_build_page, settings, view))
        servers = await exits.enter_async_context(stack)
        await _prepare(plan, servers.addresses, view.say)
    await asyncio.to_thread(_write_symbols, plan, state)
    programs = service_programs(settings, plan, servers.addresses, state, page.result(), os.environ)
    services = [Supervised(children, program, state, view.say) for program in programs]
    return Demo(settings, plan, state, servers, services, children, view, http, stopping)


async def until_set(stopping: asyncio.Event, work: Coroutine[None, None, T]) -> T | None:
    """The result of `work`, or None and its cancellation when `stopping` is set before."""
    async with TaskKit("until") as tasks:
        result = tasks.spawn("work", work)
        stop = tasks.spawn("stop", stopping.wait())
        await asyncio.wait({result, stop}, return_when=asyncio.FIRST_COMPLETED)
        result.cancel()
        stop.cancel()
    return None if result.cancelled() else result.result()


@dataclass(frozen=True, slots=True)
class Demo:
    """A demo whose servers run."""

    settings: DemoSettings
    plan: RunPlan
    state: Path
    stack: Stack
    services: list[Supervised]
    children: Children
    view: StatusView
    http: HttpClient
    stopping: asyncio.Event

    async def run(self) -> int:
        """Run the services until told to stop, then stop them in order: the feed first."""
        observer = Observer(self.services, list(self.stack.servers), self.http)
        async with TaskKit("demo") as tasks:
            keepers = [tasks.spawn(service.name, service.keep_running()) for service in self.services]
            watchers = [
                tasks.spawn("servers", self._raise_when_a_server_dies()),
                tasks.spawn("table", self._show(observer)),
                tasks.spawn("page", self._announce()),
            ]
            code = 0
            if self.plan.duration_s is None:
                await self.stopping.wait()
            else:
                code = await self._proof(observer).run(self.plan.duration_s)
            self.view.say("stopping")
            for watcher in watchers:
                watcher.cancel()
            await self._stop_services()
            for keeper in keepers:
                keeper.cancel()
        return code

    async def _stop_services(self) -> None:
        """The feed first, then what reads it, so that nothing is cut off; readers of the log side by side."""
        for module in ("generator", "ingest"):
            await asyncio.gather(*(service.stop() for service in self.services if service.module == module))
        await asyncio.gather(*(service.stop() for service in self.services))

    def _proof(self, observer: Observer) -> Proof:
        return Proof(
            self.plan, self.state, self.stack.addresses, self.children, self.view, self.http, observer, self.stopping
        )

    async def _raise_when_a_server_dies(self) -> None:
        raise await self.stack.died()

    async def _show(self, observer: Observer) -> None:
        pause_s = LOOK_S_TERMINAL if self.view.is_terminal else LOOK_S_PLAIN
        while True:
            await asyncio.sleep(pause_s)
            self.view.show(await observer.rows())

    async def _announce(self) -> None:
        began_s = time.monotonic()
        url = self.plan.page_url if self.settings.page else self.plan.page_url + "v1/symbols"
        while True:
            try:
                await self.http.request("GET", url)
                break
            except Unavailable as error:
                if time.monotonic() - began_s > PAGE_S:
                    raise Unavailable("the page", url, f"no answer within {PAGE_S:.0f} s ({error.reason})") from error
                await asyncio.sleep(0.1)
        self.view.title = f"marketfeed demo, {url}"
        orders = "" if self.plan.orders_port is None else f"  orders: 127.0.0.1:{self.plan.orders_port}"
        grpc = f"gRPC: 127.0.0.1:{self.plan.grpc_port}{orders}"
        self.view.say(f"the page: {url}  {grpc}  (feed {self.plan.feed}; Ctrl-C ends)")
        if self.settings.open_page:
            await asyncio.to_thread(webbrowser.open, url)


def make_plan(settings: DemoSettings, state: Path, view: StatusView) -> RunPlan:
    """Feed id, symbols and ports of a run. Raises SettingError."""
    duration_s = parse_duration(settings.duration)
    generated = settings.source == "generator"
    if not generated and not settings.finnhub_api_key:
        raise SettingError("FINNHUB_API_KEY", "is not set; set it to your key, or leave out --source finnhub")
    if not generated and duration_s is not None:
        raise SettingError("--for", "needs the generator: only that says what it has sent; leave out --source finnhub")
    if settings.shards < 1:
        raise SettingError("--shards", f"is {settings.shards}, must be 1 or more")
    if generated and not RATE_MIN <= settings.rate <= RATE_MAX:
        raise SettingError("--rate", f"is {settings.rate:,.10g}, must be from {RATE_MIN:g} to {RATE_MAX:,.10g}")
    symbols, universe = _symbols(settings, generated)
    state.mkdir(parents=True, exist_ok=True)
    chosen = ports.choose(("feed", "page", "grpc", "orders", "orders-http"), state / "service-ports.json")
    port = _port(settings.port, chosen["page"], "the page", "--port", view)
    grpc_port = _port(settings.grpc_port, chosen["grpc"], "gRPC", "--grpc-port", view)
    return RunPlan(
        faulty=bool(settings.fault),
        feed=settings.feed or ("demo" if duration_s is None else f"run{secrets.token_hex(4)}"),
        duration_s=duration_s,
        symbols=symbols,
        universe=universe,
        feed_port=chosen["feed"],
        public_port=port,
        grpc_port=grpc_port,
        orders_port=_port(settings.orders_port, chosen["orders"], "orders", "--orders-port", view)
        if settings.orders
        else None,
        orders_http_port=chosen["orders-http"] if settings.orders else None,
        retention_gb=retention_gb(settings.rate, duration_s),
    )


def _port(wanted: int, other: int, what: str, flag: str, view: StatusView) -> int:
    """The wanted port if it is free, else the other one. Raises SettingError."""
    if not 0 <= wanted <= 65_535:
        raise SettingError(flag, f"is {wanted}, must be from 1 to 65535, or 0 for any free one")
    if wanted and ports.is_free(wanted):
        return wanted
    if wanted:
        view.say(f"port {wanted} is in use, so {what} is on port {other} ({flag} chooses another)")
    return other


def _symbols(settings: DemoSettings, generated: bool) -> tuple[tuple[str, ...], int]:
    """The names to subscribe to, and how many symbols the generator must have for them."""
    if settings.symbols.isdigit():
        count = int(settings.symbols)
        if not generated:
            raise SettingError("--symbols", "must be names with --source finnhub, such as AAPL,BINANCE:BTCUSDT")
        if not 1 <= count <= GENERATOR_SYMBOLS_MAX:
            raise SettingError("--symbols", f"is {count}, must be 1 to {GENERATOR_SYMBOLS_MAX}")
        return make_universe(count, settings.seed, 1.0).symbols, count
    names = tuple(dict.fromkeys(name.strip() for name in settings.symbols.split(",") if name.strip()))
    if not names:
        raise SettingError("--symbols", "is empty; give a number or names such as AAPL,MSFT")
    if not generated:
        return names, 0
    known = make_universe(GENERATOR_SYMBOLS_MAX, settings.seed, 1.0).position
    if unknown := [name for name in names if name not in known]:
        raise SettingError("--symbols", f"the generator has no {unknown[0]}; it has AAPL, MSFT, … and SYM0051, …")
    return names, max(50, 1 + max(known[name] for name in names))


def _write_symbols(plan: RunPlan, state: Path) -> None:
    path = symbols_file(state)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{symbol}\n" for symbol in plan.symbols))


async def _prepare(plan: RunPlan, addresses: Addresses, say: Say) -> None:
    topics = TopicsSettings(
        feed=plan.feed, kafka=addresses.kafka, partitions=PARTITIONS, retention_gb=plan.retention_gb
    )
    async with TaskKit("prepare") as tasks:
        tasks.spawn("topics", insist(lambda: ensure_topics(topics), PREPARE_S, say))
        tasks.spawn("tables", insist(lambda: ensure_tables(addresses.postgres), PREPARE_S, say))


async def insist(attempt: Callable[[], Awaitable[object]], timeout_s: float, say: Say) -> None:
    """Repeat what a server that has just started may refuse, and say so when it takes longer than a moment.

    Raises its last Unavailable when the time is over.
    """
    deadline_s, jitter, tries = time.monotonic() + timeout_s, random.Random(), 0
    while True:
        try:
            await attempt()
        except Unavailable as error:
            if tries == SILENT_TRIES:
                say(f"{error}; trying for {timeout_s:.0f} s")
            pause_s = backoff_s(tries, 0.1, 2.0, jitter)
            if time.monotonic() + pause_s > deadline_s:
                raise
            await asyncio.sleep(pause_s)
            tries += 1
        else:
            return


def _build_page(settings: DemoSettings, view: StatusView) -> Path | None:
    if not settings.page:
        return None
    from marketfeed.local.ui_build import build_ui

    return build_ui(view.say)
