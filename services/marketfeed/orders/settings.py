"""Settings of the order service."""

from __future__ import annotations

from dataclasses import dataclass

from marketfeed.runtime.access_settings import AccessSettings
from marketfeed.runtime.settings import setting


@dataclass(frozen=True, kw_only=True, slots=True)
class OrdersSettings(AccessSettings):
    """Where market data and storage are, whom orders are taken from, and what an order must be like."""

    feed: str = setting("demo", "feed id: the feed whose tape fills orders")
    instance: str | None = setting(None, "name of this process; default host and process id")
    calendar: str = setting("24x7", "sessions and trade dates", choices=("24x7", "us-equity"))
    postgres: str = setting(
        "postgresql://postgres@127.0.0.1:5432/postgres", "connection string of PostgreSQL", secret=True
    )
    market_data: str = setting(
        "127.0.0.1:50051", "gRPC address of mds, host:port or dns:///name:port for all its replicas"
    )
    market_data_token: str | None = setting(
        None, "the token that mds is shown, which must grant all symbols that orders may be for", secret=True
    )
    orders_host: str = setting("127.0.0.1", "address that marketfeed.v1.Orders listens on")
    orders_port: int = setting(50052, "port of the same, 0 for any free one")
    orders_http_port: int | None = setting(
        None, "port of the same for browsers, by the Connect protocol, 0 for any free one; without it there is none"
    )
    origins: tuple[str, ...] = setting(
        (), "web pages of other origins that may place orders, https://host; * for all; our own is always allowed"
    )
    symbols: tuple[str, ...] = setting(
        ("*",), "symbols whose tape is read; * for all: name them if some of the feed's no longer trade"
    )
    ticks: str = setting(
        "0:0.0001,1:0.01", "price steps as FROM:TICK bands; the default is that of stocks in the US (Rule 612)"
    )
    lot: str = setting("0.000001", "a quantity is a multiple of this; fractions of a share are common with brokers")
    quantity_max: str = setting("1000000000", "largest quantity of an order")
    collar_pct: float = setting(10.0, "how far from the reference price a limit may be, in percent, on either side")
    max_age_ms: int = setting(5_000, "how old what is known of a symbol may be for a market order")
    fresh_ms: int = setting(5_000, "how old the tape may be and still count as fresh in heartbeats and /status")
    working_max: int = setting(10_000, "working orders at a time, all accounts together")
    account_working_max: int = setting(1_000, "working orders of one account at a time")
    commands_max: int = setting(5_000, "commands that wait for the next commit; more are refused")
    streams_max: int = setting(500, "StreamOrders calls at a time; more are refused")
    commit_every_s: float = setting(1.0, "how often the tape's place is stored when nothing happens to orders")
    takeover_s: float = setting(5.0, "another process that stores nothing for so long is replaced by this one")
