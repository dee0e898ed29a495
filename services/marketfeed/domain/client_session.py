"""What one WebSocket client may do and has asked for: a pure state machine.

Commands and the time go in; replies, symbols to join and a goodbye come out. It sends nothing and reads no clock, so
every rule of the protocol (docs/websocket.md) can be tested without a socket.

Rules
- A bad message is answered and the connection goes on; only abuse ends it: `BAD_MESSAGES_MAX` bad messages, or
  `RATE_STRIKES_MAX` messages beyond the rate.
- Subscribing never fails as a whole: every symbol has its own status in the answer.
- A pattern (`*`, `BINANCE:*`) stands for all symbols that begin so, those to come included, and only for whoever may
  have all of them. What was said of a symbol itself goes before what was said of a pattern, an older pattern before a
  newer one.
- A connection has one place in the tape: a resume that asks for trades comes before anything else that does.
- A token is the first message where one is asked for. Another one of the same subject may follow at any time and counts
  from then on; a client that shows none before the old one ends has to go.
- A client is slow when its socket holds more than the bound and takes nothing for `stall_s`, or not enough to get
  below the bound for `BEHIND_S_MAX`, as all that changes meanwhile is remembered for it. Until then it only gets fewer,
  newer messages.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from marketfeed.domain.access import AccessDenied, Denial, Principal
from marketfeed.domain.client_messages import (
    CHANNELS,
    DEFAULT_CHANNELS,
    TRADES,
    Auth,
    Authenticated,
    CloseCode,
    Command,
    Goodbye,
    InForce,
    MessageId,
    Outcome,
    Ping,
    Pong,
    Problem,
    Resume,
    Resumed,
    Set,
    Subscribe,
    Subscribed,
    SymbolStatus,
    Unsubscribe,
    Unsubscribed,
    Wish,
    is_pattern,
)
from marketfeed.domain.errors import ClientError
from marketfeed.domain.position import Position

# The reason of a close with NOT_AUTHENTICATED by which a client knows that a fresh token is all that it takes.
EXPIRED = "token expired"

BAD_MESSAGES_MAX = 100
RATE_STRIKES_MAX = 100
BEHIND_S_MAX = 60.0

_SYMBOL = re.compile(r"[\x21-\x7e]{1,64}")


@dataclass(frozen=True, slots=True)
class Admission:
    """Somebody is let in, for `left_s` seconds from now on (None: for ever)."""

    principal: Principal
    left_s: float | None = None


def nobody(_: str) -> Admission:
    """Lets nobody in."""
    raise AccessDenied(Denial.FAILED, "this token is not valid here")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one connection."""

    symbols_max: int = 500
    messages_per_s: int = 20
    message_bytes_max: int = 16 * 1024
    interval_ms_default: int = 50
    interval_ms_min: int = 50
    interval_ms_max: int = 60_000
    buffer_bytes_max: int = 256 * 1024
    stall_s: float = 10.0
    auth_s: float = 10.0


