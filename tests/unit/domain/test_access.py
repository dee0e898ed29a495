"""Who may have what, from a token's claims alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketfeed.domain.access import (
    OPEN,
    SHARED,
    AccessDenied,
    Denial,
    Patterns,
    Principal,
    Seats,
    granted,
    principal_of_claims,
)

QUOTE = "/marketfeed.v1.MarketData/GetQuote"
SUBMIT = "/marketfeed.v1.Orders/SubmitOrder"


def claims(mf: object = None, **more: object) -> dict[str, object]:
    return {"sub": "alice", "exp": 1000, **({} if mf is None else {"mf": mf}), **more}


def test_a_token_without_our_claim_grants_nothing() -> None:
    """Who it is is known; what it may see was never said."""
    found = principal_of_claims(claims())
    assert (found.subject, found.expires_s) == ("alice", 1000.0)
    assert not found.may_see("AAPL")
    assert not found.may_wildcard()
    assert found.may_call(QUOTE)
    assert not found.may_call(SUBMIT)


def test_symbols_are_exact_or_beginnings() -> None:
    """A beginning covers what begins so, also a wildcard as narrow as itself or narrower."""
    found = principal_of_claims(claims({"symbols": ["AAPL", "BINANCE:*"]}))
    assert [found.may_see(s) for s in ("AAPL", "AAPLX", "BINANCE:BTCUSDT", "BINANCE", "MSFT")] == [
        True, False, True, False, False,
    ]  # fmt: skip
    assert [found.may_wildcard(p) for p in ("*", "BINANCE:*", "BINANCE:BTC*", "BIN*", "AAPL", "AAPL*")] == [
        False, True, True, False, True, False,
    ]  # fmt: skip


def test_channels_narrow_what_may_be_had() -> None:
    """Without the claim every channel of the symbols."""
    some = principal_of_claims(claims({"symbols": ["*"], "channels": ["quotes"]}))
    assert (some.may_subscribe("AAPL", "quotes"), some.may_subscribe("AAPL", "trades")) == (True, False)
    every = principal_of_claims(claims({"symbols": ["A*"]}))
    assert (every.may_subscribe("AAPL", "trades"), every.may_subscribe("MSFT", "trades")) == (True, False)


def test_methods_follow_from_orders_or_are_named() -> None:
    """`orders` adds the service of orders; `methods` says it all, whatever `orders` says."""
    trader = principal_of_claims(claims({"orders": True}))
    assert trader.may_call(QUOTE)
    assert trader.may_call(SUBMIT)
    watcher = principal_of_claims(claims({"orders": True, "methods": ["Orders/GetOrder"]}))
    assert [watcher.may_call(m) for m in (QUOTE, SUBMIT, "/marketfeed.v1.Orders/GetOrder")] == [False, False, True]
    assert not trader.may_call("/grpc.health.v1.Health/Check")


def test_the_shared_token_reads_everything_and_trades_nothing() -> None:
    """An open server grants both."""
    assert SHARED.may_wildcard()
    assert SHARED.may_subscribe("X", "trades")
    assert (SHARED.may_call(QUOTE), SHARED.may_call(SUBMIT)) == (True, False)
    assert (OPEN.may_call(QUOTE), OPEN.may_call(SUBMIT), OPEN.left_s(0.0)) == (True, True, None)


WRONG: dict[str, dict[str, Any]] = {
    "no sub": {"sub": None},
    "sub is a number": {"sub": 7},
    "sub is empty": {"sub": ""},
    "sub is endless": {"sub": "a" * 256},
    "sub cannot be printed": {"sub": "a\nb"},
    "no exp": {"exp": None},
    "exp is a text": {"exp": "1000"},
    "exp is true": {"exp": True},
    "exp is no number": {"exp": float("nan")},
    "exp is never": {"exp": float("inf")},
    "mf is a list": {"mf": ["*"]},
    "mf is a text": {"mf": "*"},
    "symbols is a text": {"mf": {"symbols": "AAPL"}},
    "symbols has a number": {"mf": {"symbols": [7]}},
    "symbols has an empty text": {"mf": {"symbols": [""]}},
    "symbols has a star inside": {"mf": {"symbols": ["A*L"]}},
    "symbols has two stars": {"mf": {"symbols": ["**"]}},
    "too many symbols": {"mf": {"symbols": ["A"] * 2001}},
    "a symbol is too long": {"mf": {"symbols": ["A" * 129]}},
    "channels is true": {"mf": {"channels": True}},
    "methods is an object": {"mf": {"methods": {"a": 1}}},
    "orders is a text": {"mf": {"orders": "yes"}},
    "connections is true": {"mf": {"connections": True}},
    "connections is negative": {"mf": {"connections": -1}},
    "connections is a fraction": {"mf": {"connections": 1.5}},
    "symbols_max is a text": {"mf": {"symbols_max": "9"}},
}


@pytest.mark.parametrize("name", WRONG)
def test_claims_of_a_wrong_shape_are_refused_by_name(name: str) -> None:
    """One code, and a sentence that names the claim."""
    (claim,) = WRONG[name]
    with pytest.raises(AccessDenied, match=f"the token's {claim}") as denied:
        principal_of_claims(claims(**WRONG[name]))
    assert denied.value.denial is Denial.CLAIMS
    assert denied.value.fatal


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)
_grant = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("symbols", "channels", "methods", "orders", "connections", "symbols_max"), _values)
)


@given(sub=_values, exp=_values, mf=_grant | _values)
def test_any_claims_make_a_principal_or_a_denial(sub: object, exp: object, mf: object) -> None:
    """Whatever an issuer signs, nothing else is raised."""
    try:
        found = principal_of_claims({"sub": sub, "exp": exp, "mf": mf})
    except AccessDenied:
        return
    found.may_see("AAPL")
    found.may_wildcard()
    assert found.left_s(0.0) is not None


@given(st.lists(st.sampled_from(["A", "AB", "B", "A*", "AB*", "*"])), st.sampled_from(["A*", "AB*", "*", "B"]))
def test_a_covered_pattern_never_means_more_than_is_allowed(granted_texts: list[str], pattern: str) -> None:
    """Whatever name a wildcard stands for is itself allowed."""
    patterns = Patterns.of(granted_texts)
    if patterns.cover(pattern):
        asked = Patterns.of([pattern])
        names = ["A", "AB", "ABC", "B", "BC", ""]
        assert all(patterns.allow(name) for name in names if asked.allow(name))


def test_seats_are_counted_by_subject() -> None:
    """The bound is the principal's own or the server's; a seat that is left can be taken, and nothing is kept of it."""
    seats = Seats(2)
    alice, bob = Principal("alice"), granted("bob", {"connections": 1})
    seats.take(alice)
    seats.take(alice)
    seats.take(bob)
    for full, said in ((alice, "alice has 2"), (bob, "bob has 1")):
        with pytest.raises(AccessDenied, match=said) as denied:
            seats.take(full)
        assert denied.value.denial is Denial.CONNECTIONS
    seats.leave(alice)
    seats.take(alice)
    for _ in range(2):
        seats.leave(alice)
    seats.leave(bob)
    assert (seats.taken("alice"), seats.taken("bob")) == (0, 0)
    assert not seats._taken


def test_an_open_server_counts_nobody() -> None:
    """Everybody is the same subject there."""
    seats = Seats(0)
    seats.take(OPEN)
    seats.leave(OPEN)
    with pytest.raises(AccessDenied):
        seats.take(granted("nobody", {"connections": 0}))
    assert not seats._taken


def test_time_left_counts_the_leeway() -> None:
    """Negative once it is over."""
    found = principal_of_claims(claims())
    assert found.left_s(990.0, 5.0) == 15.0
    assert found.left_s(1010.0) == -10.0
