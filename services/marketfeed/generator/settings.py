"""The generator's settings."""

from __future__ import annotations

from dataclasses import dataclass

from marketfeed.runtime.settings import Settings, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorSettings(Settings):
    """What market is made, and how it is served."""

    feed: str = setting("demo", "name of the feed this stands in for; shown in /status only")
    feed_host: str = setting("127.0.0.1", "address that the WebSocket and the manifest are served on")
    feed_port: int = setting(0, "port of the same, 0 for any free one; /status shows the URL")
    rate: float = setting(1000.0, "mean trades per second over all symbols, 0.01 to 1,000,000")
    symbols: int = setting(100, "how many symbols there are, 1 to 9,999; the first fifty have known names")
    seed: int = setting(1, "the same seed and start give the same trades")
    start: str = setting("now", "instant of the first trade: now, ISO 8601, or Unix milliseconds; it is sent at once")
    zipf_exponent: float = setting(1.0, "how much the busiest symbols outweigh the others, 0 for all alike")
    burst_share: float = setting(0.04, "share of the time in which trades are denser")
    burst_factor: float = setting(3.0, "how many times denser they are then; the mean stays the rate")
    late_share: float = setting(0.0002, "share of trades stamped 1.5 to 20 s before they are sent")
    disorder_share: float = setting(0.01, "share of trades stamped up to 0.8 s before they are sent")
    update_share: float = setting(0.01, "share of stock trades that are price updates of size 0")
    day_curve: str = setting("flat", "intensity over the day: u is dense at a session's ends", choices=("flat", "u"))
    frame_trades: int = setting(20, "mean number of trades in a frame, at most what is due within 5 ms")
    tokens: tuple[str, ...] = setting((), "API keys that are let in; none given lets in any", secret=True)
    symbols_max: int = setting(0, "symbols one connection may subscribe to, as a plan limits them; 0 for no limit")
    ping_interval_s: float = setting(60.0, "pause between two in-band pings; 60 is what Finnhub does")
    send_buffer_bytes_max: int = setting(32 * 1024 * 1024, "a client that lets more bytes pile up is cut off")
    behind_ms_max: int = setting(2000, "trades further behind their schedule than this are left out, not sent late")
    manifest_seconds_max: int = setting(14_400, "seconds kept in the manifest; older ones are forgotten")
    fault: tuple[str, ...] = setting((), "faults, such as refuse:status=429@60+10,hang@90; see generator/faults.py")
