"""The JSON messages of `/v1/stream` and the bodies of the HTTP answers, as typed values.

docs/websocket.md shows each of them; docs/asyncapi.yaml and docs/openapi.yaml are made from these types. 64-bit times
are strings (`Nanos`), seconds are numbers. Values only, no state: what may be sent when is `domain/client_session.py`.
Here is what the server says; what clients say is in `websocket_commands.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Struct

from marketfeed.domain import client_messages as session
from marketfeed.domain.bars import BarColumns

PROTOCOL = 1

Nanos = Annotated[str, Meta(pattern=r"^-?\d+$", description="Unix nanoseconds")]
Seconds = Annotated[int, Meta(description="Unix seconds")]
Id = int | str | None


# --- server to client ---------------------------------------------------------------------------------------------


class Intervals(Struct):
    """Bounds of `interval_ms`."""

    default: int
    min: int
    max: int


class LimitsOut(Struct):
    """Bounds of one connection."""

    symbols: int
    messages_per_s: int
    message_bytes: int


class Hello(Struct, tag="hello"):
    """The server's first message."""

    version: str
    feed: str
    instance: str
    calendar: str
    server_ts: Nanos
    interval_ms: Intervals
    limits: LimitsOut
    heartbeat_ms: int = 1000
    protocol: int = PROTOCOL
    auth_required: bool = False


class AuthenticatedOut(Struct, tag="authenticated"):
    """The token is good, or none was needed; who it is of, and when it ends (null: never)."""

    id: Id
    subject: str = ""
    expires_ts: Nanos | None = None


class StatusOf(Struct):
    """The fate of one symbol of a request."""

    status: str


class SubscribedOut(Struct, tag="subscribed"):
    """Each symbol's fate, and what is in force; trades begin at `position`."""

    id: Id
    symbols: dict[str, StatusOf]
    channels: list[str]
    interval_ms: int
    emission: str
    position: str


class ResumedOut(Struct, tag="resumed"):
    """Whether nothing is missing since the position asked for; else snapshots follow. Trades begin at `position`."""

    id: Id
    recovered: bool
    symbols: dict[str, StatusOf]
    channels: list[str]
    interval_ms: int
    emission: str
    position: str


class CaughtUp(Struct, tag="caught_up"):
    """All that a resume owed has been sent."""

    id: Id
    position: str


class IntervalOut(Struct, tag="interval"):
    """Answer to `set`: what is in force from now on."""

    id: Id
    interval_ms: int


class UnsubscribedOut(Struct, tag="unsubscribed"):
    """Each symbol's fate: ok or not_subscribed."""

    id: Id
    symbols: dict[str, StatusOf]


class PongOut(Struct, tag="pong"):
    """Answer to `ping`."""

    id: Id
    server_ts: Nanos


class ErrorOut(Struct, tag="error"):
    """What was wrong with a message; the connection goes on unless a close frame follows."""

    id: Id
    code: str
    message: str


class Stamps(Struct):
    """One trade's way: exchange, ingest's socket, the log's append, this server's write."""

    event_ts: Nanos
    received_ts: Nanos | None
    logged_ts: Nanos | None
    sent_ts: Nanos


class Day(Struct):
    """The trade date so far. Volume in whole decimals of the feed."""

    date: str
    open: float
    high: float
    low: float
    volume: float
    trades: int


class Quote(Struct):
    """The newest price of a symbol with everything a ticker shows; `age_ms` is the trade's age when this was sent."""

    symbol: str
    price: float
    size: float | None
    event_ts: Nanos
    age_ms: int
    previous_price: float | None
    direction: int
    day: Day | None
    previous_close: float | None
    trades_per_s: float
    session: str
    stamps: Stamps


class QuoteOut(Quote, tag="quote"):
    """The newest state of a quote, at most once per interval."""


class Bars(Struct):
    """Bars as equally long columns in the order of `start`. state 0 OPEN, 1 CLOSED, 2 REVISED, 3 FINAL."""

    start: list[Seconds]
    open: list[float]
    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[float]
    trades: list[int]
    state: list[int]
    revision: list[int]
    incomplete: list[int]


class HistoryBars(Bars):
    """As Bars, with the average price (null without volume) and 1 in `filled` where no trade was."""

    vwap: list[float | None]
    filled: list[int]


class SymbolState(Struct):
    """source live | stale | down, trading trading | halted | closed, and since when."""

    source: str
    trading: str
    since_ts: Nanos
    reason: str = ""


class Snapshot(Struct, tag="snapshot"):
    """Where a symbol stands; live messages follow the last part without a hole and without a repeat."""

    symbol: str
    part: int
    parts: int
    position: str
    source: str
    incomplete: bool
    from_: Seconds = msgspec.field(name="from")
    status: SymbolState
    quote: Quote | None
    bars: Bars | None
    bars_1m: Bars | None = None


class Trades(Struct):
    """Trades of one symbol as equally long columns, in the log's order; size 0 is a price update, which is no trade.

    partition, offset and index together are a trade's identity, and rise by (offset, index) within a symbol.
    conditions: the feed's codes of each trade, null where it has none; null as a whole if none of them has any.
    """

    symbol: str
    event_ts: list[Nanos]
    price: list[float]
    size: list[float]
    conditions: list[tuple[str, ...] | None] | None
    partition: int
    offset: list[int]
    index: list[int]
    stamps: Stamps


class TradesOut(Trades, tag="trades"):
    """Every trade of a symbol since the last one."""


class BarOut(Struct, tag="bar"):
    """Every bar changed since the last one."""

    symbol: str
    bars: Bars
    interval: str = "1s"


