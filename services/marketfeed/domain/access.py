"""Who a client is and what it may have: the principal, read from a token's claims. Pure; docs/access.md tells of it.

A token grants what it says and nothing else: without `mf.symbols` no symbol may be seen, without `mf.orders` no order
may be sent. Whether a token is genuine is decided before (`adapters/tokens.py`).
"""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from marketfeed.domain.errors import ClientError

# The claim that holds our permissions, an object.
OURS = "mf"
ANY = "*"
SERVICES = "/marketfeed.v1."
MARKET_DATA_METHODS = "MarketData/*"
ORDER_METHODS = "Orders/*"
OPEN_SUBJECT = "anonymous"
TOKEN_SUBJECT = "client-token"
SUBJECT_LENGTH_MAX = 255
PATTERNS_MAX = 2_000
PATTERN_LENGTH_MAX = 128


class Denial(enum.StrEnum):
    """Why nobody was let in, or not to this: codes of the public interface. gRPC says them in capitals."""

    REQUIRED = "auth_required"
    FAILED = "auth_failed"
    TOO_LONG = "auth_too_long"
    MALFORMED = "auth_malformed"
    ALGORITHM = "auth_algorithm"
    KEY = "auth_key"
    SIGNATURE = "auth_signature"
    EXPIRED = "auth_expired"
    EARLY = "auth_early"
    AUDIENCE = "auth_audience"
    ISSUER = "auth_issuer"
    CLAIMS = "auth_claims"
    SUBJECT = "auth_subject"
    FORBIDDEN = "forbidden"
    FORBIDDEN_ORIGIN = "forbidden_origin"
    CONNECTIONS = "too_many_connections"


class AccessDenied(ClientError):
    """Nobody is let in by this. `denial` says why, `message` what to do; a connection ends with it."""

    def __init__(self, denial: Denial, message: str) -> None:
        super().__init__(denial.value, message, fatal=True)
        self.denial = denial


@dataclass(frozen=True, slots=True)
class Patterns:
    """Names, each given exactly or as a beginning followed by `*`."""

    exact: frozenset[str] = frozenset()
    beginnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, texts: Iterable[str]) -> Patterns:
        """From their texts."""
        given = tuple(dict.fromkeys(texts))
        beginnings = tuple(text[:-1] for text in given if text.endswith(ANY))
        return cls(frozenset(text for text in given if not text.endswith(ANY)), beginnings)

    def allow(self, name: str) -> bool:
        """Whether a name is one of them."""
        return name in self.exact or name.startswith(self.beginnings)

    def cover(self, pattern: str) -> bool:
        """Whether all names that a pattern could ever mean are among them."""
        return pattern[:-1].startswith(self.beginnings) if pattern.endswith(ANY) else self.allow(pattern)


EVERYTHING = Patterns.of((ANY,))


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who was let in.

    subject          who it is; limits are counted by it
    symbols          what it may see
    channels         in which ways
    methods          calls of gRPC, as Service/Method
    expires_s        Unix seconds at which it has to leave, None for never
    connections_max  WebSockets and gRPC streams at a time on one server, None for the server's own bound
    symbols_max      symbols of one connection, None for the server's own bound, which holds in any case
    """

    subject: str
    symbols: Patterns = field(default_factory=Patterns)
    channels: Patterns = EVERYTHING
    methods: Patterns = field(default_factory=Patterns)
    expires_s: float | None = None
    connections_max: int | None = None
    symbols_max: int | None = None

    def may_see(self, symbol: str) -> bool:
        """Whether anything of this symbol may be had."""
        return self.symbols.allow(symbol)

    def may_subscribe(self, symbol: str, channel: str) -> bool:
        """Whether a symbol may be had by a channel."""
        return self.symbols.allow(symbol) and self.channels.allow(channel)

    def may_wildcard(self, pattern: str = ANY) -> bool:
        """Whether all symbols of a pattern may be had, those to come included."""
        return self.symbols.cover(pattern)

    def may_call(self, method: str) -> bool:
        """Whether a method may be called: /marketfeed.v1.Service/Method or Service/Method."""
        return self.methods.allow(method.removeprefix(SERVICES))

    def left_s(self, now_s: float, leeway_s: float = 0.0) -> float | None:
        """Seconds until it has to leave, by the Unix time; None for never."""
        return None if self.expires_s is None else self.expires_s + leeway_s - now_s


OPEN = Principal(OPEN_SUBJECT, symbols=EVERYTHING, methods=EVERYTHING)
# Whoever holds the one token that all clients share may read everything and trade nothing.
SHARED = Principal(TOKEN_SUBJECT, symbols=EVERYTHING, methods=Patterns.of((MARKET_DATA_METHODS,)))


class Gate(Protocol):
    """Decides who is let in."""

    @property
    def open(self) -> bool:
        """Whether everybody is."""

    @property
    def leeway_s(self) -> float:
        """How long after its end a token still holds, as clocks differ."""

    def admit(self, token: str | None) -> Principal:
        """Who shows this. Raises AccessDenied."""

    def certified(self, names: Iterable[str]) -> Principal:
        """Who shows a client certificate with these names, by which its issuer vouches for it. Raises AccessDenied."""


def principal_of_claims(claims: Mapping[str, object]) -> Principal:
    """The principal of a token whose signature, issuer, audience and times hold. Raises AccessDenied."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_LENGTH_MAX or not subject.isprintable():
        raise _wrong("sub", f"must be a printable text of 1 to {SUBJECT_LENGTH_MAX} characters")
    expires_s = claims.get("exp")
    if isinstance(expires_s, bool) or not isinstance(expires_s, int | float) or not math.isfinite(expires_s):
        raise _wrong("exp", "must be a number of Unix seconds")
    return granted(subject, claims.get(OURS, {}), float(expires_s))


