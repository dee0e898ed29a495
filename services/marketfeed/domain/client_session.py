"""What one WebSocket client may do and has asked for: a pure state machine.

Commands and the time go in; replies, symbols to join and a goodbye come out. It sends nothing and reads no clock, so
every rule of the protocol (docs/websocket.md) can be tested without a socket.

Rules
- A bad message is answered and the connection goes on; only abuse ends it: `BAD_MESSAGES_MAX` bad messages, or
  `RATE_STRIKES_MAX` messages beyond the rate.
- Subscribing never fails as a whole: every symbol has its own status in the answer.
- A client is slow when its socket holds more than the bound and takes nothing for `stall_s`, or not enough to get
  below the bound for `BEHIND_S_MAX`, as all that changes meanwhile is remembered for it. Until then it only gets fewer,
  newer messages.
"""

from __future__ import annotations

import enum
import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from marketfeed.domain.errors import ClientError

QUOTES = "quotes"
BARS = "bars_1s"
CHANNELS = (QUOTES, BARS)

BAD_MESSAGES_MAX = 100
RATE_STRIKES_MAX = 100
BEHIND_S_MAX = 60.0

_SYMBOL = re.compile(r"[\x21-\x7e]{1,64}")

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


@dataclass(frozen=True, slots=True)
class Auth:
    """The client shows its token."""

    id: MessageId
    token: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    """The client wants symbols. None means the server's default; `wait` accepts symbols that are not known yet."""

    id: MessageId
    symbols: tuple[str, ...]
    channels: tuple[str, ...] | None = None
    interval_ms: int | None = None
    from_s: int | None = None
    wait: bool = False


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """The client wants no more of these symbols."""

    id: MessageId
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ping:
    """The client measures the way there and back."""

    id: MessageId


Command = Auth | Subscribe | Unsubscribe | Ping


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Answer to `Auth`."""

    id: MessageId


@dataclass(frozen=True, slots=True)
class Subscribed:
    """Answer to `Subscribe`: each symbol's fate and what is in force."""

    id: MessageId
    symbols: dict[str, SymbolStatus]
    channels: tuple[str, ...]
    interval_ms: int


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """Answer to `Unsubscribe`."""

    id: MessageId
    symbols: dict[str, SymbolStatus]


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


Reply = Authenticated | Subscribed | Unsubscribed | Pong | Problem


