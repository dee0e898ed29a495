"""Puts the generator together: the market, its feed, and one server for WebSocket clients and the manifest.

HTTP beside the WebSocket: GET /manifest (totals and connections, JSON), GET /manifest/bars (the whole manifest,
NDJSON, `wire/manifest.py`), GET /symbols, GET and POST /fault (`faults.py`), POST /stop (no more trades; the manifest
stays). These are for whoever runs the generator: it has no secrets, and listens on the local machine by default.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from marketfeed.adapters.websocket_server import Connection, HttpServer, Refuse, Request, Response
from marketfeed.domain.errors import SettingError
from marketfeed.domain.manifest import ManifestConnection
from marketfeed.generator import metrics
from marketfeed.generator.faults import Fault, FaultPlan, fault_of, parse_fault
from marketfeed.generator.market import Market, MarketShape
from marketfeed.generator.pipeline import Feed
from marketfeed.generator.settings import GeneratorSettings
from marketfeed.runtime.service import ServiceContext, default_instance
from marketfeed.runtime.service import main as service_main
from marketfeed.runtime.tasks import TaskKit
from marketfeed.wire.manifest import encode_manifest

# A key that is in use: the new connection stands for a moment, then it is dropped, as at Finnhub.
_KEY_IN_USE_PAUSE_S = 0.3
_MESSAGE_BYTES_MAX = 4096
# Connections shown by GET /manifest, the newest; /manifest/bars has all.
_CONNECTIONS_SHOWN = 100


def main(argv: Sequence[str] | None = None) -> int:
    """Serve a synthetic market over Finnhub's protocol."""
    return service_main("generator", GeneratorSettings, run, argv, main.__doc__)


