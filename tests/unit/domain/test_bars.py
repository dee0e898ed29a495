"""Bars do not depend on how the tape is cut or in which order its pieces come; their sums are exact."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain import bars
from marketfeed.domain.trades import NANOS

Trade = tuple[int, int, float, float]  # symbol_id, event_ts, price, size

PRICES = st.one_of(
    st.integers(1, 99_999).map(lambda cents: cents / 100),
    st.integers(1, 10**9).map(lambda units: units / 10**8),
    st.sampled_from([0.1 + 0.2, 123456789012345.0, 1e300, 5e-324, 1e15, 60000.12]),
)
SIZES = st.one_of(st.integers(0, 500).map(float), st.sampled_from([0.00012345, 1.1, 1e-300, 1e22, 999999999999999.0]))
STAMPS = st.integers(0, 40).map(lambda tenths: 1_700_000_000 * NANOS + tenths * NANOS // 10)
TAPES = st.lists(st.tuples(st.integers(0, 3), STAMPS, PRICES, SIZES), min_size=1, max_size=40)


def reduced(tape: list[Trade], first_offset: int = 0) -> bars.BarColumns:
    """Bars of a tape whose trades stand three to a record."""
    place = np.arange(first_offset, first_offset + len(tape))
    symbol_id, event_ts, price, size = zip(*tape, strict=True)
    return bars.reduce_trades(
        np.array(symbol_id, np.int64),
        np.array(event_ts, np.int64),
        np.array(price),
        np.array(size),
        place // 3,
        place % 3,
    )


def rows(columns: bars.BarColumns) -> list[tuple[object, ...]]:
    """Bars as comparable tuples."""
    return list(zip(*(getattr(columns, name).tolist() for name in bars.COLUMNS), strict=True))


@settings(max_examples=30, deadline=None)
@given(TAPES)
def test_a_bar_is_what_its_trades_say(tape: list[Trade]) -> None:
    """Prices, counts and exact decimal sums equal a plain computation with Decimal."""
    found = reduced(tape)
    keys = sorted({(s, ts // NANOS) for s, ts, _, _ in tape})
    assert list(zip(found.symbol_id.tolist(), found.start_s.tolist(), strict=True)) == keys
    for i, (symbol, second) in enumerate(keys):
        own = [t for t in tape if (t[0], t[1] // NANOS) == (symbol, second)]
        in_time = sorted(own, key=lambda t: t[1])
        assert (found.open[i], found.close[i]) == (in_time[0][2], in_time[-1][2])
        assert (found.high[i], found.low[i]) == (max(t[2] for t in own), min(t[2] for t in own))
        assert found.trades[i] == sum(t[3] != 0 for t in own)
        volume = sum(_units(t[3], 400) for t in own)
        notional = sum(_units(t[2], 400) * _units(t[3], 400) for t in own)
        scale = int(found.size_scale[i])
        assert int(found.volume[i]) * 10 ** (400 - scale) == volume
        assert int(found.notional[i]) * 10 ** (800 - scale - int(found.price_scale[i])) == notional


@settings(max_examples=30, deadline=None)
@given(TAPES, st.data())
def test_any_cutting_and_any_order_of_the_pieces_gives_the_same_bars(tape: list[Trade], data: st.DataObject) -> None:
    """merge is associative and commutative: pieces of the tape, merged in any order, are the whole tape's bars."""
    cuts = sorted(data.draw(st.sets(st.integers(1, 39), max_size=4)) | {0, len(tape)})
    pieces = [reduced(tape[i:j], i) for i, j in pairwise(cuts) if i < min(j, len(tape))]
    whole = rows(reduced(tape))
    shuffled = data.draw(st.permutations(pieces))
    left = shuffled[0]
    for piece in shuffled[1:]:
        left = bars.merge(left, piece)
    right = shuffled[-1]
    for piece in reversed(shuffled[:-1]):
        right = bars.merge(right, piece)
    assert rows(left) == rows(right) == rows(bars.combine(bars.stack(shuffled))) == whole


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_arrival_that_keeps_equal_stamps_in_order_gives_the_same_bar(data: st.DataObject) -> None:
    """Every field but the places in the log is equal when trades of different stamps change places."""
    tape = data.draw(TAPES)
    shuffle = data.draw(st.permutations(range(len(tape))))
    by_stamp: dict[int, list[Trade]] = {}
    for trade in tape:
        by_stamp.setdefault(trade[1], []).append(trade)
    mixed = [by_stamp[tape[i][1]].pop(0) for i in shuffle]
    placeless = [c for c in bars.COLUMNS if not c.endswith(("_offset", "_index"))]
    one, other = reduced(tape), reduced(mixed)
    for column in placeless:
        assert getattr(one, column).tolist() == getattr(other, column).tolist(), column


def test_a_price_update_moves_prices_and_is_no_trade() -> None:
    """A size of 0 makes a bar of volume 0 and 0 trades; its vwap does not exist."""
    found = reduced([(0, NANOS, 10.5, 0.0), (1, NANOS, 10.0, 2.0), (1, NANOS + 1, 10.5, 1.0)])
    assert (found.trades.tolist(), found.volume.tolist()) == ([0, 2], [0, 3])
    vwap = found.vwap()
    assert np.isnan(vwap[0])
    assert vwap[1] == float(Decimal("30.5") / 3)
    assert (found.price_scale.tolist(), found.size_scale.tolist()) == ([1, 1], [0, 0])


def test_limbs_carry_sums_beyond_64_bits() -> None:
    """Fifteen digits times fifteen digits, a thousand times over, is exact."""
    tape: list[Trade] = [(0, NANOS, 99999999.9999999, 99999999.9999999)] * 1000
    found = reduced(tape)
    assert (found.price_scale[0], found.size_scale[0]) == (7, 7)
    assert found.notional[0] == 999_999_999_999_999**2 * 1000
    assert found.volume[0] == 999_999_999_999_999 * 1000


def test_stamps_far_apart_are_sorted_too() -> None:
    """A range of stamps that does not fit the packed key takes the other way to the same order."""
    tape = [(s, ts, 1.0, 1.0) for s in (2**40, 0) for ts in (2**62, 5, 2**62, 0)]
    found = reduced(tape)
    assert found.symbol_id.tolist() == [0, 0, 2**40, 2**40]
    assert found.trades.tolist() == [2, 2, 2, 2]


def test_nothing_in_nothing_out() -> None:
    """No trades make no bars, and no bars merge to none."""
    assert len(bars.combine(bars.no_bars())) == len(bars.stack([])) == 0
    none = np.empty(0, np.int64)
    assert len(bars.reduce_trades(none, none, np.empty(0), np.empty(0), none, none)) == 0


def _units(value: float, scale: int) -> int:
    """The printed decimal of a float as an integer of 10^-scale."""
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    assert isinstance(exponent, int)
    return (-1 if sign else 1) * int("".join(map(str, digits))) * 10 ** (scale + exponent)
