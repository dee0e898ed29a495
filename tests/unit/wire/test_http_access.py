"""What headers say about who asks."""

from __future__ import annotations

import pytest

from marketfeed.domain.access import AccessDenied, Denial
from marketfeed.wire.http_access import (
    bearer_token,
    challenge,
    cors_headers,
    origin_allowed,
    preflight_headers,
    see_origin,
)


def test_a_token_is_what_follows_bearer() -> None:
    """No header is no token; another scheme is a mistake that is told."""
    assert bearer_token({}) is None
    assert bearer_token({"Authorization": "Bearer  abc "}) == "abc"
    assert bearer_token({"Authorization": "bearer abc"}) == "abc"
    with pytest.raises(AccessDenied) as caught:
        bearer_token({"Authorization": "Basic abc"})
    assert caught.value.denial is Denial.MALFORMED


def test_pages_of_other_origins_are_let_in_by_name() -> None:
    """Programs and our own pages need no name; what is no URL is nobody's."""
    assert origin_allowed({"Host": "a:1"}, frozenset())
    assert origin_allowed({"Host": "a:1", "Origin": "http://a:1"}, frozenset())
    assert not origin_allowed({"Host": "a:1", "Origin": "http://["}, frozenset())
    see_origin({"Origin": "https://x"}, ("https://x",))
    see_origin({"Origin": "https://y"}, ("*",))
    with pytest.raises(AccessDenied):
        see_origin({"Origin": "https://y", "Host": "a"}, ("https://x",))


def test_a_preflight_tells_of_methods_only_to_pages_that_may() -> None:
    """An answer depends on the origin, which caches are told."""
    asked = preflight_headers("https://x", ("https://x",), "POST", "Authorization")
    assert asked["Access-Control-Allow-Origin"] == "https://x"
    assert asked["Access-Control-Allow-Methods"] == "POST"
    assert preflight_headers("https://y", ("https://x",), "POST", "Authorization") == {"Vary": "Origin"}
    assert cors_headers("https://y", ()) == {}


def test_a_challenge_names_the_scheme() -> None:
    """RFC 6750: an error only where a token was shown; none where no other token would help."""
    assert challenge(AccessDenied(Denial.REQUIRED, "x")) == {"WWW-Authenticate": "Bearer"}
    assert "invalid_token" in challenge(AccessDenied(Denial.EXPIRED, "x"))["WWW-Authenticate"]
    assert challenge(AccessDenied(Denial.FORBIDDEN, "x")) == {}