async def run(context: ServiceContext[GeneratorSettings]) -> None:
    """Serve until told to stop."""
    settings = context.settings
    wall_ms = time.time_ns() // 1_000_000
    shape = market_shape(settings, wall_ms)
    faults = FaultPlan(tuple(map(_parsed, settings.fault)))
    market = await asyncio.to_thread(Market, shape)
    begun_s = time.monotonic()
    if settings.start == "now":
        # Stamps are the wall clock's: what making the market took is not to be caught up.
        begun_s -= (time.time_ns() // 1_000_000 - wall_ms) / 1e3

    def clock_ms() -> float:
        return shape.start_ms + (time.monotonic() - begun_s) * 1e3

    feed = Feed(settings, market, faults, clock_ms, time.time_ns)
    door = Door(settings, feed)
    await door.server.start()
    context.log.info("feed at", url=door.url, symbols=settings.symbols, rate=settings.rate, start_ms=shape.start_ms)
    context.health.status_source = lambda: status(settings, feed, door)
    context.health.ready("market", True)
    async with TaskKit("generator") as tasks:
        tasks.spawn("play", feed.play(context.stopping))
        tasks.spawn("ping", feed.ping(context.stopping))
        await context.stopping.wait()
        feed.cut_all("stopped")
        await door.server.close()


def market_shape(settings: GeneratorSettings, wall_ms: int) -> MarketShape:
    """The market that the settings ask for. Raises SettingError."""
    _between("--rate", settings.rate, 0.01, 1_000_000)
    _between("--symbols", settings.symbols, 1, 9_999)
    _between("--seed", settings.seed, 0, 2**63)
    _between("--frame-trades", settings.frame_trades, 1, 10_000)
    _between("--burst-factor", settings.burst_factor, 1.0, 4.9)
    _between("--burst-share", settings.burst_share, 0.0, 1.0 / (settings.burst_factor + 0.01))
    for name in ("late_share", "disorder_share", "update_share"):
        _between("--" + name.replace("_", "-"), getattr(settings, name), 0.0, 0.5)
    _between("--zipf-exponent", settings.zipf_exponent, 0.0, 3.0)
    _between("--ping-interval-s", settings.ping_interval_s, 0.05, 3600.0)
    return MarketShape(
        seed=settings.seed,
        start_ms=start_of(settings.start, wall_ms),
        symbols=settings.symbols,
        rate=settings.rate,
        zipf_exponent=settings.zipf_exponent,
        burst_share=settings.burst_share,
        burst_factor=settings.burst_factor,
        late_share=settings.late_share,
        disorder_share=settings.disorder_share,
        update_share=settings.update_share,
        day_curve=settings.day_curve,
    )


def start_of(text: str, wall_ms: int) -> int:
    """The start instant in Unix milliseconds. Raises SettingError."""
    if text == "now":
        return wall_ms
    if text.isascii() and text.isdigit():
        # Stamps have 13 digits from 2001 to 2286.
        _between("--start", int(text), 10**12, 10**13 - 10**9)
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        problem = f"is {text!r}, must be now, ISO 8601 such as 2026-03-02T14:30:00Z, or Unix milliseconds"
        raise SettingError("--start", problem) from None
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return start_of(str(max(int(zoned.timestamp() * 1000), 0)), wall_ms)


class Door:
    """Who comes in: keys, handshakes, messages, and the HTTP pages."""

    def __init__(self, settings: GeneratorSettings, feed: Feed) -> None:
        self._settings = settings
        self._feed = feed
        self._keys: set[str] = set()
        self.server = HttpServer(settings.feed_host, settings.feed_port, port_setting="--feed-port")
        self.server.get("/manifest", self._manifest)
        self.server.get("/manifest/bars", self._manifest_bars)
        self.server.get("/symbols", self._symbols)
        self.server.get("/fault", self._faults)
        self.server.post("/fault", self._fault)
        self.server.post("/stop", self._stop)
        self.server.websocket(
            "/", self._connected, accept=self._accept, message_bytes_max=_MESSAGE_BYTES_MAX, ping_interval_s=None
        )

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"ws://{self._settings.feed_host}:{self.server.port}"

    async def _accept(self, request: Request) -> None:
        """Before the handshake: faults first, they strike whoever comes, then the key."""
        now_s = self._feed.now_s()
        refusal = self._feed.faults.active("refuse", now_s)
        if refusal or self._feed.faults.active("outage", now_s):
            metrics.REFUSED.labels("fault").inc()
            raise Refuse(refusal.status if refusal else 503, b"not now")
        if slow := self._feed.faults.active("slow_handshake", now_s):
            await asyncio.sleep(slow.delay_s)
        token = request.query.get("token", "")
        if not token or (self._settings.tokens and token not in self._settings.tokens):
            metrics.REFUSED.labels("token").inc()
            raise Refuse(401, b'{"error":"Invalid API key"}', content_type="application/json")

    async def _connected(self, connection: Connection, request: Request) -> None:
        token = request.query.get("token", "")
        if token in self._keys:
            metrics.REFUSED.labels("key_in_use").inc()
            await asyncio.sleep(_KEY_IN_USE_PAUSE_S)
            await connection.close(1008, "API key in use")
            return
        self._keys.add(token)
        session = self._feed.open_session(connection)
        try:
            async for message in connection.messages():
                self._feed.on_message(session, message)
        finally:
            self._keys.discard(token)
            self._feed.close_session(session, "closed by client")

    async def _manifest(self, _: Request) -> Response:
        manifest = self._feed.manifest()
        seconds, shown = manifest.seconds, manifest.connections[-_CONNECTIONS_SHOWN:]
        return _json(
            {
                "seed": manifest.seed,
                "start_ms": manifest.start_ms,
                "rate": manifest.rate,
                "stopped": manifest.stopped,
                "kept_from_s": manifest.kept_from_s,
                "symbols": len(manifest.symbols),
                "trades": int(seconds.trades.sum()),
                "updates": int(seconds.updates.sum()),
                "rows": self._feed.trades,
                "symbol_seconds": len(seconds),
                "first_s": int(seconds.start_s[0]) if len(seconds) else None,
                "last_s": int(seconds.start_s[-1]) if len(seconds) else None,
                "skipped_slices": self._feed.skipped,
                "connections": [_told(connection) for connection in shown],
            }
        )

    async def _manifest_bars(self, _: Request) -> Response:
        manifest = self._feed.manifest()
        body = await asyncio.to_thread(lambda: b"".join(encode_manifest(manifest)))
        return Response(body, content_type="application/x-ndjson")

    async def _symbols(self, _: Request) -> Response:
        return _json({"symbols": self._feed.market.universe.symbols})

    async def _faults(self, _: Request) -> Response:
        self._feed.faults.forget_ended(self._feed.now_s())
        return _json({"now_s": self._feed.now_s(), "faults": self._feed.faults.faults()})

    async def _fault(self, request: Request) -> Response:
        now_s = self._feed.now_s()
        try:
            values = msgspec.json.decode(request.body, type=dict[str, object])
            fault = fault_of({"at_s": now_s, **values})
        except (msgspec.DecodeError, ValueError) as error:
            raise Refuse(400, msgspec.json.encode({"error": str(error)}), content_type="application/json") from None
        self._feed.faults.forget_ended(now_s)
        self._feed.faults.add(fault)
        return _json({"fault": fault})

    async def _stop(self, _: Request) -> Response:
        self._feed.stopped = True
        return _json({"stopped": True, "rows": self._feed.trades})


def status(settings: GeneratorSettings, feed: Feed, door: Door) -> dict[str, object]:
    """The body of /status."""
    return {
        "service": "generator",
        "feed": settings.feed,
        "instance": default_instance(),
        "url": door.url,
        "rate": round(feed.rate(), 1),
        "lag_s": round(feed.behind_ms / 1e3, 4),
        "clients": feed.clients,
        "trades": feed.trades,
        "skipped_slices": feed.skipped,
        "stopped": feed.stopped,
    }


def _told(connection: ManifestConnection) -> dict[str, object]:
    """A connection in JSON: 64-bit integers as strings."""
    return {
        "opened_ns": str(connection.opened_ns),
        "closed_ns": str(connection.closed_ns),
        "reason": connection.reason,
        "symbols": connection.symbols,
        "trades": connection.trades,
        "frames": connection.frames,
    }


def _parsed(text: str) -> Fault:
    try:
        return parse_fault(text)
    except ValueError as error:
        raise SettingError("--fault", str(error)) from error


def _between(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise SettingError(name, f"is {value:,.10g}, must be from {least:,.10g} to {most:,.10g}")


def _json(body: object) -> Response:
    return Response(msgspec.json.encode(body))
