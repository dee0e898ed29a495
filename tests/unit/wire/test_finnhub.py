"""Decoding Finnhub's frames: right ones fast, wrong ones without losing what is right in them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.wire.finnhub import (
    REJECTED_MAX,
    UNKNOWN_SYMBOL,
    Decoded,
    FrameDecoder,
    subscribe_message,
    unsubscribe_message,
)

SYMBOLS = {"AAPL": 0, "MSFT": 1, "BINANCE:BTCUSDT": 2}

trade = st.fixed_dictionaries(
    {
        "s": st.sampled_from([*SYMBOLS, "OTHER"]),
        "p": st.floats(0.01, 1e6),
        "t": st.integers(1_600_000_000_000, 1_900_000_000_000),
        "v": st.one_of(st.integers(0, 10**6), st.floats(0, 1e6)),
        "c": st.one_of(st.none(), st.lists(st.sampled_from(["1", "8", "12", "24"]), max_size=4)),
    }
)


def frame(trades: list[dict[str, Any]]) -> bytes:
    return json.dumps({"data": trades, "type": "trade"}, separators=(",", ":")).encode()


def decode(*frames: bytes) -> Decoded:
    decoder = FrameDecoder(SYMBOLS)
    for one in frames:
        decoder.feed(one)
    return decoder.drain()


def rows(decoded: Decoded) -> list[tuple[Any, ...]]:
    names = iter(decoded.unknown)
    known = {number: name for name, number in SYMBOLS.items()}
    return [
        (known[s] if s != UNKNOWN_SYMBOL else next(names), p, t, v, decoded.condition_sets[c])
        for s, p, t, v, c in zip(
            decoded.symbol_id.tolist(),
            decoded.price.tolist(),
            decoded.stamp_ms.tolist(),
            decoded.size.tolist(),
            decoded.condition_index.tolist(),
            strict=True,
        )
    ]


def expected(trades: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [
        (t["s"], float(t["p"]), float(t["t"]), float(t["v"]), None if t["c"] is None else tuple(t["c"])) for t in trades
    ]


@given(st.lists(st.lists(trade, max_size=30), max_size=12))
@settings(max_examples=25, deadline=None)
def test_frames_of_any_size_give_their_trades_in_order(frames: list[list[dict[str, Any]]]) -> None:
    """Whether a frame is read alone or joined to others, its trades come out as columns, in order of arrival."""
    decoded = decode(*(frame(trades) for trades in frames))
    assert rows(decoded) == expected([t for trades in frames for t in trades])
    assert not decoded.rejected


@given(
    st.lists(st.one_of(st.binary(max_size=60), st.just(b'{"type":"ping"}')), max_size=6), st.lists(trade, max_size=5)
)
@settings(max_examples=40, deadline=None)
def test_garbage_between_frames_costs_no_trade(garbage: list[bytes], trades: list[dict[str, Any]]) -> None:
    """Bytes that are no frame are reported and never raise; the frames around them are read."""
    decoded = decode(frame(trades), *garbage, frame(trades))
    assert rows(decoded) == expected(trades + trades)
    assert decoded.pings + len(decoded.rejected) >= len(garbage)


@given(st.lists(trade, min_size=1, max_size=8), st.data())
@settings(max_examples=25, deadline=None)
def test_a_frame_cut_anywhere_invents_nothing(trades: list[dict[str, Any]], data: st.DataObject) -> None:
    """What comes out of a cut frame is a prefix of its trades."""
    whole = frame(trades)
    decoded = decode(whole[: data.draw(st.integers(0, len(whole) - 1))])
    got = rows(decoded)
    assert got == expected(trades)[: len(got)]
    assert decoded.rejected


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('{"s":"AAPL","p":NaN,"t":1,"v":1}', "malformed_trade"),
        ('{"s":"AAPL","p":"10","t":1,"v":1}', "malformed_trade"),
        ('{"s":7,"p":10,"t":1,"v":1}', "malformed_trade"),
        ('{"s":"AAPL","p":1e999,"t":1,"v":1}', "malformed_trade"),
        ('{"s":"AAPL","p":10,"t":1}', "malformed_trade"),
        ('{"s":"AAPL","p":10,"t":1,"v":1,"c":["\\ud800"]}', "malformed_trade"),
        ('{"s":"AAPL","p":10,"t":1,"v":1,"c":[7]}', "malformed_trade"),
        ('{"s":"AAPL","p":10,"t":1,"v":1,"c":["' + "x" * 17 + '"]}', "malformed_trade"),
        ('{"s":"AAPL","p":10,"t":1,"v":1,"c":[' + '"1",' * 16 + '"1"]}', "malformed_trade"),
        ("17", "malformed_frame"),
    ],
)
def test_a_bad_trade_does_not_cost_the_good_ones_beside_it(bad: str, reason: str) -> None:
    """The rest of a bad frame is used; what was refused is there to be looked at."""
    good = '{"s":"MSFT","p":2,"t":3,"v":4,"c":["1"]}'
    decoded = decode(f'{{"data":[{good},{bad},{good}],"type":"trade"}}'.encode())
    assert [row[0] for row in rows(decoded)] == ["MSFT", "MSFT"]
    assert [r.reason for r in decoded.rejected] == [reason]
    assert bad.encode() in decoded.rejected[0].sample


def test_other_messages_of_the_protocol_are_told_apart() -> None:
    """Pings are counted, errors handed on, unknown types reported, null data is no trade."""
    decoded = decode(
        b'{"type":"ping"}',
        b'{"msg":"Subscribing to too many symbols","type":"error"}',
        b'{"type":"news","data":[{"headline":"x"}]}',
        b'{"type":"trade","data":null}',
        b"[" * 100_000,
        b'{"type":"trade","data":' + b"[" * 100_000,
    )
    assert decoded.pings == 1
    assert decoded.errors == ("Subscribing to too many symbols",)
    assert [r.reason for r in decoded.rejected] == ["unknown_type", "malformed_frame", "malformed_frame"]
    assert all(len(r.sample) <= 512 for r in decoded.rejected)
    assert len(decoded) == 0


def test_a_strangers_condition_sets_do_not_pile_up() -> None:
    """The dictionary of conditions begins anew when it has grown large, and columns stay right."""
    decoder = FrameDecoder(SYMBOLS)
    for number in range(5000):
        decoder.feed(frame([{"s": "AAPL", "p": 1, "t": 1, "v": 1, "c": [str(number)]}]))
    assert len(decoder.drain().condition_sets) == 5000
    decoder.feed(frame([{"s": "AAPL", "p": 1, "t": 1, "v": 1, "c": ["8"]}]))
    assert decoder.drain().condition_sets == (("8",),)


def test_a_frame_of_nothing_but_bad_trades_is_counted_within_bounds() -> None:
    """All are counted, some are kept."""
    good = '{"s":"MSFT","p":2,"t":3,"v":4,"c":["1"]}'
    decoded = decode(('{"data":[' + "{}," * 30_000 + good + '],"type":"trade"}').encode())
    assert [row[0] for row in rows(decoded)] == ["MSFT"]
    assert len(decoded.rejected) == REJECTED_MAX + 1
    assert sum(one.count for one in decoded.rejected) == 30_000


def test_symbols_can_change_between_frames() -> None:
    """Frames fed before the change are read with the old symbols, later ones with the new."""
    decoder = FrameDecoder({"AAPL": 0})
    one = frame([{"s": "MSFT", "p": 1, "t": 1, "v": 1, "c": None}])
    decoder.feed(one)
    decoder.set_symbols({"AAPL": 0, "MSFT": 5})
    decoder.feed(one)
    decoded = decoder.drain()
    assert decoded.symbol_id.tolist() == [UNKNOWN_SYMBOL, 5]
    assert decoded.unknown == ("MSFT",)
    assert decoded.price.dtype == np.float64


def test_subscriptions_are_one_symbol_a_message() -> None:
    """As the vendor wants them, with odd symbols escaped."""
    assert json.loads(subscribe_message('A"B')) == {"type": "subscribe", "symbol": 'A"B'}
    assert json.loads(unsubscribe_message("AAPL")) == {"type": "unsubscribe", "symbol": "AAPL"}
