"""Who a client of /v1/stream is, in virtual time: its token first, its rights, its end, and another token."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from marketfeed.domain import client_messages as cm
from marketfeed.domain import client_session as cs
from marketfeed.domain.access import OPEN, AccessDenied, Denial, granted
from marketfeed.domain.client_messages import CloseCode, Goodbye, Subscribe
from marketfeed.domain.client_messages import SymbolStatus as S
from marketfeed.domain.client_session import Admission, ClientSession, Limits
from marketfeed.domain.errors import ClientError

TOKENS = {
    "alice": granted("alice", {"symbols": ["AAPL", "B*"]}, 1_000.0),
    "alice-more": granted("alice", {"symbols": ["*"]}, 2_000.0),
    "alice-less": granted("alice", {"symbols": ["AAPL"], "channels": ["quotes"]}, 2_000.0),
    "bob": granted("bob", {"symbols": ["*"], "symbols_max": 1}),
}


def admit_at(unix_s: Callable[[], float]) -> Callable[[str], Admission]:
    def admit(token: str) -> Admission:
        if token not in TOKENS:
            raise AccessDenied(Denial.FAILED, "no")
        return Admission(TOKENS[token], TOKENS[token].left_s(unix_s()))

    return admit


def session(now_unix_s: float = 990.0, **limits: object) -> ClientSession:
    """Of a server that asks for a token; its clock shows 100 when the Unix time is 990."""
    bounds = Limits(**limits)  # type: ignore[arg-type]
    return ClientSession(
        bounds, {"AAPL", "BB", "CC"}.__contains__, lambda: True, 100.0, admit_by=admit_at(lambda: now_unix_s)
    )


def say(client: ClientSession, now_s: float, command: cs.Command) -> cm.Outcome:
    assert client.admit(now_s) is None
    return client.handle(command)


def statuses(outcome: cm.Outcome) -> dict[str, S]:
    (reply,) = outcome.replies
    assert isinstance(reply, cm.Subscribed)
    return reply.symbols


@pytest.mark.parametrize("command", [Subscribe(1, ("AAPL",)), cm.Unsubscribe(1, ("AAPL",)), cm.Ping(1)])
def test_anything_before_a_token_ends_the_connection(command: cs.Command) -> None:
    """With a code, a sentence and 4001; so does a token that is not good."""
    early = session().handle(command)
    assert early.replies == (cm.Problem(1, "auth_required", "send auth first"),)
    assert early.goodbye == Goodbye(CloseCode.NOT_AUTHENTICATED, "send auth first")
    wrong = session().handle(cm.Auth(2, "guess"))
    assert wrong.replies == (cm.Problem(2, "auth_failed", "no"),)
    assert wrong.goodbye == Goodbye(CloseCode.NOT_AUTHENTICATED, "no")


def test_who_says_nothing_has_to_go() -> None:
    """After ten seconds; who has shown a token stays."""
    client = session()
    assert client.overdue(110.0) is None
    assert client.overdue(110.1) == Goodbye(CloseCode.NOT_AUTHENTICATED, "no auth within 10 s")
    assert say(client, 100.0, cm.Auth(1, "bob")).replies == (cm.Authenticated(1, "bob", None),)
    assert client.overdue(1e9) is None


def test_a_session_without_a_gate_lets_nobody_in() -> None:
    """To forget it is no way in."""
    bare = ClientSession(Limits(), lambda _: True, lambda: True, 0.0)
    answer = bare.handle(cm.Auth(1, "x"))
    assert answer.goodbye is not None


def test_an_open_server_takes_any_token() -> None:
    """A client that always sends one still works there."""
    client = ClientSession(Limits(), lambda _: True, lambda: True, 0.0, OPEN, lambda _: Admission(OPEN))
    assert client.handle(cm.Auth("x", "anything")).replies == (cm.Authenticated("x", "anonymous", None),)
    assert client.handle(Subscribe(1, ("AAPL",))).join == ("AAPL",)


def test_symbols_that_are_not_granted_are_forbidden_one_by_one() -> None:
    """Whether the feed has them or not, so that nobody finds that out; waiting does not help."""
    client = session()
    say(client, 100.0, cm.Auth(0, "alice"))
    outcome = client.handle(Subscribe(1, ("AAPL", "BB", "CC", "XX"), wait=True))
    assert statuses(outcome) == {"AAPL": S.OK, "BB": S.OK, "CC": S.FORBIDDEN, "XX": S.FORBIDDEN}
    assert outcome.join == ("AAPL", "BB")


def test_channels_that_are_not_granted_are_an_error() -> None:
    """Asked for by name; without a name one gets those that one may have."""
    client = session()
    say(client, 100.0, cm.Auth(0, "alice-less"))
    outcome = client.handle(Subscribe(1, ("AAPL",), ("quotes", "bars_1s")))
    assert outcome.replies == (cm.Problem(1, "forbidden_channel", "your token does not grant bars_1s"),)
    assert outcome.goodbye is None
    assert client.handle(Subscribe(2, ("AAPL",))).join == ("AAPL",)
    assert client.wishes["AAPL"].channels == ("quotes",)


def test_a_principal_may_have_a_bound_of_its_own() -> None:
    """The lesser of it and the server's holds."""
    client = session()
    say(client, 100.0, cm.Auth(0, "bob"))
    assert statuses(client.handle(Subscribe(1, ("AAPL", "BB")))) == {"AAPL": S.OK, "BB": S.LIMIT}


