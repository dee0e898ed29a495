"""Settings of the recorder."""

from __future__ import annotations

from dataclasses import dataclass

from marketfeed.runtime.settings import Settings, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class RecorderSettings(Settings):
    """Which log is recorded, where to, and how often."""

    feed: str = setting("demo", "feed id: prefix of topics and keys")
    kafka: str = setting("127.0.0.1:9092", "Kafka's bootstrap address")
    redis: str = setting("redis://127.0.0.1:6379/0", "address of Redis or Valkey, for the sink `cache`", secret=True)
    postgres: str = setting(
        "postgresql://postgres@127.0.0.1:5432/postgres", "connection string of PostgreSQL, for `store`", secret=True
    )
    sinks: tuple[str, ...] = setting(("store", "cache"), "what to write: store (PostgreSQL), cache (Redis), or both")
    calendar: str = setting("24x7", "sessions and trade dates", choices=("24x7", "us-equity"))
    flush_interval_ms: int = setting(250, "time between two flushes of a sink; up to 1 s when a flush takes long")
    flush_trades_max: int = setting(500_000, "trades in memory at which a flush comes early, when catching up")
    rollup_interval_s: float = setting(5.0, "time between two updates of the 1 minute bars from the seconds")
    rollup_coarse_interval_s: float = setting(30.0, "time between two updates of the 1 hour and 1 day bars")
    window_s: int = setting(120, "how far below the watermark bars are held in memory; later trades read their bar")
    store_trades: str = setting("none", "keep raw trades in PostgreSQL, too", choices=("none", "postgres"))
    publish_bars: bool = setting(True, "publish closed and revised 1 s bars to <feed>.bars")
    retention_days: int = setting(
        30,
        "days for which 1 s bars are kept; roll-ups are kept for ever. All feeds of a database share its days:"
        " the smallest retention among its recorders counts",
    )
    trade_retention_days: int = setting(
        7, "days for which raw trades are kept; of all feeds of a database, the smallest number counts"
    )
    quarantine_days: int = setting(14, "days for which refused trades and unreadable records are kept")
    instance: str | None = setting(None, "name of this process; default host and process id")
