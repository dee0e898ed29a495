"""The JSON protocol: what clients may write, and what they read."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain import client_messages as cs
from marketfeed.domain.bars import reduce_trades
from marketfeed.domain.errors import ClientError
from marketfeed.wire import websocket as w
from marketfeed.wire import websocket_commands as c

DOCS = Path(__file__).parents[3] / "docs" / "websocket.md"


def examples() -> list[dict[str, object]]:
    """Every JSON object inside the page's code blocks."""
    found = []
    decoder = json.JSONDecoder()
    for block in DOCS.read_text().split("```json\n")[1:]:
        text = block.split("```")[0].strip()
        while text:
            value, end = decoder.raw_decode(text)
            found.append(value)
            text = text[end:].strip()
    return found


@pytest.mark.parametrize("example", examples(), ids=lambda e: str(e.get("type") or sorted(e)[0]))
def test_every_example_of_the_documentation_is_exact(example: dict[str, object]) -> None:
    """Each example decodes as its type and encodes to the same fields and values: none missing, none invented."""
    if example.get("type") in {"auth", "subscribe", "resume", "unsubscribe", "set", "ping"}:
        c.decode_command(json.dumps(example))
        return
    kinds = [w.ServerMessage] if "type" in example else [w.SymbolList, w.BarsAnswer, w.ConfigAnswer, w.ErrorAnswer]
    for kind in kinds:
        try:
            value = msgspec.convert(example, kind)
        except msgspec.ValidationError:
            continue
        assert json.loads(w.encode(value)) == example
        return
    raise AssertionError(f"no type fits {example}")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("nope", "bad_json"),
        ("", "bad_json"),
        (b'{"type":"ping"}', "bad_json"),
        ('"\ud800"', "bad_json"),
        ("[" * 5000, "bad_message"),
        ("{}", "unknown_type"),
        ('{"type":"replay"}', "unknown_type"),
        ('{"type":"resume","symbols":["A"]}', "bad_message"),
        ('{"type":"set","interval_ms":0}', "bad_message"),
        ('{"type":"subscribe","symbols":["A"],"emission":"never"}', "bad_message"),
        ('{"type":7}', "unknown_type"),
        ("[]", "bad_message"),
        ('{"type":"subscribe"}', "bad_message"),
        ('{"type":"subscribe","symbols":"AAPL"}', "bad_message"),
        ('{"type":"subscribe","symbols":[]}', "bad_message"),
        ('{"type":"subscribe","symbols":["A"],"interval_ms":0}', "bad_message"),
        ('{"type":"subscribe","symbols":["A"],"interval_ms":1e99}', "bad_message"),
        ('{"type":"subscribe","symbols":["A"],"from":-1}', "bad_message"),
        ('{"type":"ping","id":{}}', "bad_message"),
    ],
)
def test_a_bad_message_has_a_code(text: str | bytes, code: str) -> None:
    """Whatever comes, the answer is a ClientError with a documented code and a sentence."""
    with pytest.raises(ClientError) as error:
        c.decode_command(text)
    assert error.value.code == code
    assert error.value.message


# Pieces of messages: far more telling than random characters, and no table of all of Unicode is loaded.
pieces = st.sampled_from(
    ['{"type":"', 'subscribe", ', '"symbols":[', '"A"', "]", "}", '"id":', "1e999", "é", "\ud800", "\0"]
)


@given(st.one_of(st.lists(pieces, max_size=12).map("".join), st.binary(max_size=30)))
@settings(max_examples=40)
def test_garbage_never_escapes_the_tree_of_errors(message: str | bytes) -> None:
    """Any text or bytes: a command or a ClientError; its id or None."""
    try:
        c.decode_command(message)
    except ClientError:
        c.message_id(message)


def test_the_id_of_a_bad_message_is_found_where_there_is_one() -> None:
    """So that a client can match the error with its request."""
    assert c.message_id('{"type":"subscribe","id":4}') == 4
    assert c.message_id('{"id":"x"') is None
    assert c.message_id('{"id":[]}') is None


def test_symbols_are_taken_once() -> None:
    """A symbol twice in one request is one symbol; unknown fields are ignored."""
    command = c.decode_command('{"type":"subscribe","symbols":["B","A","B"],"from":5,"new_field":1}')
    assert command == cs.Subscribe(None, ("B", "A"), from_s=5)


def test_replies_have_the_documented_shape() -> None:
    """One of each kind."""
    ok = cs.SymbolStatus.OK
    assert [
        json.loads(w.encode_reply(reply, 5, "t@0=1"))
        for reply in (
            cs.Authenticated(0, "alice", 17.0),
            cs.Subscribed("a", {"X": ok}, ("quotes",), 50),
            cs.Resumed("r", True, {"X": ok}, ("trades",), 50, "settled"),
            cs.InForce(3, 100),
            cs.Unsubscribed(2, {"X": cs.SymbolStatus.NOT_SUBSCRIBED}),
            cs.Pong(None),
            cs.Problem(4, "bad_json", "no"),
        )
    ] == [
        {"type": "authenticated", "id": 0, "subject": "alice", "expires_ts": "17000000000"},
        {
            "type": "subscribed", "id": "a", "symbols": {"X": {"status": "ok"}}, "channels": ["quotes"],
            "interval_ms": 50, "emission": "fast", "position": "t@0=1",
        },
        {
            "type": "resumed", "id": "r", "recovered": True, "symbols": {"X": {"status": "ok"}},
            "channels": ["trades"], "interval_ms": 50, "emission": "settled", "position": "t@0=1",
        },
        {"type": "interval", "id": 3, "interval_ms": 100},
        {"type": "unsubscribed", "id": 2, "symbols": {"X": {"status": "not_subscribed"}}},
        {"type": "pong", "id": None, "server_ts": "5"},
        {"type": "error", "id": 4, "code": "bad_json", "message": "no"},
    ]  # fmt: skip


def test_bars_become_columns_with_the_feed_s_decimals() -> None:
    """0.1 + 0.2 traded is 0.3 in the text, and a bar without volume has no average price."""
    n = 4
    bars = reduce_trades(
        np.zeros(n, np.int64),
        np.array([1, 2, 3, 1_000_000_001], np.int64),
        np.array([1.1, 1.2, 1.3, 2.0]),
        np.array([0.1, 0.2, 0.0, 0.0]),
        np.arange(n),
        np.zeros(n, np.int64),
    )
    columns = json.loads(w.encode(w.history_bars_of(bars, [0, 1])))
    vwap = columns.pop("vwap")
    assert columns == {
        "start": [0, 1], "open": [1.1, 2.0], "high": [1.3, 2.0], "low": [1.1, 2.0], "close": [1.3, 2.0],
        "volume": [0.3, 0.0], "trades": [2, 0], "state": [0, 0], "revision": [0, 0], "incomplete": [0, 0],
        "filled": [0, 1],
    }  # fmt: skip
    assert vwap == [pytest.approx(0.35 / 0.3), None]