@dataclass(frozen=True, slots=True)
class Goodbye:
    """End the connection with this code."""

    code: CloseCode
    reason: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client wants of one symbol: channels, and bars from this second on (None: the trade date's start)."""

    channels: tuple[str, ...]
    from_s: int | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What follows from a message: answer first, then start the joins and stop what was left, then say goodbye."""

    replies: tuple[Reply, ...] = ()
    join: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()
    goodbye: Goodbye | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one connection; `token` None means that everybody may read."""

    symbols_max: int = 500
    messages_per_s: int = 20
    message_bytes_max: int = 16 * 1024
    interval_ms_default: int = 50
    interval_ms_min: int = 50
    interval_ms_max: int = 60_000
    buffer_bytes_max: int = 256 * 1024
    stall_s: float = 10.0
    auth_s: float = 10.0
    token: str | None = None


@dataclass(slots=True)
class ClientSession:
    """One client. `wishes` holds what is subscribed or pending, in the order of subscription."""

    limits: Limits
    is_known: Callable[[str], bool]
    any_known: Callable[[], bool]
    started_s: float
    wishes: dict[str, Wish] = field(default_factory=dict)
    interval_ms: int = 0
    authenticated: bool = False
    _allowance: float = 0.0
    _allowance_at_s: float = 0.0
    _strikes: int = 0
    _bad_messages: int = 0
    _progress_s: float = 0.0
    _served_s: float = 0.0
    _buffered: int = 0

    def __post_init__(self) -> None:
        self.interval_ms = self.limits.interval_ms_default
        self.authenticated = self.limits.token is None
        self._allowance = float(self.limits.messages_per_s)
        self._allowance_at_s = self._progress_s = self._served_s = self.started_s

    def admit(self, now_s: float) -> Outcome | None:
        """Count one message against the rate; None lets it pass. Up to one second's worth may come at once."""
        rate = float(self.limits.messages_per_s)
        self._allowance = min(rate, self._allowance + (now_s - self._allowance_at_s) * rate)
        self._allowance_at_s = now_s
        if self._allowance >= 1.0:
            self._allowance -= 1.0
            return None
        self._strikes += 1
        if self._strikes >= RATE_STRIKES_MAX:
            return Outcome(goodbye=Goodbye(CloseCode.RATE_LIMITED, "too many messages"))
        problem = Problem(None, "rate_limited", f"at most {self.limits.messages_per_s} messages a second; not obeyed")
        return Outcome((problem,))

    def reject(self, error: ClientError, message_id: MessageId = None) -> Outcome:
        """Answer a message that cannot be obeyed; the hundredth one ends the connection."""
        self._bad_messages += 1
        goodbye = None
        if error.fatal or self._bad_messages >= BAD_MESSAGES_MAX:
            code = CloseCode.NOT_AUTHENTICATED if error.code.startswith("auth") else CloseCode.BAD_CLIENT
            goodbye = Goodbye(code, error.message)
        return Outcome((Problem(message_id, error.code, error.message),), goodbye=goodbye)

    def handle(self, command: Command) -> Outcome:
        """Obey a command."""
        match command:
            case Auth():
                return self._authenticate(command)
            case _ if not self.authenticated:
                return self.reject(ClientError("auth_required", "send auth first", fatal=True), command.id)
            case Subscribe():
                return self._subscribe(command)
            case Unsubscribe():
                return self._unsubscribe(command)
            case Ping():
                return Outcome((Pong(command.id),))

    def appeared(self, symbol: str) -> bool:
        """Whether this client waits for a symbol that is known from now on."""
        return symbol in self.wishes

    def overdue(self, now_s: float) -> Goodbye | None:
        """A goodbye for whoever does not authenticate in time."""
        if not self.authenticated and now_s - self.started_s > self.limits.auth_s:
            return Goodbye(CloseCode.NOT_AUTHENTICATED, f"no auth within {self.limits.auth_s:g} s")
        return None

    def may_send(self, now_s: float, buffered_bytes: int) -> bool:
        """Whether the client takes data: its socket holds no more than the bound. Also notes its progress."""
        serves = buffered_bytes <= self.limits.buffer_bytes_max
        if serves:
            self._served_s = now_s
        if serves or buffered_bytes < self._buffered:
            self._progress_s = now_s
        self._buffered = buffered_bytes
        return serves

    def stalled(self, now_s: float) -> Goodbye | None:
        """A goodbye for whoever took nothing, or too little, for too long; call after `may_send` said no."""
        if now_s - self._progress_s > self.limits.stall_s:
            return Goodbye(CloseCode.SLOW_CLIENT, f"took nothing for {self.limits.stall_s:g} s")
        if now_s - self._served_s > BEHIND_S_MAX:
            return Goodbye(CloseCode.SLOW_CLIENT, f"took too little for {BEHIND_S_MAX:g} s")
        return None

    def _authenticate(self, command: Auth) -> Outcome:
        wanted = self.limits.token
        if wanted is not None and not hmac.compare_digest(command.token.encode(), wanted.encode()):
            return self.reject(ClientError("auth_failed", "this token is not valid here", fatal=True), command.id)
        self.authenticated = True
        return Outcome((Authenticated(command.id),))

    def _subscribe(self, command: Subscribe) -> Outcome:
        channels = CHANNELS if command.channels is None else command.channels
        unknown = [channel for channel in channels if channel not in CHANNELS]
        if unknown or not channels:
            what = f"{unknown[0]!r} is no channel" if unknown else "no channel given"
            error = ClientError("unknown_channel", f"{what}; there are {', '.join(CHANNELS)}")
            return self.reject(error, command.id)
        if command.interval_ms is not None:
            self.interval_ms = self._effective_interval(command.interval_ms)
        wish = Wish(tuple(c for c in CHANNELS if c in channels), command.from_s)
        statuses = {symbol: self._admit_symbol(symbol, wish, command.wait) for symbol in command.symbols}
        join = tuple(symbol for symbol, status in statuses.items() if status is SymbolStatus.OK)
        return Outcome((Subscribed(command.id, statuses, wish.channels, self.interval_ms),), join)

    def _admit_symbol(self, symbol: str, wish: Wish, wait: bool) -> SymbolStatus:
        known = self.is_known(symbol)
        if not known and (not _SYMBOL.fullmatch(symbol) or (self.any_known() and not wait)):
            return SymbolStatus.UNKNOWN
        if symbol not in self.wishes and len(self.wishes) >= self.limits.symbols_max:
            return SymbolStatus.LIMIT
        self.wishes[symbol] = wish
        return SymbolStatus.OK if known else SymbolStatus.PENDING

    def _unsubscribe(self, command: Unsubscribe) -> Outcome:
        left = tuple(s for s in dict.fromkeys(command.symbols) if self.wishes.pop(s, None) is not None)
        gone = set(left)
        statuses = {s: SymbolStatus.OK if s in gone else SymbolStatus.NOT_SUBSCRIBED for s in command.symbols}
        return Outcome((Unsubscribed(command.id, statuses),), leave=left)

    def _effective_interval(self, wanted_ms: int) -> int:
        """The next multiple of the tick (the smallest interval), inside the bounds."""
        tick = self.limits.interval_ms_min
        ticks = max(1, -(-wanted_ms // tick))
        return min(ticks, self.limits.interval_ms_max // tick) * tick


def symbols_of(names: Sequence[str]) -> tuple[str, ...]:
    """Symbols of a request, each once, in their order."""
    return tuple(dict.fromkeys(names))