class GapOut(Struct, tag="gap"):
    """Trades stamped in this span may be missing."""

    symbol: str
    from_ts: Nanos
    to_ts: Nanos
    reason: str
    dropped: int


class StatusOut(Struct, tag="status"):
    """A change of a symbol's source or trading status."""

    symbol: str
    source: str
    trading: str
    since_ts: Nanos
    reason: str = ""


class Heartbeat(Struct, tag="heartbeat"):
    """Every second: silence is information only next to a watermark."""

    server_ts: Nanos
    watermark_ts: Nanos | None
    lag_ms: int
    stamps: Stamps | None
    position: str | None = None


class Conflated(Struct, tag="conflated"):
    """Updates merged into newer ones because this connection was slow."""

    count: int
    max_age_ms: int


class Drain(Struct, tag="drain"):
    """The server is about to restart; `position` is the token to resume with, null while a snapshot is on its way."""

    reason: str
    reconnect_after_ms: int
    position: str | None


ServerMessage = (
    Hello | AuthenticatedOut | SubscribedOut | ResumedOut | CaughtUp | UnsubscribedOut | IntervalOut | PongOut
    | ErrorOut | Snapshot | QuoteOut | BarOut | TradesOut | GapOut | StatusOut | Heartbeat | Conflated | Drain
)  # fmt: skip

_encoder = msgspec.json.Encoder()


def encode(message: Struct) -> bytes:
    """A message or body as JSON."""
    return _encoder.encode(message)


def encode_reply(reply: session.Reply, now_ns: int, position: str) -> bytes:
    """A reply of the session as JSON; `position` is where trades begin."""
    match reply:
        case session.Authenticated():
            expires_ts = None if reply.expires_s is None else str(int(reply.expires_s * 1e9))
            return encode(AuthenticatedOut(reply.id, reply.subject, expires_ts))
        case session.Subscribed():
            in_force = (list(reply.channels), reply.interval_ms, reply.emission, position)
            return encode(SubscribedOut(reply.id, _statuses(reply.symbols), *in_force))
        case session.Resumed():
            in_force = (list(reply.channels), reply.interval_ms, reply.emission, position)
            return encode(ResumedOut(reply.id, reply.recovered, _statuses(reply.symbols), *in_force))
        case session.InForce():
            return encode(IntervalOut(reply.id, reply.interval_ms))
        case session.Unsubscribed():
            return encode(UnsubscribedOut(reply.id, _statuses(reply.symbols)))
        case session.Pong():
            return encode(PongOut(reply.id, str(now_ns)))
        case session.Problem():
            return encode(ErrorOut(reply.id, reply.code, reply.message))


def _statuses(symbols: dict[str, session.SymbolStatus]) -> dict[str, StatusOf]:
    return {symbol: StatusOf(status.value) for symbol, status in symbols.items()}


# --- HTTP bodies --------------------------------------------------------------------------------------------------


class ListedSymbol(Struct):
    """A symbol of the feed with its last price, null before the first trade."""

    symbol: str
    price: float | None
    event_ts: Nanos | None
    source: str


class SymbolList(Struct):
    """Answer of /v1/symbols."""

    feed: str
    symbols: list[ListedSymbol]


class BarsAnswer(Struct):
    """Answer of /v1/bars; `next_from` says where to go on when `limit` cut it, else null."""

    symbol: str
    interval: str
    from_: Seconds = msgspec.field(name="from")
    to: Seconds
    fill: str
    source: str
    position: str
    incomplete: bool
    next_from: Seconds | None
    bars: HistoryBars


class SessionSpan(Struct):
    """One session of the trade date, [from, to)."""

    session: str
    from_: Seconds = msgspec.field(name="from")
    to: Seconds


class DaySpan(Struct):
    """The trade date's first and last second, [from, to)."""

    from_: Seconds = msgspec.field(name="from")
    to: Seconds


class ConfigAnswer(Struct):
    """Answer of /v1/config; `orders_url` is where pages place paper orders, null where there is no such service."""

    feed: str
    version: str
    calendar: str
    trade_date: str
    day: DaySpan
    sessions: list[SessionSpan]
    server_ts: Nanos
    protocol: int = PROTOCOL
    orders_url: str | None = None


class ErrorBody(Struct):
    """A code for programs, a sentence for people."""

    code: str
    message: str


class ErrorAnswer(Struct):
    """Body of every answer with a status of 400 and more."""

    error: ErrorBody


# --- bars ---------------------------------------------------------------------------------------------------------


def bars_of(columns: BarColumns) -> Bars:
    """Bars of one symbol as JSON columns. Volume is divided exactly and rounded once, to the nearest float64."""
    return Bars(**_columns(columns))


def history_bars_of(columns: BarColumns, filled: Sequence[int] | None = None) -> HistoryBars:
    """As `bars_of`, with vwap and the mark of filled bars."""
    vwap = [None if np.isnan(v) else v for v in columns.vwap().tolist()]
    return HistoryBars(**_columns(columns), vwap=vwap, filled=list(filled or [0] * len(columns)))


def _columns(columns: BarColumns) -> dict[str, Any]:
    return {
        "start": columns.start_s.tolist(),
        "open": columns.open.tolist(),
        "high": columns.high.tolist(),
        "low": columns.low.tolist(),
        "close": columns.close.tolist(),
        "volume": [v / 10**s for v, s in zip(columns.volume.tolist(), columns.size_scale.tolist(), strict=True)],
        "trades": columns.trades.tolist(),
        "state": columns.state.tolist(),
        "revision": columns.late.tolist(),
        "incomplete": columns.incomplete.astype(np.int8).tolist(),
    }
