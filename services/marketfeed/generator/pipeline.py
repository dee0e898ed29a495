"""Plays the market to whoever is connected: due slices are patched, written to each session's socket, and counted.

Mechanism: one task wakes every few milliseconds, takes the slices that are due from the schedule, and for each distinct
choice of symbols (`Selection`) patches one template, whose bytes go to all sessions of that choice in one write. What
was handed to at least one socket goes to the ledger once. Time comes from a clock given by the app; sockets are behind
`Wire`, so that this file imports no adapter.

A session that does not read is cut off when too much has piled up, as a vendor does; it is never waited for. A
schedule that falls behind by more than a bound is skipped, not sent late.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from marketfeed.domain.manifest import Manifest, ManifestConnection
from marketfeed.generator import faults as broken
from marketfeed.generator import metrics
from marketfeed.generator.faults import Fault, FaultPlan
from marketfeed.generator.frames import Encoder, Template
from marketfeed.generator.ledger import Ledger
from marketfeed.generator.market import Market, Slice
from marketfeed.generator.settings import GeneratorSettings
from marketfeed.runtime.logs import get_logger
from marketfeed.runtime.tasks import stopped_within
from marketfeed.wire.websocket_frames import encode_text_frame

_log = get_logger("generator")

# Below this pause a write per slice costs more than it brings.
_PAUSE_S = 0.002
_PAUSE_MAX_S = 0.05
# Slices sent in one go before other tasks (subscriptions, pings) get a turn.
_SLICES_A_TURN = 64
# Passing over a slice costs a twentieth of that; after a long pause of the process there may be millions.
_SKIPS_A_TURN = 1_000
_CONNECTIONS_KEPT = 10_000
_RATE_OVER_MS = 2_000

PING = encode_text_frame(b'{"type":"ping"}')
TOO_MANY = encode_text_frame(b'{"msg":"Subscribing to too many symbols","type":"error"}')
NOT_UNDERSTOOD = encode_text_frame(b'{"msg":"Invalid message","type":"error"}')

Mask = npt.NDArray[np.bool_]


class Wire(Protocol):
    """What the pipeline needs of a connection."""

    @property
    def closed(self) -> bool:
        """Nothing can be sent any more."""

    @property
    def buffered_bytes(self) -> int:
        """Bytes that the socket has not taken yet."""

    def send_frames(self, data: bytes) -> None:
        """Write encoded frames without waiting."""

    def abort(self) -> None:
        """Cut the connection."""


class Selection:
    """A choice of symbols with its templates, shared by the sessions that made it."""

    def __init__(self, wanted: Mask) -> None:
        self.wanted = wanted
        self.everything = bool(wanted.all())
        self._templates: dict[int, Template | None] = {}

    def template(self, pattern: int, encoder: Encoder) -> Template | None:
        """The template of a pattern, made at its first use."""
        if pattern not in self._templates:
            self._templates[pattern] = encoder.template(pattern, None if self.everything else self.wanted)
        return self._templates[pattern]


class Session:
    """One connection of a client, and what it has subscribed to."""

    def __init__(self, wire: Wire, symbols: int, opened_ns: int) -> None:
        self.wire = wire
        self.wanted: Mask = np.zeros(symbols, np.bool_)
        self.selection: Selection | None = None  # None: to be found before the next slice
        self.opened_ns = opened_ns
        self.silent = False
        self.end_reason = "open"
        self.symbols_most = 0
        self.trades = 0
        self.frames = 0

    def told(self, closed_ns: int) -> ManifestConnection:
        """What the manifest says of it."""
        return ManifestConnection(
            self.opened_ns, closed_ns, self.end_reason, self.symbols_most, self.trades, self.frames
        )


class Feed:
    """The market and its sessions.

    `clock_ms` is the schedule's time, Unix milliseconds; `wall_ns` the wall clock, for the manifest's connections.
    """

    def __init__(
        self,
        settings: GeneratorSettings,
        market: Market,
        faults: FaultPlan,
        clock_ms: Callable[[], float],
        wall_ns: Callable[[], int],
    ) -> None:
        self.market = market
        self.faults = faults
        self.stopped = False
        self.behind_ms = 0.0
        self.skipped = 0
        self._settings = settings
        self._clock_ms = clock_ms
        self._wall_ns = wall_ns
        self._encoder = Encoder(market.universe, market.pages, settings.frame_trades)
        self._ledger = Ledger(len(market.universe), market.pages, settings.manifest_seconds_max)
        self._sessions: set[Session] = set()
        self._selections: dict[bytes, Selection] = {}
        self._ended: deque[ManifestConnection] = deque(maxlen=_CONNECTIONS_KEPT)
        self._muted: tuple[str, ...] = ()
        self._trades = 0
        self._recent: deque[tuple[float, int]] = deque([(clock_ms(), 0)])

    # Sessions

    def now_s(self) -> float:
        """Seconds since the market's start: the time of the fault plan."""
        return (self._clock_ms() - self.market.shape.start_ms) / 1e3

    @property
    def clients(self) -> int:
        """Sessions open at present."""
        return len(self._sessions)

    @property
    def trades(self) -> int:
        """Trades and updates handed out so far."""
        return self._trades

    def rate(self) -> float:
        """Trades per second over the last two seconds."""
        (begin_ms, before), now_ms = self._recent[0], self._clock_ms()
        return (self._trades - before) / max((now_ms - begin_ms) / 1e3, 0.1)

    def open_session(self, wire: Wire) -> Session:
        """A client has connected."""
        session = Session(wire, len(self.market.universe), self._wall_ns())
        self._sessions.add(session)
        metrics.CONNECTIONS.set(len(self._sessions))
        return session

    def close_session(self, session: Session, reason: str) -> None:
        """A client is gone, or was sent away; the first reason given is kept."""
        if session in self._sessions:
            self._sessions.discard(session)
            session.end_reason = reason
            self._ended.append(session.told(self._wall_ns()))
            metrics.CONNECTIONS.set(len(self._sessions))

    def on_message(self, session: Session, message: str | bytes) -> None:
        """A client's message; the protocol has no acknowledgement, and errors only for what cannot be done."""
        try:
            order = msgspec.json.decode(message, type=_Order)
        except (msgspec.DecodeError, UnicodeDecodeError):
            session.wire.send_frames(NOT_UNDERSTOOD)
            return
        place = self.market.universe.position.get(order.symbol)
        if order.type not in ("subscribe", "unsubscribe") or place is None:
            # Finnhub says nothing either; a symbol it does not know simply never trades.
            metrics.REFUSED.labels("unknown_symbol" if place is None else "unknown_message").inc()
            return
        wanted = order.type == "subscribe"
        if session.wanted[place] == wanted:
            return
        most = self._settings.symbols_max
        if wanted and most and int(session.wanted.sum()) >= most:
            metrics.REFUSED.labels("too_many_symbols").inc()
            session.wire.send_frames(TOO_MANY)
            return
        session.wanted[place] = wanted
        session.selection = None

    def cut_all(self, reason: str) -> None:
        """Cut every connection."""
        for session in tuple(self._sessions):
            self.close_session(session, reason)
            session.wire.abort()

    def manifest(self) -> Manifest:
        """All that was handed out so far."""
        shape, universe = self.market.shape, self.market.universe
        return Manifest(
            seed=shape.seed,
            start_ms=shape.start_ms,
            rate=shape.rate,
            stopped=self.stopped,
            kept_from_s=self._ledger.kept_from_s,
            symbols=universe.symbols,
            price_scale=tuple(universe.price_scale.tolist()),
            size_scale=tuple(universe.size_scale.tolist()),
            connections=self.connections(),
            seconds=self._ledger.seconds(),
        )

    def connections(self) -> tuple[ManifestConnection, ...]:
        """All connections there have been, the open ones last."""
        return (*self._ended, *(session.told(0) for session in self._sessions))

    # Sending

    async def play(self, stopping: asyncio.Event) -> None:
        """Send what is due until told to stop."""
        while not stopping.is_set():
            self.turn()
            due_in_s = (self.market.end_ms + self._lag_ms() - self._clock_ms()) / 1e3
            await asyncio.sleep(min(max(due_in_s, _PAUSE_S), _PAUSE_MAX_S))

    async def ping(self, stopping: asyncio.Event) -> None:
        """Ping every session, all at once, as often as the settings say."""
        while not await stopped_within(stopping, self._settings.ping_interval_s):
            for session in self._sessions:
                if not session.silent:
                    session.wire.send_frames(PING)

    def turn(self) -> None:
        """Begin the faults whose time has come, and send the slices that are due."""
        now_ms = self._clock_ms()
        for fault in self.faults.begun(self.now_s()):
            self._begin(fault)
        self._mute()
        lag_ms = self._lag_ms()
        sent = passed = 0
        while (
            not self.stopped
            and self.market.end_ms + lag_ms <= now_ms
            and sent < _SLICES_A_TURN
            and passed < _SKIPS_A_TURN
        ):
            behind_ms = now_ms - lag_ms - self.market.end_ms
            if not self._sessions:
                self.market.skip()
                passed += 1
            elif behind_ms > self._settings.behind_ms_max:
                self.market.skip()
                passed += 1
                self.skipped += 1
                metrics.SKIPPED.inc()
            else:
                self.behind_ms = behind_ms
                self._send(self.market.next())
                sent += 1
        metrics.BEHIND.set(self.behind_ms / 1e3)
        if now_ms - self._recent[-1][0] >= _RATE_OVER_MS / 4:
            self._recent.append((now_ms, self._trades))
            while len(self._recent) > 1 and now_ms - self._recent[0][0] > _RATE_OVER_MS:
                self._recent.popleft()

    def _lag_ms(self) -> float:
        lag = self.faults.active("lag", self.now_s())
        return lag.lag_s * 1e3 if lag else 0.0

    def _begin(self, fault: Fault) -> None:
        metrics.FAULTS.labels(fault.kind).inc()
        _log.info("fault begins", kind=fault.kind, for_s=fault.for_s)
        if fault.kind in ("disconnect", "outage"):
            self.cut_all(fault.kind)
        elif fault.kind == "hang":
            for session in self._sessions:
                session.silent = True
        elif fault.kind == "error":
            text = encode_text_frame(msgspec.json.encode({"msg": fault.message, "type": "error"}))
            for session in self._sessions:
                session.wire.send_frames(text)

    def _mute(self) -> None:
        fault = self.faults.active("mute", self.now_s())
        muted = fault.symbols if fault else ()
        if muted != self._muted:
            self._muted = muted
            for session in self._sessions:
                session.selection = None

    def _send(self, made: Slice) -> None:
        """Hand one slice to every session that wants something of it, and count what was handed out."""
        now_s = self.now_s()
        if fault := self.faults.active("reversed", now_s):
            made = broken.mirrored(made, fault.window_ms)
        tripled = self.faults.active("triple", now_s) is not None
        bad = self.faults.bad_due(now_s)
        ready: dict[Selection, tuple[bytes, Template]] = {}
        handed: dict[Selection, None] = {}
        for session in tuple(self._sessions):
            if session.silent or not self._can_take(session):
                continue
            selection = session.selection or self._select(session)
            template = selection.template(made.pattern, self._encoder)
            if template is None:
                continue
            if selection not in ready:
                data = template.patch(made)
                if tripled:
                    data = broken.tripled(data, template.frame_starts)
                elif bad is not None:
                    data = self._spoil(bad, data, template, selection, made)
                ready[selection] = data, template
            data, template = ready[selection]
            session.wire.send_frames(data)
            session.trades += template.count
            session.frames += len(template.frame_starts) - 1
            metrics.BYTES.inc(len(data))
            handed[selection] = None
        if handed:
            self._count(made, [selection.wanted for selection in handed])

    def _count(self, made: Slice, wanted: list[Mask]) -> None:
        union = wanted[0] if len(wanted) == 1 else np.logical_or.reduce(wanted)
        count = self._ledger.add(made, None if union.all() else union)
        self._trades += count
        metrics.TRADES.inc(count)

    def _can_take(self, session: Session) -> bool:
        if session.wire.closed:
            self.close_session(session, "closed")
            return False
        if session.wire.buffered_bytes > self._settings.send_buffer_bytes_max:
            metrics.SLOW_CLOSED.inc()
            _log.warning("client does not read, cut off", buffered_bytes=session.wire.buffered_bytes)
            self.close_session(session, "slow")
            session.wire.abort()
            return False
        return True

    def _select(self, session: Session) -> Selection:
        """The session's choice of symbols, less the muted ones; choices nobody has any more are forgotten."""
        session.symbols_most = max(session.symbols_most, int(session.wanted.sum()))
        wanted = session.wanted.copy()
        places = self.market.universe.position
        wanted[[places[name] for name in self._muted if name in places]] = False
        key = wanted.tobytes()
        selection = self._selections.get(key)
        if selection is None:
            in_use = {id(other.selection) for other in self._sessions if other.selection is not None}
            self._selections = {k: s for k, s in self._selections.items() if id(s) in in_use}
            selection = self._selections[key] = Selection(wanted)
        session.selection = selection
        return selection

    def _spoil(
        self, bad: tuple[Fault, str], data: bytes, template: Template, selection: Selection, made: Slice
    ) -> bytes:
        """The frames with something bad among them."""
        fault, what = bad
        symbol = self.market.universe.symbols[int(np.flatnonzero(selection.wanted)[0])]
        if what in broken.BAD_TRADES:
            trade = broken.bad_trade(what, symbol, made.end_ms, made.number)
            return broken.with_bad_trade(data, template.frame_starts, trade)
        return broken.bad_frame(what, symbol, made.end_ms, made.number, fault.bytes) + data


class _Order(msgspec.Struct):
    type: str
    symbol: str = ""
