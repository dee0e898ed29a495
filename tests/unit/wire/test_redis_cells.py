"""Cells as byte ranges: what is written in runs reads back as hours."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain.second_cells import Cells
from marketfeed.wire.redis_cells import HOUR_S, closes_key, hour_name, hours_of, read_hour, runs, stamps_key

CELLS = st.dictionaries(
    st.tuples(st.integers(0, 2), st.integers(HOUR_S * 7 - 20, HOUR_S * 7 + 20)),
    st.tuples(st.floats(0.01, 1e6), st.integers(1, 2**62)),
    max_size=40,
)


@given(CELLS)
@settings(max_examples=30)
def test_runs_written_are_hours_read(cells: dict[tuple[int, int], tuple[float, int]]) -> None:
    """Each cell lands in its place of its hour, every other is zero, and neighbours share one range."""
    rows = [(*key, *cells[key]) for key in sorted(cells)]
    columns = zip(*rows, strict=True) if rows else ((), (), (), ())
    symbol, second, close, stamp = (np.array(column) for column in columns)
    strings: dict[tuple[int, int], tuple[bytearray, bytearray]] = {}
    written = list(
        runs(Cells(symbol.astype(np.int64), second.astype(np.int64), close.astype(float), stamp.astype(np.int64)))
    )
    for symbol_id, hour, offset, closes, stamps in written:
        both = strings.setdefault((symbol_id, hour), (bytearray(), bytearray()))
        for string, piece in zip(both, (closes, stamps), strict=True):
            string.extend(bytes(max(0, offset + len(piece) - len(string))))
            string[offset : offset + len(piece)] = piece
    back: dict[tuple[int, int], tuple[float, int]] = {}
    for (symbol_id, hour), both in strings.items():
        closes_read, stamps_read = read_hour(*(bytes(string) for string in both))
        assert len(closes_read) == len(stamps_read) == HOUR_S
        for place in np.flatnonzero(stamps_read).tolist():
            back[symbol_id, hour * HOUR_S + place] = float(closes_read[place]), int(stamps_read[place])
        assert not closes_read[stamps_read == 0].any()
    assert back == cells
    breaks = sum((s, t + 1) not in cells or (t + 1) % HOUR_S == 0 for s, t in cells)
    assert len(written) == breaks


def test_keys_name_the_hour_in_utc() -> None:
    """Hours since 1970 are written as date and hour."""
    hour = 1_790_000_040 // HOUR_S
    assert hour_name(hour) == "2026092114"
    assert closes_key("demo", "AAPL", hour) == "mf:demo:sec:AAPL:2026092114"
    assert stamps_key("demo", "AAPL", hour) == "mf:demo:sec_ts:AAPL:2026092114"
    assert list(hours_of(hour * HOUR_S, hour * HOUR_S + 1)) == [hour]
    assert list(hours_of(hour * HOUR_S - 1, hour * HOUR_S + 1)) == [hour - 1, hour]


def test_a_missing_hour_is_empty() -> None:
    """A key that is not there, and a string that ends early or in the middle of a cell, read as zeros."""
    closes, stamps = read_hour(None, b"\x01" * 11)
    assert not closes.any()
    assert np.flatnonzero(stamps).tolist() == [0]