def granted(subject: str, grant: object, expires_s: float | None = None) -> Principal:
    """Somebody with what an `mf` object grants. Raises AccessDenied."""
    if not isinstance(grant, Mapping):
        raise _wrong(OURS, "must be an object")
    methods = (MARKET_DATA_METHODS, ORDER_METHODS) if _flag(grant, "orders") else (MARKET_DATA_METHODS,)
    return Principal(
        subject,
        symbols=Patterns.of(_texts(grant, "symbols", ())),
        channels=Patterns.of(_texts(grant, "channels", (ANY,))),
        methods=Patterns.of(_texts(grant, "methods", methods)),
        expires_s=expires_s,
        connections_max=_bound(grant, "connections"),
        symbols_max=_bound(grant, "symbols_max"),
    )


def _texts(grant: Mapping[str, object], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    found = grant.get(name)
    if found is None:
        return default
    if not isinstance(found, list | tuple) or len(found) > PATTERNS_MAX:
        raise _wrong(f"{OURS}.{name}", f"must be a list of at most {PATTERNS_MAX} texts")
    for text in found:
        if not isinstance(text, str) or not 0 < len(text) <= PATTERN_LENGTH_MAX or ANY in text[:-1]:
            raise _wrong(f"{OURS}.{name}", f"must hold names, or beginnings that end with {ANY}")
    return tuple(found)


def _flag(grant: Mapping[str, object], name: str) -> bool:
    found = grant.get(name, False)
    if not isinstance(found, bool):
        raise _wrong(f"{OURS}.{name}", "must be true or false")
    return found


def _bound(grant: Mapping[str, object], name: str) -> int | None:
    found = grant.get(name)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= 2**31:
        raise _wrong(f"{OURS}.{name}", "must be a whole number")
    return found


def _wrong(claim: str, problem: str) -> AccessDenied:
    return AccessDenied(Denial.CLAIMS, f"the token's {claim} {problem}")


class Seats:
    """Connections of each principal on this server; those of an open server are counted by nobody."""

    def __init__(self, default_max: int) -> None:
        self._default_max = default_max
        self._taken: Counter[str] = Counter()

    def take(self, principal: Principal) -> None:
        """One more connection. Raises AccessDenied when the principal has as many as it may."""
        if principal is OPEN:
            return
        bound = self._default_max if principal.connections_max is None else principal.connections_max
        if self._taken[principal.subject] >= bound:
            message = f"{principal.subject} has {bound} connections here already; close one, then come back"
            self._forget(principal.subject)
            raise AccessDenied(Denial.CONNECTIONS, message)
        self._taken[principal.subject] += 1

    def leave(self, principal: Principal) -> None:
        """One less."""
        if principal is not OPEN:
            self._taken[principal.subject] -= 1
            self._forget(principal.subject)

    def taken(self, subject: str) -> int:
        """How many there are of a subject."""
        return self._taken.get(subject, 0)

    def _forget(self, subject: str) -> None:
        if self._taken[subject] <= 0:
            del self._taken[subject]