@dataclass(slots=True)
class ClientSession:
    """One client. `wishes` holds what is subscribed or pending, in the order of subscription.

    principal  who it is; None until a token was shown. Where none is asked for it is there from the start.
    admit_by   who shows a token; raises AccessDenied
    """

    limits: Limits
    is_known: Callable[[str], bool]
    any_known: Callable[[], bool]
    started_s: float
    principal: Principal | None = None
    admit_by: Callable[[str], Admission] = nobody
    wishes: dict[str, Wish] = field(default_factory=dict)
    interval_ms: int = 0
    _patterns: tuple[str, ...] = ()
    _leaves_s: float | None = None
    _allowance: float = 0.0
    _allowance_at_s: float = 0.0
    _strikes: int = 0
    _bad_messages: int = 0
    _progress_s: float = 0.0
    _served_s: float = 0.0
    _buffered: int = 0

    def __post_init__(self) -> None:
        self.interval_ms = self.limits.interval_ms_default
        self._allowance = float(self.limits.messages_per_s)
        self._allowance_at_s = self._progress_s = self._served_s = self.started_s

    @property
    def authenticated(self) -> bool:
        """Whether it is known who this is."""
        return self.principal is not None

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
            goodbye = Goodbye(_close_code(error), error.message)
        return Outcome((Problem(message_id, error.code, error.message),), goodbye=goodbye)

    def handle(self, command: Command) -> Outcome:
        """Obey a command."""
        match command:
            case Auth():
                return self._authenticate(command)
            case _ if self.principal is None:
                return self.reject(AccessDenied(Denial.REQUIRED, "send auth first"), command.id)
            case Subscribe():
                return self._subscribe(command, self.principal)
            case Resume():
                return self._resume(command, self.principal)
            case Unsubscribe():
                return self._unsubscribe(command)
            case Set():
                self.interval_ms = self._effective_interval(command.interval_ms)
                return Outcome((InForce(command.id, self.interval_ms),))
            case Ping():
                return Outcome((Pong(command.id),))

    def appeared(self, symbol: str) -> bool:
        """Whether this client waits for a symbol that is known from now on."""
        return self.wish_of(symbol) is not None

    def wish_of(self, symbol: str) -> Wish | None:
        """What the client wants of a symbol: said of itself, else of a pattern."""
        found = self.wishes.get(symbol)
        if found is not None or not self.patterns:
            return found
        pattern = next((p for p in self.patterns if symbol.startswith(p[:-1])), None)
        return None if pattern is None else self.wishes[pattern]

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns among the wishes, in the order in which they came."""
        return self._patterns

    def overdue(self, now_s: float) -> Goodbye | None:
        """A goodbye for whoever does not authenticate in time, or not again before its token ends."""
        if self.principal is None and now_s - self.started_s > self.limits.auth_s:
            return Goodbye(CloseCode.NOT_AUTHENTICATED, f"no auth within {self.limits.auth_s:g} s")
        if self._leaves_s is not None and now_s >= self._leaves_s:
            return Goodbye(CloseCode.NOT_AUTHENTICATED, EXPIRED)
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

    def took_all(self, at_s: float) -> None:
        """That its socket was empty at an instant, as `may_send` would have noted; an older one is no news."""
        if at_s > self._served_s:
            self._served_s = self._progress_s = at_s
            self._buffered = 0

    def stalled(self, now_s: float) -> Goodbye | None:
        """A goodbye for whoever took nothing, or too little, for too long; call after `may_send` said no."""
        if now_s - self._progress_s > self.limits.stall_s:
            return Goodbye(CloseCode.SLOW_CLIENT, f"took nothing for {self.limits.stall_s:g} s")
        if now_s - self._served_s > BEHIND_S_MAX:
            return Goodbye(CloseCode.SLOW_CLIENT, f"took too little for {BEHIND_S_MAX:g} s")
        return None

    def _authenticate(self, command: Auth) -> Outcome:
        try:
            admission = self.admit_by(command.token)
            principal = admission.principal
            if self.principal is not None and self.principal.subject != principal.subject:
                raise AccessDenied(Denial.SUBJECT, "this token is of somebody else; connect anew with it")
        except AccessDenied as denied:
            return self.reject(denied, command.id)
        self.principal = principal
        # The message was let in just now, so its instant is that of the last look at the allowance.
        self._leaves_s = None if admission.left_s is None else self._allowance_at_s + admission.left_s
        lost = tuple(symbol for symbol, wish in self.wishes.items() if not _permitted(principal, symbol, wish.channels))
        for symbol in lost:
            self._forget(symbol)
        answer = Authenticated(command.id, principal.subject, principal.expires_s)
        told = (Unsubscribed(None, dict.fromkeys(lost, SymbolStatus.FORBIDDEN)),) if lost else ()
        return Outcome((answer, *told), leave=lost)

    def _subscribe(self, command: Subscribe, principal: Principal) -> Outcome:
        try:
            channels = _channels(command.channels, principal)
        except ClientError as error:
            return self.reject(error, command.id)
        wish = Wish(channels, command.from_s, command.emission)
        statuses = self._admit_symbols(command.symbols, wish, command.wait, principal)
        self._take_interval(command.interval_ms)
        answer = Subscribed(command.id, statuses, channels, self.interval_ms, command.emission)
        return Outcome((answer,), _joining(statuses))

    def _resume(self, command: Resume, principal: Principal) -> Outcome:
        try:
            channels = _channels(command.channels, principal)
            position = _position(command.position)
            if any(symbol in self.wishes for symbol in command.symbols):
                raise ClientError("resume_late", "a symbol that is subscribed already cannot be resumed")
            if TRADES in channels and any(TRADES in wish.channels for wish in self.wishes.values()):
                raise ClientError("resume_late", "trades are resumed before any others are subscribed")
        except ClientError as error:
            return self.reject(error, command.id)
        wish = Wish(channels, None, command.emission)
        statuses = self._admit_symbols(command.symbols, wish, wait=True, principal=principal)
        self._take_interval(command.interval_ms)
        answer = Resumed(command.id, False, statuses, channels, self.interval_ms, command.emission)
        return Outcome(join=_joining(statuses), resume=answer, position=position)

    def _admit_symbols(
        self, symbols: tuple[str, ...], wish: Wish, wait: bool, principal: Principal
    ) -> dict[str, SymbolStatus]:
        statuses = {symbol: self._admit_symbol(symbol, wish, wait, principal) for symbol in symbols}
        self._patterns = tuple(symbol for symbol in self.wishes if is_pattern(symbol))
        return statuses

    def _admit_symbol(self, symbol: str, wish: Wish, wait: bool, principal: Principal) -> SymbolStatus:
        if not _may_see(principal, symbol):
            return SymbolStatus.FORBIDDEN
        known = is_pattern(symbol) or self.is_known(symbol)
        if not _SYMBOL.fullmatch(symbol) or (not known and self.any_known() and not wait):
            return SymbolStatus.UNKNOWN
        symbols_max = self.limits.symbols_max
        if principal.symbols_max is not None:
            symbols_max = min(symbols_max, principal.symbols_max)
        if symbol not in self.wishes and len(self.wishes) >= symbols_max:
            return SymbolStatus.LIMIT
        self.wishes[symbol] = wish
        return SymbolStatus.OK if known else SymbolStatus.PENDING

    def _unsubscribe(self, command: Unsubscribe) -> Outcome:
        left = tuple(s for s in dict.fromkeys(command.symbols) if self._forget(s))
        gone = set(left)
        statuses = {s: SymbolStatus.OK if s in gone else SymbolStatus.NOT_SUBSCRIBED for s in command.symbols}
        return Outcome((Unsubscribed(command.id, statuses),), leave=left)

    def _forget(self, symbol: str) -> bool:
        """Want no more of a symbol or pattern; whether it was wanted."""
        self._patterns = tuple(pattern for pattern in self._patterns if pattern != symbol)
        return self.wishes.pop(symbol, None) is not None

    def _take_interval(self, wanted_ms: int | None) -> None:
        if wanted_ms is not None:
            self.interval_ms = self._effective_interval(wanted_ms)

    def _effective_interval(self, wanted_ms: int) -> int:
        """The next multiple of the tick (the smallest interval), inside the bounds."""
        tick = self.limits.interval_ms_min
        ticks = max(1, -(-wanted_ms // tick))
        return min(ticks, self.limits.interval_ms_max // tick) * tick


def _close_code(error: ClientError) -> CloseCode:
    """By which code an error ends the connection."""
    if not isinstance(error, AccessDenied):
        return CloseCode.BAD_CLIENT
    full = error.denial is Denial.CONNECTIONS
    return CloseCode.TOO_MANY_CONNECTIONS if full else CloseCode.NOT_AUTHENTICATED


def _may_see(principal: Principal, symbol: str) -> bool:
    return principal.may_wildcard(symbol) if is_pattern(symbol) else principal.may_see(symbol)


def _permitted(principal: Principal, symbol: str, channels: tuple[str, ...]) -> bool:
    return _may_see(principal, symbol) and all(principal.channels.allow(channel) for channel in channels)


def _channels(asked: tuple[str, ...] | None, principal: Principal) -> tuple[str, ...]:
    """What a request asks for, in the order of CHANNELS; without a word the usual ones that the client may have.

    Raises ClientError.
    """
    if asked is None:
        asked = tuple(channel for channel in DEFAULT_CHANNELS if principal.channels.allow(channel)) or DEFAULT_CHANNELS
    unknown = [channel for channel in asked if channel not in CHANNELS]
    if unknown or not asked:
        what = f"{unknown[0][:32]!r} is no channel" if unknown else "no channel given"
        raise ClientError("unknown_channel", f"{what}; there are {', '.join(CHANNELS)}")
    forbidden = [channel for channel in asked if not principal.channels.allow(channel)]
    if forbidden:
        raise ClientError("forbidden_channel", f"your token does not grant {forbidden[0]}")
    return tuple(channel for channel in CHANNELS if channel in asked)


def _position(text: str) -> Position:
    """Raises ClientError for what is no position."""
    try:
        return Position.parse(text)
    except ValueError as error:
        raise ClientError("bad_position", "this is no position of ours") from error


def _joining(statuses: dict[str, SymbolStatus]) -> tuple[str, ...]:
    return tuple(symbol for symbol, status in statuses.items() if status is SymbolStatus.OK)
