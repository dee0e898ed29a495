"""The JSON messages of `/v1/stream` and the bodies of the HTTP answers, as typed values.

docs/websocket.md shows each of them; docs/asyncapi.yaml and docs/openapi.yaml are made from these types. 64-bit times
are strings (`Nanos`), seconds are numbers. Values only, no state: what may be sent when is `domain/client_session.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Struct

from marketfeed.domain import client_session as session
from marketfeed.domain.bars import BarColumns
from marketfeed.domain.errors import ClientError

PROTOCOL = 1

Nanos = Annotated[str, Meta(pattern=r"^-?\d+$", description="Unix nanoseconds")]
Seconds = Annotated[int, Meta(description="Unix seconds")]
Id = int | str | None
Symbols = Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(min_length=1, max_length=1000)]


# --- client to server ---------------------------------------------------------------------------------------------


class AuthIn(Struct, tag="auth"):
    """The first message where the server asks for a token; again with a new one before the old one ends."""

    token: str
    id: Id = None


class SubscribeIn(Struct, tag="subscribe"):
    """Ask for symbols; each gets its own status in the answer."""

    symbols: Symbols
    channels: list[str] | None = None
    interval_ms: Annotated[int, Meta(ge=1, le=3_600_000)] | None = None
    from_: Annotated[int, Meta(ge=0, le=2**40)] | None = msgspec.field(name="from", default=None)
    wait: bool = False
    id: Id = None


class UnsubscribeIn(Struct, tag="unsubscribe"):
    """Ask for no more of these."""

    symbols: Symbols
    id: Id = None


class PingIn(Struct, tag="ping"):
    """Answered by `pong` at once."""

    id: Id = None


ClientMessage = AuthIn | SubscribeIn | UnsubscribeIn | PingIn

_decoder = msgspec.json.Decoder(ClientMessage)


def decode_command(message: str | bytes) -> session.Command:
    """The command in a client's message.

    Raises ClientError with code bad_json, unknown_type or bad_message and a sentence that names the place.
    """
    if isinstance(message, bytes):
        raise ClientError("bad_json", "send text messages, not binary ones")
    try:
        found = _decoder.decode(message)
    except msgspec.ValidationError as error:
        text = str(error)
        kind = "unknown_type" if text.endswith("`$.type`") or "field `type`" in text else "bad_message"
        raise ClientError(kind, text) from error
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise ClientError("bad_json", f"this is not JSON: {error}") from error
    match found:
        case AuthIn():
            return session.Auth(found.id, found.token)
        case SubscribeIn():
            channels = None if found.channels is None else tuple(found.channels)
            symbols = session.symbols_of(found.symbols)
            return session.Subscribe(found.id, symbols, channels, found.interval_ms, found.from_, found.wait)
        case UnsubscribeIn():
            return session.Unsubscribe(found.id, session.symbols_of(found.symbols))
    return session.Ping(found.id)


class _Identified(Struct):
    id: Id = None


_id_decoder = msgspec.json.Decoder(_Identified)


def message_id(message: str | bytes) -> session.MessageId:
    """The id of a message that could not be understood otherwise; None where there is none."""
    try:
        return _id_decoder.decode(message).id
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None


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
    """Each symbol's fate, and what is in force."""

    id: Id
    symbols: dict[str, StatusOf]
    channels: list[str]
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


class Conflated(Struct, tag="conflated"):
    """Updates merged into newer ones because this connection was slow."""

    count: int
    max_age_ms: int


class Drain(Struct, tag="drain"):
    """The server is about to restart."""

    reason: str
    reconnect_after_ms: int
    position: str


ServerMessage = (
    Hello | AuthenticatedOut | SubscribedOut | UnsubscribedOut | PongOut | ErrorOut | Snapshot | QuoteOut | BarOut
    | GapOut | StatusOut | Heartbeat | Conflated | Drain
)  # fmt: skip

_encoder = msgspec.json.Encoder()


def encode(message: Struct) -> bytes:
    """A message or body as JSON."""
    return _encoder.encode(message)


def encode_reply(reply: session.Reply, now_ns: int) -> bytes:
    """A reply of the session as JSON."""
    match reply:
        case session.Authenticated():
            expires_ts = None if reply.expires_s is None else str(int(reply.expires_s * 1e9))
            return encode(AuthenticatedOut(reply.id, reply.subject, expires_ts))
        case session.Subscribed():
            return encode(SubscribedOut(reply.id, _statuses(reply.symbols), list(reply.channels), reply.interval_ms))
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
    """Answer of /v1/config."""

    feed: str
    version: str
    calendar: str
    trade_date: str
    day: DaySpan
    sessions: list[SessionSpan]
    server_ts: Nanos
    protocol: int = PROTOCOL


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
