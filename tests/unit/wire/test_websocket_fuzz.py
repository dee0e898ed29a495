"""Whatever a client sends: an answer with a code and a sentence, or the end; and nothing of it piles up."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain.access import AccessDenied, Denial, granted
from marketfeed.domain.client_messages import Outcome, Problem
from marketfeed.domain.client_session import Admission, ClientSession, Limits
from marketfeed.domain.errors import ClientError
from marketfeed.wire.websocket import encode_reply
from marketfeed.wire.websocket_commands import decode_command, message_id

SYMBOLS = [f"S{n}" for n in range(12)]
LIMITS = Limits(symbols_max=5, messages_per_s=20)
WHO = granted("alice", {"symbols": ["S*"]}, 50.0)

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(SYMBOLS),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=15,
)
_id = st.none() | st.integers() | st.text(max_size=5) | _json
_symbols = st.lists(st.sampled_from([*SYMBOLS, "X", "S1*", "*", "two words", ""]), max_size=8) | _json
_shaped = st.fixed_dictionaries(
    {"type": st.sampled_from(["auth", "subscribe", "unsubscribe", "ping", "resume", "set"]) | _json},
    optional={
        "id": _id,
        "token": st.sampled_from(["good", "bad"]) | _json,
        "symbols": _symbols,
        "channels": st.lists(st.sampled_from(["quotes", "bars_1s", "trades", ""])) | _json,
        "interval_ms": st.integers() | _json,
        "from": st.integers() | _json,
        "wait": st.booleans() | _json,
        "emission": st.sampled_from(["fast", "settled", "slow"]) | _json,
        "position": st.sampled_from(["topic@0=7", "topic@", "0=7"]) | _json,
    },
)
_messages = (_shaped | _json).map(json.dumps) | st.text() | st.binary()


def admit(token: str) -> Admission:
    if token != "good":
        raise AccessDenied(Denial.FAILED, "no")
    return Admission(WHO, 50.0)


def heard(client: ClientSession, now_s: float, message: Any) -> Outcome:
    """As `mds/stream.py` does it."""
    refused = client.admit(now_s)
    if refused is not None:
        return refused
    try:
        return client.handle(decode_command(message))
    except ClientError as error:
        return client.reject(error, message_id(message))


@given(_messages)
def test_a_message_is_a_command_or_a_client_s_error(message: str | bytes) -> None:
    """Nothing else is raised; the error has a documented code and a sentence."""
    try:
        decode_command(message)
    except ClientError as error:
        assert (error.code in {"bad_json", "unknown_type", "bad_message"}, bool(error.message)) == (True, True)  # noqa: PT017
    message_id(message)


@settings(max_examples=200)
@given(st.lists(st.tuples(_messages, st.floats(0.0, 0.2)), max_size=40), st.booleans())
def test_a_session_answers_everything_and_holds_no_more_than_its_bounds(
    said: list[tuple[str | bytes, float]], known: bool
) -> None:
    """Every answer can be sent; until somebody is known nothing is held; afterwards no more symbols than allowed."""
    client = ClientSession(LIMITS, SYMBOLS.__contains__, lambda: True, 0.0, WHO if known else None, admit)
    now_s = 0.0
    for message, pause_s in said:
        now_s += pause_s
        outcome = heard(client, now_s, message)
        assert (outcome.resume is None) == (outcome.position is None)
        for reply in (*outcome.replies, *([outcome.resume] if outcome.resume else [])):
            assert json.loads(encode_reply(reply, 1, ""))
            if isinstance(reply, Problem):
                assert reply.message
        assert client.authenticated or not client.wishes
        assert len(client.wishes) <= LIMITS.symbols_max
        assert set(outcome.join) <= client.wishes.keys() <= set(SYMBOLS) | {"X", "S1*"}
        assert LIMITS.interval_ms_min <= client.interval_ms <= LIMITS.interval_ms_max
        if outcome.goodbye is not None:
            return
