"""Settings of the embedded stack and of the demo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from marketfeed.runtime.settings import Settings, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class StackSettings(Settings):
    """The embedded stack. The addresses are those of existing servers; all three are given, or none."""

    state_dir: Path = setting(
        Path(".marketfeed"), "folder for the servers' data, logs and ports; removing it starts from nothing"
    )
    kafka: str = setting("", "host:port of an existing Kafka to use instead of a started one")
    redis: str = setting("", "URL of an existing Redis or Valkey to use instead of a started one", secret=True)
    postgres: str = setting("", "URL of an existing PostgreSQL to use instead of a started one", secret=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoSettings(StackSettings):
    """The demo: which feed, how much of it, for how long."""

    source: str = setting("generator", "where trades come from", choices=("generator", "finnhub"))
    rate: float = setting(200.0, "generator: mean trades per second over all symbols, up to 1,000,000")
    symbols: str = setting("20", "how many symbols of the generator, or their names: AAPL,BINANCE:BTCUSDT")
    seed: int = setting(1, "generator: the same seed gives the same market")
    fault: tuple[str, ...] = setting((), "generator: faults such as disconnect@30,triple@5+10; see generator --help")
    finnhub_url: str = setting("wss://ws.finnhub.io", "finnhub: the feed's address, or any server that speaks the same")
    finnhub_rest_url: str | None = setting(
        None, "finnhub: where previous closes are asked for; Finnhub's own by default, if the feed is Finnhub's"
    )
    finnhub_api_key: str = setting("", "finnhub: the API key; FINNHUB_API_KEY does as well", secret=True)
    shards: int = setting(1, "ingest processes that share the symbols; real feeds need a key for each")
    port: int = setting(8080, "port of the page; any free one if it is taken")
    grpc_port: int = setting(50051, "port of gRPC; any free one if it is taken")
    orders: bool = setting(False, "take paper orders over gRPC, too (docs/orders.md)")
    orders_port: int = setting(50052, "port of the same; any free one if it is taken")
    feed: str = setting("", "feed id; by default `demo`, and a fresh one for runs with --for")
    duration: str = setting("", "end after this time (30s, 2m, 1h) and prove that nothing was lost; also as --for")
    calendar: str = setting("24x7", "sessions and trade dates", choices=("24x7", "us-equity"))
    store_trades: str = setting(
        "none", "keep raw trades in PostgreSQL beside their bars, too", choices=("none", "postgres")
    )
    open_page: bool = setting(False, "open the page in a browser; --open does as well")
    page: bool = setting(True, "build and serve the page; no for a run without it")
