"""Finnhub's protocol as its server speaks it: our own client of it understands every frame."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketfeed.domain.tape_cut import SymbolTape
from marketfeed.domain.trades import Conditions
from marketfeed.wire.finnhub import FrameDecoder, subscribe_message, unsubscribe_message
from marketfeed.wire.finnhub_server import Order, decode_order, error_frame, trade_frame

codes = st.sampled_from([None, (), ("1",), ("12", "37")])
rows = st.lists(
    st.tuples(
        st.integers(0, 2**41),
        st.floats(0.01, 1e9),
        st.floats(0, 1e9),
        st.sampled_from([None, (), ("1",), ("12", "37")]),
    ),
    min_size=1,
    max_size=20,
)


def payload(frame: bytes) -> bytes:
    """The text of a frame."""
    size = frame[1]
    return frame[{126: 4, 127: 10}.get(size, 2) :]


@given(rows)
def test_what_is_sent_is_what_our_client_of_finnhub_reads(trades: list[tuple[int, float, float, Conditions]]) -> None:
    """Symbol, price, size, conditions, and the stamp to the millisecond."""
    count = len(trades)
    given_codes = [row[3] for row in trades]
    tape = SymbolTape(
        symbol_id=0,
        partition=0,
        event_ts=[row[0] * 1_000_000 + 999_999 for row in trades],
        price=[row[1] for row in trades],
        size=[row[2] for row in trades],
        offset=list(range(count)),
        index=[0] * count,
        conditions=None if all(code is None for code in given_codes) else given_codes,
        received_ts=0,
        append_ts=0,
    )
    body = json.loads(payload(trade_frame("BINANCE:BTCUSDT", tape)))
    assert body["type"] == "trade"
    got = [(t["t"], t["p"], t["v"], None if t["c"] is None else tuple(t["c"]), t["s"]) for t in body["data"]]
    assert got == [(*row, "BINANCE:BTCUSDT") for row in trades]
    decoder = FrameDecoder({"BINANCE:BTCUSDT": 4})
    decoder.feed(payload(trade_frame("BINANCE:BTCUSDT", tape)))
    read = decoder.drain()
    assert (read.price.tolist(), read.size.tolist()) == ([row[1] for row in trades], [row[2] for row in trades])


def test_orders_are_understood_and_everything_else_is_not() -> None:
    """News and press releases are none of ours."""
    assert decode_order(subscribe_message("AAPL")) == Order("subscribe", "AAPL")
    assert decode_order(unsubscribe_message("AAPL").decode()) == Order("unsubscribe", "AAPL")
    assert json.loads(payload(error_frame("no"))) == {"type": "error", "msg": "no"}


@pytest.mark.parametrize(
    "message", ["", "{}", '{"type":"subscribe-news","symbol":"A"}', '{"type":"subscribe"}', b"\xff"]
)
def test_nothing_of_a_stranger_is_an_order(message: str | bytes) -> None:
    """None, whatever comes."""
    assert decode_order(message) is None
