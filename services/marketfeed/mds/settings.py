"""Settings of mds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from marketfeed.runtime.access_settings import AccessSettings
from marketfeed.runtime.settings import setting


@dataclass(frozen=True, kw_only=True, slots=True)
class MdsSettings(AccessSettings):
    """What mds needs to know: where the data is, whom it serves, and the bounds of a client."""

    feed: str = setting("demo", "feed id: prefix of topics and keys")
    instance: str | None = setting(None, "name of this process, told to clients; default host and process id")
    calendar: str = setting("24x7", "sessions and trade dates", choices=("24x7", "us-equity"))
    kafka: str = setting("127.0.0.1:9092", "Kafka's bootstrap address")
    redis: str = setting(
        "redis://127.0.0.1:6379/0", "address of Redis or Valkey, read when PostgreSQL is away", secret=True
    )
    postgres: str = setting(
        "postgresql://postgres@127.0.0.1:5432/postgres", "connection string of PostgreSQL", secret=True
    )
    public_host: str = setting("127.0.0.1", "address that the page, the API and /v1/stream listen on")
    public_port: int = setting(8080, "port of the same, 0 for any free one")
    grpc_host: str = setting("127.0.0.1", "address that gRPC listens on")
    grpc_port: int | None = setting(None, "port of the same, 0 for any free one; without it there is no gRPC")
    ui_dir: Path = setting(Path("services/ui/dist"), "folder of the built page, see `make ui`")
    origins: tuple[str, ...] = setting(
        (), "other web pages that may use /v1 (https://host, comma-separated); * for all, none for our own only"
    )
    orders_url: str | None = setting(
        None, "where pages place paper orders: what the order service's --orders-http-port is reached by; told to them"
    )
    tick_ms: int = setting(50, "length of a fan-out turn, the shortest interval a client can have; eyes see no less")
    heartbeat_ms: int = setting(1000, "time between two heartbeats to a client")
    handshake_timeout_s: float = setting(
        10.0, "a request or a handshake that has not come whole in this time is cut, and an idle HTTP connection, too"
    )
    auth_timeout_s: float = setting(10.0, "time for a client of /v1/stream to send its token")
    connections_max: int = setting(10_000, "WebSocket connections at a time; more are refused with 503")
    symbols_max: int = setting(500, "symbols of one connection")
    messages_per_s: int = setting(20, "messages a second that one client may send")
    message_bytes_max: int = setting(16_384, "longest message of a client")
    buffer_bytes_max: int = setting(262_144, "unsent bytes of one client beyond which it is skipped")
    stall_s: float = setting(10.0, "a client that takes nothing for so long is disconnected")
    window_s: int = setting(120, "how long bars are held in memory at least")
    evict_after_s: float = setting(
        15.0, "bars leave the memory so long after the store was seen to have them; 8 is the least that is safe"
    )
    window_bytes_max: int = setting(536_870_912, "bound of the bars held while PostgreSQL is away")
    snapshot_bars_per_part: int = setting(
        3_600, "bars of one snapshot message: one costs 4 ms, in which nobody is served"
    )
    snapshot_span_s: int = setting(172_800, "how far back `from` may reach; older bars are for /v1/bars")
    tape_s: float = setting(
        300.0, "how long the tape is held for clients that resume; the log is read for older places"
    )
    tape_bytes_max: int = setting(268_435_456, "bound of the tape held")
    snapshots_at_once: int = setting(4, "snapshots read from storage at the same time")
    finnhub_rest_url: str | None = setting(
        None, "Finnhub's REST address (https://finnhub.io/api/v1), asked for previous closes that bar_1d lacks"
    )
    finnhub_api_key: str | None = setting(None, "API key for the same", secret=True)
