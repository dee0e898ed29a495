"""Decimals of floats are exactly those that Python prints."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain import decimals

FINITE = st.floats(allow_nan=False, allow_infinity=False)
# What a feed sends: up to 15 digits with a point somewhere.
FEED = st.builds(
    lambda digits, places: float(Decimal(digits).scaleb(-places)),
    st.integers(-(10**15) + 1, 10**15 - 1),
    st.integers(0, 12),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(FINITE, FEED), min_size=1, max_size=30))
def test_scale_is_the_smallest_that_holds_the_printed_decimal(values: list[float]) -> None:
    """Every value gets the scale of Decimal(repr(x)), or WIDE, and WIDE only beyond 15 digits."""
    found = decimals.scales(np.array(values))
    for value, scale in zip(values, found.tolist(), strict=True):
        units, expected = decimals.exact(value)
        assert decimals.to_decimal(units, expected) == Decimal(repr(value))
        if scale == decimals.WIDE:
            assert abs(units) >= decimals.UNITS_MAX or expected > decimals.SCALE_MAX
        else:
            assert scale == expected
            assert decimals.units_at(np.array([value]), decimals.POWERS[[scale]])[0] == units


@settings(max_examples=25, deadline=None)
@given(FEED)
def test_feed_decimals_of_15_digits_never_leave_the_fast_path(value: float) -> None:
    """A decimal of at most 15 digits and 12 places is not WIDE."""
    assert decimals.scales(np.array([value]))[0] != decimals.WIDE


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-(10**15) + 1, 10**15 - 1), st.integers(-(10**15) + 1, 10**15 - 1)),
        min_size=1,
        max_size=40,
    ),
    st.data(),
)
def test_sums_are_exact_whatever_the_size(pairs: list[tuple[int, int]], data: st.DataObject) -> None:
    """Segment sums and sums of products equal Python's integers, beyond 64 bits too."""
    cuts = data.draw(st.sets(st.integers(1, len(pairs)), max_size=5)) - {len(pairs)}
    starts = np.array(sorted({0} | cuts), np.intp)
    a, b = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    pieces = [pairs[i:j] for i, j in zip(starts.tolist(), [*starts.tolist()[1:], len(pairs)], strict=True)]
    assert decimals.sums(a, starts).tolist() == [sum(x for x, _ in piece) for piece in pieces]
    assert decimals.product_sums(a, b, starts).tolist() == [sum(x * y for x, y in piece) for piece in pieces]


def test_sums_split_into_halves_where_int64_would_overflow() -> None:
    """The sum of values near the limit is right though it has more than 64 bits."""
    values = np.full(1000, 2**61, np.int64)
    assert decimals.sums(values, np.array([0, 1], np.intp)).tolist() == [2**61, 999 * 2**61]


def test_amounts_are_compared_in_lowest_terms() -> None:
    """12.500 and 12.5 are the same amount; a narrow decimal context changes nothing."""
    assert decimals.lowest_terms(12500, 3) == decimals.lowest_terms(125, 1) == (125, 1)
    assert decimals.lowest_terms(0, 7) == (0, 0)
    assert decimals.sum_exactly([(125, 1), (3, 0), (1, 3)]) == (15501, 3)
    with localcontext() as context:
        context.prec = 3
        assert decimals.from_decimal(decimals.to_decimal(123456789, 4)) == (123456789, 4)


def test_rescaling_keeps_the_amount() -> None:
    """Units times ten to the places, of any size."""
    units = np.array([5, 10**30], object)
    assert decimals.rescale(units, np.array([2, 1])).tolist() == [500, 10**31]
    assert decimals.rescale(units, np.array([0, 0])) is units


def test_a_value_without_digits_is_refused() -> None:
    """NaN and infinities have no decimal."""
    with pytest.raises(ValueError, match="no decimal digits"):
        decimals.exact(float("inf"))
