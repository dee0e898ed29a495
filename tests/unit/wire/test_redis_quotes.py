"""Quotes as hashes: what a writer reads back is what it wrote."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain.quotes import DAY_S, PreviousDay, QuoteBook, quotes_of_days
from marketfeed.domain.sessions import calendar
from marketfeed.domain.tape import TapeTrades
from marketfeed.wire.redis_quotes import QuoteEncoder, decode_quotes

NAMES = ("AAPL", "BINANCE:BTCUSDT", "MSFT")
TRADES = st.lists(
    st.tuples(
        st.integers(0, 2), st.integers(20_000 * 86_400, 20_003 * 86_400), st.floats(0.0001, 1e5), st.floats(0, 1e5)
    ),
    min_size=1,
    max_size=20,
)


def book_of(rows: list[tuple[int, int, float, float]]) -> QuoteBook:
    book = QuoteBook(lambda start_s: start_s // DAY_S)
    symbol_id, second, price, size = (np.array(column) for column in zip(*rows, strict=True))
    count = len(rows)
    book.apply(
        TapeTrades(
            1, 5, 5, symbol_id.astype(np.int64), second.astype(np.int64) * 1_000_000_000, price, size,
            np.full(count, 5), np.arange(count), ((),), np.zeros(count, np.uint32), 7, 9,
        )
    )  # fmt: skip
    return book


@given(TRADES)
@settings(max_examples=25)
def test_hashes_hold_all_that_a_writer_needs(rows: list[tuple[int, int, float, float]]) -> None:
    """decode(encode) is the quotes: prices to the last bit, volumes as decimals, order keys, the day before."""
    book = book_of(rows)
    quotes = book.take(book.ids())
    hashes = QuoteEncoder(calendar("24x7")).encode(quotes, NAMES)
    text = {symbol: {name: str(value) for name, value in fields.items()} for symbol, fields in hashes.items()}
    back = decode_quotes(text, {name: place for place, name in enumerate(NAMES)})
    for name in ("size", "previous_close", "previous_date", "previous_ts", "partition", "received_ts", "append_ts"):
        np.testing.assert_array_equal(getattr(back, name), getattr(quotes, name), err_msg=name)
    for name in (
        "symbol_id",
        "start_s",
        "open",
        "high",
        "low",
        "close",
        "open_ts",
        "close_ts",
        "close_offset",
        "close_index",
    ):
        np.testing.assert_array_equal(getattr(back.day, name), getattr(quotes.day, name), err_msg=name)
    for row in range(len(quotes)):
        scale = 10 ** (int(quotes.day.size_scale[row]) - int(back.day.size_scale[row]))
        assert back.day.volume[row] * scale == quotes.day.volume[row]


def test_a_hash_reads_as_documented() -> None:
    """Field names and formats are what readers are promised."""
    book = book_of([(0, 20_000 * 86_400, 187.5, 3.25)])
    fields = QuoteEncoder(calendar("24x7")).encode(book.take(book.ids()), NAMES)["AAPL"]
    assert fields.pop("resume")
    assert fields == {
        "price": 187.5, "event_ts": 20_000 * 86_400 * 10**9, "size": 3.25, "trade_date": "2024-10-04",
        "session": "regular", "day_open": 187.5, "day_high": 187.5, "day_low": 187.5, "day_volume": "3.25",
        "partition": 1, "offset": 5, "index": 0, "received_ts": 7, "append_ts": 9,
    }  # fmt: skip


def test_quotes_are_made_of_stored_days() -> None:
    """A rebuilt quote has the stored day and previous close, and no size until the next trade."""
    book = book_of([(0, 20_000 * 86_400, 187.5, 3.25), (2, 20_000 * 86_400, 5.0, 1.0)])
    quotes = quotes_of_days(book.take(book.ids()).day, {2: PreviousDay(19_999, 4.5, 3, 2, 1)}, np.array([3, 1]))
    assert np.isnan(quotes.size).all()
    assert quotes.previous_close[1] == 4.5
    assert np.isnan(quotes.previous_close[0])
    fields = QuoteEncoder(calendar("24x7")).encode(quotes, NAMES)
    assert "size" not in fields["AAPL"]
    assert "previous_close" not in fields["AAPL"]
    with pytest.raises(KeyError):
        decode_quotes({"AAPL": {"price": "1"}}, {"AAPL": 0})
    assert len(decode_quotes({}, {})) == 0


def test_slow_fields_are_sent_when_they_change() -> None:
    """A second quote of the same range carries what a trade changes; a new high brings the rest along."""
    encoder = QuoteEncoder(calendar("24x7"))
    day_s = 20_000 * 86_400
    book = book_of([(0, day_s - 5, 90.0, 1.0), (0, day_s, 100.0, 1.0), (0, day_s + 1, 120.0, 1.0)])
    whole = encoder.encode(book.take(book.ids()), NAMES)["AAPL"]
    again = encoder.encode(book.take(book.ids()), NAMES)["AAPL"]
    assert set(whole) - set(again) == {
        "day_open", "day_high", "day_low", "partition", "previous_close", "session", "trade_date", "resume",
    }  # fmt: skip
    assert {name: whole[name] for name in again} == again
    higher = book_of([(0, day_s - 5, 90.0, 1.0), (0, day_s, 100.0, 1.0), (0, day_s + 1, 121.0, 1.0)])
    assert encoder.encode(higher.take(higher.ids()), NAMES)["AAPL"]["day_high"] == 121.0
