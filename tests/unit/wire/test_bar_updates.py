"""Records of <feed>.bars: every field of the bar, with exact decimals."""

from __future__ import annotations

import numpy as np

from marketfeed.domain.bars import reduce_trades
from marketfeed.domain.sessions import calendar
from marketfeed.wire.bar_updates import decode_update, encode_updates
from marketfeed.wire.v1 import bars_pb2


def test_a_record_says_everything_about_its_bar() -> None:
    """Values, decimals as text, session, trade date, and the name as key."""
    second = 1_782_914_400  # a Wednesday in New York's regular session
    bars = reduce_trades(
        np.array([1, 1]), np.array([second, second]) * 10**9 + np.array([5, 6]), np.array([187.43, 187.5]),
        np.array([0.125, 2.0]), np.array([40, 41]), np.array([0, 3]),
    )  # fmt: skip
    ((symbol_id, symbol, value),) = encode_updates(bars, ("MSFT", "AAPL"), 1, calendar("us-equity"))
    assert (symbol_id, symbol) == (1, "AAPL")
    assert decode_update(value) == bars_pb2.BarUpdate(
        symbol="AAPL", interval_s=1, start_s=second, open=187.43, high=187.5, low=187.43, close=187.5, volume="2.125",
        notional="398.42875", trades=2, revision=0, state=bars_pb2.BAR_STATE_OPEN, rules="all-trades-v1",
        session="regular", trade_date="2026-07-01", first_offset=40, last_offset=41, changed_offset=41,
    )  # fmt: skip
