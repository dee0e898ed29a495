"""A client's session in virtual time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain import client_messages as cm
from marketfeed.domain import client_session as cs
from marketfeed.domain.access import OPEN, granted
from marketfeed.domain.client_messages import CloseCode, Goodbye, Subscribe, SymbolStatus
from marketfeed.domain.client_session import ClientSession, Limits
from marketfeed.domain.errors import ClientError
from marketfeed.domain.position import Position

KNOWN = {"AAPL", "MSFT", "BINANCE:BTCUSDT"}


def session(known: set[str] = KNOWN, **limits: object) -> ClientSession:
    bounds = Limits(**limits)  # type: ignore[arg-type]
    return ClientSession(bounds, known.__contains__, lambda: bool(known), started_s=100.0, principal=OPEN)


def subscribed(outcome: cm.Outcome) -> cm.Subscribed:
    reply = outcome.replies[0]
    assert isinstance(reply, cm.Subscribed)
    return reply


def test_every_symbol_of_a_request_has_its_own_fate() -> None:
    """Known symbols are joined, unknown ones named, and those beyond the limit refused; nothing fails as a whole."""
    client = session(symbols_max=1)
    outcome = client.handle(Subscribe(7, ("AAPL", "XX", "MSFT")))
    reply = subscribed(outcome)
    assert reply.id == 7
    assert reply.symbols == {"AAPL": SymbolStatus.OK, "XX": SymbolStatus.UNKNOWN, "MSFT": SymbolStatus.LIMIT}
    assert outcome.join == ("AAPL",)
    assert list(client.wishes) == ["AAPL"]


def test_subscribing_again_renews_the_wish_even_at_the_limit() -> None:
    """Another channel or start for a symbol one has already is no new symbol."""
    client = session(symbols_max=1)
    client.handle(Subscribe(1, ("AAPL",)))
    outcome = client.handle(Subscribe(2, ("AAPL",), ("quotes",), None, 5))
    assert outcome.join == ("AAPL",)
    assert client.wishes["AAPL"] == cm.Wish(("quotes",), 5)


def test_an_unknown_symbol_waits_if_asked_or_if_nothing_is_known_yet() -> None:
    """`wait` turns unknown into pending; so does a feed that has not started. Nonsense never waits."""
    waiting = session().handle(Subscribe(1, ("NEWCO", "two words", ""), wait=True))
    assert subscribed(waiting).symbols == {
        "NEWCO": SymbolStatus.PENDING, "two words": SymbolStatus.UNKNOWN, "": SymbolStatus.UNKNOWN,
    }  # fmt: skip
    assert waiting.join == ()
    early = session(known=set())
    assert subscribed(early.handle(Subscribe(1, ("AAPL",)))).symbols == {"AAPL": SymbolStatus.PENDING}
    assert early.appeared("AAPL")
    assert not early.appeared("MSFT")


def test_unsubscribing_tells_what_was_there() -> None:
    """Left symbols are ok, others not_subscribed."""
    client = session()
    client.handle(Subscribe(1, ("AAPL", "MSFT")))
    outcome = client.handle(cm.Unsubscribe(2, ("AAPL", "ZZ")))
    assert outcome.replies == (
        cm.Unsubscribed(2, {"AAPL": SymbolStatus.OK, "ZZ": SymbolStatus.NOT_SUBSCRIBED}),
    )  # fmt: skip
    assert outcome.leave == ("AAPL",)
    assert list(client.wishes) == ["MSFT"]


@pytest.mark.parametrize(("wanted", "effective"), [(1, 50), (50, 50), (51, 100), (999, 1000), (10**6, 60_000)])
def test_the_interval_is_a_multiple_of_the_tick_inside_the_bounds(wanted: int, effective: int) -> None:
    """What is in force is told in the answer and kept for later requests."""
    client = session()
    assert subscribed(client.handle(Subscribe(1, ("AAPL",), interval_ms=wanted))).interval_ms == effective
    assert subscribed(client.handle(Subscribe(2, ("MSFT",)))).interval_ms == effective


def test_an_unknown_channel_is_an_error_and_changes_nothing() -> None:
    """So is an empty list of channels."""
    client = session()
    for channels in (("depth",), ()):
        outcome = client.handle(Subscribe(3, ("AAPL",), channels, 1000))
        assert isinstance(problem := outcome.replies[0], cm.Problem)
        assert (problem.id, problem.code) == (3, "unknown_channel")
    assert client.wishes == {}
    assert client.interval_ms == 50


def test_messages_beyond_the_rate_are_not_obeyed_and_abuse_ends_the_connection() -> None:
    """A burst of one second's worth passes; time gives new allowance; the hundredth strike is 4004."""
    client = session(messages_per_s=5)
    assert [client.admit(100.0) for _ in range(5)] == [None] * 5
    refused = client.admit(100.0)
    assert refused is not None
    assert isinstance(problem := refused.replies[0], cm.Problem)
    assert problem.code == "rate_limited"
    assert client.admit(100.2) is None
    outcomes = [client.admit(100.2) for _ in range(99)]
    assert [o.goodbye.code for o in outcomes if o and o.goodbye] == [CloseCode.RATE_LIMITED]


