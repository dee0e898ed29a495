"""What a WebSocket client may ask for and what it is answered, as values; `client_session.py` has the rules.

Pure: how they look as JSON is the business of `wire/websocket.py`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from marketfeed.domain.position import Position

QUOTES = "quotes"
BARS = "bars_1s"
MINUTES = "bars_1m"
TRADES = "trades"
CHANNELS = (QUOTES, BARS, MINUTES, TRADES)
# What a client gets that names no channels.
DEFAULT_CHANNELS = (QUOTES, BARS)

FAST = "fast"
SETTLED = "settled"
# When a bar is sent: as it grows, or once it is closed.
EMISSIONS = (FAST, SETTLED)

MessageId = int | str | None


class CloseCode(enum.IntEnum):
    """Why the server ends a connection; the table in docs/websocket.md says who should come back."""

    NORMAL = 1000
    TOO_BIG = 1009
    INTERNAL = 1011
    RESTART = 1012
    BAD_CLIENT = 4000
    NOT_AUTHENTICATED = 4001
    SLOW_CLIENT = 4003
    RATE_LIMITED = 4004
    TOO_MANY_CONNECTIONS = 4005
    TAPE_LOST = 4006

    @property
    def may_reconnect(self) -> bool:
        """Whether the same client, unchanged, may succeed later."""
        return self not in (CloseCode.TOO_BIG, CloseCode.BAD_CLIENT, CloseCode.NOT_AUTHENTICATED)


class SymbolStatus(enum.StrEnum):
    """The fate of one symbol in a request."""

    OK = "ok"
    PENDING = "pending"
    UNKNOWN = "unknown_symbol"
    LIMIT = "limit"
    NOT_SUBSCRIBED = "not_subscribed"
    FORBIDDEN = "forbidden"


@dataclass(frozen=True, slots=True)
class Auth:
    """The client shows its token."""

    id: MessageId
    token: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    """The client wants symbols, or all of a pattern. None means the server's default.

    wait      accepts symbols that are not known yet
    emission  of bars: FAST | SETTLED
    """

    id: MessageId
    symbols: tuple[str, ...]
    channels: tuple[str, ...] | None = None
    interval_ms: int | None = None
    from_s: int | None = None
    wait: bool = False
    emission: str = FAST


@dataclass(frozen=True, slots=True)
class Resume:
    """The client was here, or at another replica, and had everything before `position` (a text)."""

    id: MessageId
    position: str
    symbols: tuple[str, ...]
    channels: tuple[str, ...] | None = None
    interval_ms: int | None = None
    emission: str = FAST


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """The client wants no more of these symbols."""

    id: MessageId
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Set:
    """The client wants another interval."""

    id: MessageId
    interval_ms: int


@dataclass(frozen=True, slots=True)
class Ping:
    """The client measures the way there and back."""

    id: MessageId


Command = Auth | Subscribe | Resume | Unsubscribe | Set | Ping


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Answer to `Auth`: who it is, and the Unix second at which it has to leave (None: never)."""

    id: MessageId
    subject: str
    expires_s: float | None = None


@dataclass(frozen=True, slots=True)
class Subscribed:
    """Answer to `Subscribe`: each symbol's fate and what is in force."""

    id: MessageId
    symbols: dict[str, SymbolStatus]
    channels: tuple[str, ...]
    interval_ms: int
    emission: str = FAST


@dataclass(frozen=True, slots=True)
class Resumed:
    """Answer to `Resume`: as to `Subscribe`, and whether nothing is missing since the position asked for."""

    id: MessageId
    recovered: bool
    symbols: dict[str, SymbolStatus]
    channels: tuple[str, ...]
    interval_ms: int
    emission: str = FAST


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """Answer to `Unsubscribe`."""

    id: MessageId
    symbols: dict[str, SymbolStatus]


@dataclass(frozen=True, slots=True)
class InForce:
    """Answer to `Set`: the interval from now on."""

    id: MessageId
    interval_ms: int


@dataclass(frozen=True, slots=True)
class Pong:
    """Answer to `Ping`."""

    id: MessageId


@dataclass(frozen=True, slots=True)
class Problem:
    """What was wrong with a message."""

    id: MessageId
    code: str
    message: str


Reply = Authenticated | Subscribed | Resumed | Unsubscribed | InForce | Pong | Problem


@dataclass(frozen=True, slots=True)
class Goodbye:
    """End the connection with this code."""

    code: CloseCode
    reason: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client wants of one symbol, or of all of a pattern: channels, when bars are sent, and bars from this
    second on (None: the trade date's start)."""

    channels: tuple[str, ...]
    from_s: int | None
    emission: str = FAST


@dataclass(frozen=True, slots=True)
class Outcome:
    """What follows from a message: answer first, then start the joins and stop what was left, then say goodbye.

    join, leave  symbols and patterns
    resume       an answer that waits for whether everything since `position` can be had
    """

    replies: tuple[Reply, ...] = ()
    join: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()
    goodbye: Goodbye | None = None
    resume: Resumed | None = None
    position: Position | None = None


def is_pattern(symbol: str) -> bool:
    """Whether this stands for all symbols that begin with what is before its `*`."""
    return symbol.endswith("*")
