"""Messages of gRPC's market data: what goes in comes out, and other languages read the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketfeed.domain.bars import reduce_trades
from marketfeed.domain.tape import TapeTrades
from marketfeed.wire.market_data import bars_message, decode_tape, encode_tape
from marketfeed.wire.v1 import market_data_pb2 as pb

NAMES = ["AAPL", "MSFT", "BINANCE:BTCUSDT"]
ROW = st.tuples(
    st.integers(0, 2), st.integers(0, 2**62), st.floats(0, 1e9), st.floats(0, 1e9), st.integers(0, 2**62),
    st.integers(0, 2**31), st.integers(0, 2),
)  # fmt: skip
CONDITIONS = (("1", "12"), (), None)


def tape(rows: list[tuple[int, int, float, float, int, int, int]]) -> TapeTrades:
    columns = list(zip(*rows, strict=True))
    dtypes = (np.int64, np.int64, np.float64, np.float64, np.int64, np.int64, np.uint32)
    ids, ts, price, size, offset, index, codes = (np.array(c, d) for c, d in zip(columns, dtypes, strict=True))
    return TapeTrades(3, 0, 9, ids, ts, price, size, offset, index, CONDITIONS, codes, 7, 9, 8)


@given(st.lists(ROW, min_size=1, max_size=20))
def test_a_tape_is_read_back_as_it_was(rows: list[tuple[int, int, float, float, int, int, int]]) -> None:
    """By our client, which maps columns, and by anybody's, who reads the published message."""
    trades = tape(rows)
    data = encode_tape(trades, NAMES, "t@0=1", 11)
    found = decode_tape(data)
    assert [found.symbols[i] for i in found.symbol_index.tolist()] == [NAMES[row[0]] for row in rows]
    for name in ("event_ts", "price", "size", "offset", "index"):
        np.testing.assert_array_equal(getattr(found, name), getattr(trades, name))
    told = [found.conditions[i] for i in found.condition_index.tolist()]
    assert told == [CONDITIONS[row[6]] or () for row in rows]
    assert (found.partition, found.position, found.received_ts, found.logged_ts) == (3, "t@0=1", 7, 9)
    assert (found.oldest_logged_ts, found.sent_ts) == (8, 11)
    public = pb.StreamTradesResponse.FromString(data).tape
    assert list(public.price) == trades.price.tolist()
    assert list(public.offset) == trades.offset.tolist()
    assert list(public.index) == trades.index.tolist()
    assert public.stamps.event_ts == max(row[1] for row in rows)


def test_columns_that_differ_in_length_are_refused() -> None:
    """A message cut by somebody else is an error, not a shorter tape."""
    message = pb.StreamTradesResponse(tape=pb.Tape(symbols=["A"], symbol_index=[0], event_ts=[1, 2], price=[1.0]))
    with pytest.raises(ValueError, match="equally long"):
        decode_tape(message.SerializeToString())


def test_bars_have_a_mean_price_even_without_volume() -> None:
    """vwap is the notional by the volume, or the close where nothing was traded."""
    second = 1_790_000_000
    ts = np.array([second, second + 1]) * 1_000_000_000
    bars = reduce_trades(
        np.zeros(2, np.int64), ts, np.array([10.0, 11.0]), np.array([3.0, 0.0]), np.array([0, 1]), np.zeros(2, np.int64)
    )
    message = bars_message("AAPL", pb.BAR_INTERVAL_1S, bars)
    assert list(message.start) == [second, second + 1]
    assert list(message.vwap) == [10.0, 11.0]
    assert list(message.state) == [pb.Bars.STATE_OPEN, pb.Bars.STATE_OPEN]