def test_bad_messages_are_answered_and_the_hundredth_is_the_last() -> None:
    """A client's mistake is an error with a code; only abuse costs the connection."""
    client = session()
    outcomes = [client.reject(ClientError("bad_json", "no"), 9) for _ in range(100)]
    assert outcomes[0].replies == (cm.Problem(9, "bad_json", "no"),)
    assert [o.goodbye for o in outcomes[:-1]] == [None] * 99
    assert outcomes[-1].goodbye == Goodbye(CloseCode.BAD_CLIENT, "no")


def test_a_client_is_slow_only_when_it_takes_nothing() -> None:
    """Over the bound it is skipped; as long as the buffer falls it stays; without progress for stall_s it goes."""
    client = session(buffer_bytes_max=1000, stall_s=10.0)
    assert client.may_send(100.0, 1000)
    assert not client.may_send(105.0, 5000)
    assert client.stalled(105.0) is None
    assert not client.may_send(109.0, 4000)
    assert client.stalled(119.0) is None
    assert not client.may_send(119.5, 4000)
    assert client.stalled(119.5) == Goodbye(CloseCode.SLOW_CLIENT, "took nothing for 10 s")


def test_a_client_that_takes_a_byte_now_and_then_goes_too() -> None:
    """All changes are remembered for the slowest client, so being slow has an end."""
    client = session(buffer_bytes_max=1000, stall_s=10.0)
    assert client.may_send(100.0, 1000)
    for second in range(1, 61):
        assert not client.may_send(100.0 + second, 5000 - second)
        assert client.stalled(100.0 + second) is None
    assert not client.may_send(161.0, 4000)
    assert client.stalled(161.0) == Goodbye(CloseCode.SLOW_CLIENT, "took too little for 60 s")


def test_close_codes_say_who_may_come_back() -> None:
    """As the table in docs/websocket.md."""
    assert {code for code in CloseCode if not code.may_reconnect} == {
        CloseCode.TOO_BIG, CloseCode.BAD_CLIENT, CloseCode.NOT_AUTHENTICATED,
    }  # fmt: skip


names = st.sampled_from(["AAPL", "MSFT", "BINANCE:BTCUSDT", "XX", "Y" * 64, "Z" * 65, "a b"])
commands = st.one_of(
    st.builds(Subscribe, st.none(), st.lists(names, min_size=1, max_size=4).map(tuple), wait=st.booleans()),
    st.builds(cm.Unsubscribe, st.none(), st.lists(names, min_size=1, max_size=4).map(tuple)),
)