def test_a_connection_ends_with_its_token() -> None:
    """Ten seconds are left of it when it is shown."""
    client = session()
    assert say(client, 103.0, cm.Auth(1, "alice")).replies == (cm.Authenticated(1, "alice", 1_000.0),)
    assert client.overdue(112.9) is None
    assert client.overdue(113.0) == Goodbye(CloseCode.NOT_AUTHENTICATED, "token expired")


def test_another_token_of_the_same_subject_renews_the_connection() -> None:
    """Its end and its rights count from then on; what it does not grant any more is left and told."""
    client = session()
    say(client, 103.0, cm.Auth(1, "alice"))
    client.handle(Subscribe(2, ("AAPL", "BB")))
    more = say(client, 104.0, cm.Auth(3, "alice-more"))
    assert more == cm.Outcome((cm.Authenticated(3, "alice", 2_000.0),))
    assert client.overdue(113.0) is None
    assert statuses(client.handle(Subscribe(4, ("CC",), ("quotes",)))) == {"CC": S.OK}
    less = say(client, 105.0, cm.Auth(5, "alice-less"))
    told = cm.Unsubscribed(None, {"AAPL": S.FORBIDDEN, "BB": S.FORBIDDEN, "CC": S.FORBIDDEN})
    assert less.replies == (cm.Authenticated(5, "alice", 2_000.0), told)
    assert less.leave == ("AAPL", "BB", "CC")
    assert not client.wishes


def test_a_token_of_somebody_else_ends_the_connection() -> None:
    """One connection is one principal's; so does a bad token, though the first one still holds."""
    for token, code in (("bob", "auth_subject"), ("guess", "auth_failed")):
        client = session()
        say(client, 103.0, cm.Auth(1, "alice"))
        other = say(client, 104.0, cm.Auth(2, token))
        assert isinstance(other.replies[0], cm.Problem)
        assert other.replies[0].code == code
        assert other.goodbye is not None
        assert other.goodbye.code is CloseCode.NOT_AUTHENTICATED


def test_too_many_connections_have_a_code_of_their_own() -> None:
    """The client may come back once another of its connections is closed, with the same token."""
    denied = AccessDenied(Denial.CONNECTIONS, "full")
    assert session().reject(denied, 1).goodbye == Goodbye(CloseCode.TOO_MANY_CONNECTIONS, "full")
    assert CloseCode.TOO_MANY_CONNECTIONS.may_reconnect
    assert not CloseCode.NOT_AUTHENTICATED.may_reconnect
    assert session().reject(ClientError("auth_like", "x", fatal=True)).goodbye == Goodbye(CloseCode.BAD_CLIENT, "x")
