"""Which processes a demo consists of and what each is told: from the demo's settings to services' variables. Pure.

Variables of the user's environment go to every service as they are (`MARKETFEED_LOG_LEVEL=debug` works); what is
decided here comes over them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from marketfeed.local.settings import DemoSettings
from marketfeed.local.stack import Addresses
from marketfeed.local.supervision import ServiceProgram

PARTITIONS = 8
RETENTION_GB = 2.0
# A trade's bytes in the log, uncompressed, generously: what sizes the retention of a run that is verified.
TRADE_BYTES = 64
_TOKENS = ("MARKETFEED_CLIENT_TOKEN", "MARKETFEED_JWT_SECRET", "MARKETFEED_JWT_KEY_FILE")
FINNHUB_REST_URL = "https://finnhub.io/api/v1"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """What one run of the demo needs to know, settings apart.

    symbols      names that ingest subscribes to
    universe     how many symbols the generator has
    feed_port    the generator's WebSocket and manifest
    public_port  the page and the API
    grpc_port    market data for other services
    orders_port  paper orders; None for a demo without them
    orders_http_port  the same for the page
    faulty       whether the generator was told to make faults
    """

    feed: str
    duration_s: float | None
    symbols: tuple[str, ...]
    universe: int
    feed_port: int
    public_port: int
    grpc_port: int
    retention_gb: float
    faulty: bool = False
    orders_port: int | None = None
    orders_http_port: int | None = None

    @property
    def generator_url(self) -> str:
        """The generator's HTTP address."""
        return f"http://127.0.0.1:{self.feed_port}"

    @property
    def page_url(self) -> str:
        """Where a person looks."""
        return f"http://127.0.0.1:{self.public_port}/"

    @property
    def orders_url(self) -> str | None:
        """Where the page places orders."""
        return None if self.orders_http_port is None else f"http://127.0.0.1:{self.orders_http_port}"

    @property
    def page_origins(self) -> str:
        """The page's origins, by both names of this machine."""
        return f"http://127.0.0.1:{self.public_port},http://localhost:{self.public_port}"

    @property
    def stream_url(self) -> str:
        """Where clients connect."""
        return f"ws://127.0.0.1:{self.public_port}/v1/stream"


def retention_gb(rate: float, duration_s: float | None) -> float:
    """Bytes that the log keeps: the demo's 2 GB, or twice what a run of known length makes if that is more."""
    return max(RETENTION_GB, (duration_s or 0.0) * rate * 2 * TRADE_BYTES / 1e9)


def symbols_file(state: Path) -> Path:
    """Where the list of symbols is written for ingest: thousands of names do not fit into a variable."""
    return state / "run" / "symbols.txt"


def service_programs(
    settings: DemoSettings,
    plan: RunPlan,
    addresses: Addresses,
    state: Path,
    ui_dir: Path | None,
    env: Mapping[str, str],
) -> list[ServiceProgram]:
    """All services of the run, the feed first."""
    base = {**env, **addresses.env(), **_variables(feed=plan.feed, http_port=0, calendar=settings.calendar)}
    recorder = {**base, **_variables(store_trades=settings.store_trades)}
    programs = []
    if settings.source == "generator":
        programs.append(
            ServiceProgram(name="generator", module="generator", env={**base, **_generator(settings, plan)})
        )
    for shard in range(settings.shards):
        name = "ingest" if settings.shards == 1 else f"ingest-{shard}"
        programs.append(
            ServiceProgram(name=name, module="ingest", env={**base, **_ingest(settings, plan, shard, state)})
        )
    programs.append(ServiceProgram(name="recorder", module="recorder", env=recorder))
    ports = {"public_port": plan.public_port, "grpc_port": plan.grpc_port}
    told = {"orders_url": plan.orders_url} if plan.orders_url else {}
    mds = _variables(**ports, **({"ui_dir": ui_dir} if ui_dir else {}), **told) | _access(env)
    programs.append(ServiceProgram(name="mds", module="mds", env={**base, **mds, **_previous_closes(settings)}))
    if plan.orders_port is not None:
        where: dict[str, object] = {"market_data": f"127.0.0.1:{plan.grpc_port}", "orders_port": plan.orders_port}
        if plan.orders_http_port is not None:
            where |= {"orders_http_port": plan.orders_http_port, "origins": plan.page_origins}
        orders = {**base, **_variables(**where), **_access(env)}
        programs.append(ServiceProgram(name="orders", module="orders", env=orders))
    return programs


def _access(env: Mapping[str, str]) -> dict[str, str]:
    """The demo is open to everybody on this machine, unless its user gave tokens to ask for."""
    asked_for = any(env.get(name) for name in _TOKENS)
    return _variables(open="no" if asked_for else "yes")


def _previous_closes(settings: DemoSettings) -> dict[str, str]:
    """Who is asked for closes that no stored day tells. A key goes to the host that it was given for and no other."""
    url = settings.finnhub_rest_url
    if url is None and (urlsplit(settings.finnhub_url).hostname or "").endswith(".finnhub.io"):
        url = FINNHUB_REST_URL
    if settings.source != "finnhub" or not url:
        return {}
    return _variables(finnhub_rest_url=url, finnhub_api_key=settings.finnhub_api_key)


def _generator(settings: DemoSettings, plan: RunPlan) -> dict[str, str]:
    return _variables(
        rate=settings.rate,
        symbols=plan.universe,
        seed=settings.seed,
        feed_port=plan.feed_port,
        fault=",".join(settings.fault),
    )


def _ingest(settings: DemoSettings, plan: RunPlan, shard: int, state: Path) -> dict[str, str]:
    generated = settings.source == "generator"
    return _variables(
        symbols_file=symbols_file(state),
        shard=f"{shard}/{settings.shards}",
        source=settings.source,
        finnhub_url=f"ws://127.0.0.1:{plan.feed_port}" if generated else settings.finnhub_url,
        finnhub_api_key=f"demo-{shard}" if generated else settings.finnhub_api_key,
        retention_gb=plan.retention_gb,
        spool_dir=state / "spool",
    )


def _variables(**values: object) -> dict[str, str]:
    return {f"MARKETFEED_{name.upper()}": str(value) for name, value in values.items()}