@given(st.lists(commands, max_size=20), st.integers(1, 3))
@settings(max_examples=25)
def test_joins_and_leaves_always_add_up_to_the_wishes(sequence: list[cs.Command], symbols_max: int) -> None:
    """Whatever a client asks for: what was joined or is waiting, less what was left, is what it holds."""
    client = session(symbols_max=symbols_max)
    held: set[str] = set()
    for command in sequence:
        outcome = client.handle(command)
        reply = outcome.replies[0]
        assert isinstance(reply, cm.Subscribed | cm.Unsubscribed)
        if isinstance(reply, cm.Subscribed):
            held |= {s for s, status in reply.symbols.items() if status in (SymbolStatus.OK, SymbolStatus.PENDING)}
            assert set(outcome.join) <= KNOWN
        held -= set(outcome.leave)
        assert set(client.wishes) == held
        assert len(held) <= symbols_max


def test_set_changes_the_interval_alone() -> None:
    """And says what is in force."""
    client = session()
    assert client.handle(cm.Set(4, 333)).replies == (cm.InForce(4, 350),)
    assert (client.interval_ms, client.wishes) == (350, {})


def test_a_pattern_stands_for_what_is_not_named_itself() -> None:
    """Named symbols go before patterns, older patterns before newer ones; a pattern takes one place of the bound."""
    client = session(symbols_max=3)
    client.handle(Subscribe(1, ("AAPL",), ("trades",)))
    outcome = client.handle(Subscribe(2, ("*", "BIN*", "MSFT"), ("quotes",)))
    assert subscribed(outcome).symbols == {"*": SymbolStatus.OK, "BIN*": SymbolStatus.OK, "MSFT": SymbolStatus.LIMIT}
    assert outcome.join == ("*", "BIN*")
    assert [client.wish_of(s) for s in ("AAPL", "ZZ")] == [cm.Wish(("trades",), None), cm.Wish(("quotes",), None)]
    client.handle(cm.Unsubscribe(3, ("AAPL", "*")))
    assert (client.wish_of("AAPL"), client.wish_of("BINANCE:X")) == (None, cm.Wish(("quotes",), None))


@pytest.mark.parametrize("pattern", ["*", "A*"])
def test_a_pattern_needs_a_token_that_grants_all_of_it(pattern: str) -> None:
    """And ends with a token that does not."""
    client = session()
    client.principal = granted("alice", {"symbols": ["AA*"]})
    assert subscribed(client.handle(Subscribe(1, (pattern, "AA*")))).symbols == {
        pattern: SymbolStatus.FORBIDDEN, "AA*": SymbolStatus.OK,
    }  # fmt: skip


def test_a_resume_holds_wishes_like_a_subscription_and_waits_for_its_answer() -> None:
    """The answer, not recovered until somebody says so, stands beside the position."""
    client = session()
    outcome = client.handle(cm.Resume("r", "topic@0=7", ("AAPL", "NEW"), ("trades", "quotes"), 100, "settled"))
    statuses = {"AAPL": SymbolStatus.OK, "NEW": SymbolStatus.PENDING}
    assert outcome.resume == cm.Resumed("r", False, statuses, ("quotes", "trades"), 100, "settled")
    assert (outcome.replies, outcome.join, outcome.position) == ((), ("AAPL",), Position("topic", {0: 7}))
    assert client.wishes["NEW"] == cm.Wish(("quotes", "trades"), None, "settled")


@pytest.mark.parametrize(
    ("position", "symbol", "channels", "code"),
    [
        ("7", "MSFT", ("quotes",), "bad_position"),
        ("topic@0=7", "AAPL", ("quotes",), "resume_late"),
        ("topic@0=7", "MSFT", ("trades",), "resume_late"),
        ("topic@0=7", "MSFT", ("quotes",), None),
    ],
)
def test_a_connection_has_one_place_in_the_tape(
    position: str, symbol: str, channels: tuple[str, ...], code: str | None
) -> None:
    """Once trades are subscribed no others can be resumed, and what is subscribed cannot be either."""
    client = session()
    client.handle(Subscribe(1, ("AAPL",), ("trades",)))
    outcome = client.handle(cm.Resume(2, position, (symbol,), channels))
    assert [reply.code for reply in outcome.replies if isinstance(reply, cm.Problem)] == ([code] if code else [])
    assert (outcome.resume is None) == (code is not None)
