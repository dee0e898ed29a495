"""Exact decimals of float columns: the digits the feed sent, as integers.

A vendor writes 187.43; float64 keeps that decimal up to 15 digits. Here it is found again: the decimal of a float is
the shortest one that reads back as the same float, `Decimal(repr(x))`, written as an integer of 10^-scale with the
smallest scale >= 0 that holds it. Sums of such integers are exact, so they do not depend on the order of the trades.

Rules of this file
- The fast path takes values of at most 15 digits at the scale wanted (`UNITS_MAX`): below that, the integer, 10^scale
  and their quotient are exact or correctly rounded, so `rint(x * 10^k) / 10^k == x` decides.
- Everything else (`WIDE`) goes through `exact`, one value at a time: slow, and right for any finite float.
- Sums are int64 where that cannot overflow; where it could, limbs are summed and joined as Python integers.

Values are finite: a NaN or an infinity has no decimal and raises ValueError.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from marketfeed.domain.trades import BoolArray, Float64Array, Int64Array

# Python integers of any size, one per bar, in a numpy column of dtype object.
ObjectArray = npt.NDArray[Any]

WIDE = -1
UNITS_MAX = 10**15
SCALE_MAX = 15
# 10^k is exact in float64 up to k = 22; made from integers, because a power function need not be exact.
POWERS: Float64Array = np.array([float(10**k) for k in range(SCALE_MAX + 1)])
_INT64_SAFE = 2**62
_LIMB_BITS = 25
_HALF_BITS = 31


def scales(values: Float64Array) -> Int64Array:
    """The smallest scale of each value, int64, or WIDE where it needs more than 15 digits.

    >>> scales(np.array([187.43, 100.0, 0.1 + 0.2])).tolist()
    [2, 0, -1]
    """
    found = np.zeros(len(values), np.int64)
    largest = float(np.abs(values).max(initial=0.0))
    if largest >= UNITS_MAX:
        too_large = np.abs(values) >= UNITS_MAX
        found[~too_large] = scales(values[~too_large])
        found[too_large] = WIDE
        return found
    chosen = np.flatnonzero(_missed(values, 0, largest))
    rest = values[chosen]
    for scale in range(1, SCALE_MAX + 1):
        if not len(chosen):
            return found
        found[chosen] = scale
        again = np.flatnonzero(_missed(rest, scale, largest))
        chosen, rest = chosen[again], rest[again]
    found[chosen] = WIDE
    return found


def exact(value: float) -> tuple[int, int]:
    """(units, smallest scale) of any finite float. Raises ValueError for NaN and infinities.

    >>> exact(0.1 + 0.2)
    (30000000000000004, 17)
    """
    return from_decimal(Decimal(repr(float(value))))


def from_decimal(value: Decimal) -> tuple[int, int]:
    """(units, smallest scale >= 0) of a decimal, exactly. Raises ValueError for NaN and infinities."""
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise ValueError(f"{value} has no decimal digits")
    units = int("".join(map(str, digits)))
    units = -units if sign else units
    if exponent >= 0:
        return units * 10**exponent, 0
    return lowest_terms(units, -exponent)


def lowest_terms(units: int, scale: int) -> tuple[int, int]:
    """The same number with the smallest scale >= 0: how amounts of different scales are compared."""
    if units == 0:
        return 0, 0
    while scale > 0 and units % 10 == 0:
        units, scale = units // 10, scale - 1
    return units, scale


def to_decimal(units: int, scale: int) -> Decimal:
    """`units` of 10^-scale as a Decimal with `scale` places, exact whatever the decimal context.

    >>> to_decimal(18743, 2)
    Decimal('187.43')
    """
    return Decimal(f"{units}E-{scale}")


def rescale(units: ObjectArray, places: Int64Array) -> ObjectArray:
    """Each integer times 10^places (places >= 0), object; the same array when there is nothing to do."""
    chosen = np.flatnonzero(places)
    if not len(chosen):
        return units
    scaled = units.copy()
    scaled[chosen] *= np.array([10**p for p in places[chosen].tolist()], object)
    return scaled


def units_at(values: Float64Array, powers: Float64Array) -> Int64Array:
    """The values as integers of 1/powers, int64; exact where the result is below UNITS_MAX and the scale suffices."""
    return np.rint(values * powers).astype(np.int64)


def sums(values: Int64Array, starts: npt.NDArray[np.intp]) -> ObjectArray:
    """Exact sums of the segments that begin at `starts` (rising, the first 0), as Python integers.

    Holds for |value| < 2^62 and segments of less than 2^31 values.
    """
    if _largest(values) * len(values) < _INT64_SAFE:
        return np.add.reduceat(values, starts).astype(object)
    high = np.add.reduceat(values >> _HALF_BITS, starts).astype(object)
    low = np.add.reduceat(values & ((1 << _HALF_BITS) - 1), starts).astype(object)
    return np.asarray(high * (1 << _HALF_BITS) + low)


def product_sums(a: Int64Array, b: Int64Array, starts: npt.NDArray[np.intp]) -> ObjectArray:
    """Exact sums of a*b over the segments that begin at `starts`, as Python integers; |a| and |b| < UNITS_MAX.

    Where the products would not fit int64 they are taken in limbs of 25 bits, each of which does.
    """
    if _largest(a) * _largest(b) < _INT64_SAFE:
        return sums(a * b, starts)
    mask = (1 << _LIMB_BITS) - 1
    a_high, a_low, b_high, b_low = a >> _LIMB_BITS, a & mask, b >> _LIMB_BITS, b & mask
    high = sums(a_high * b_high, starts)
    middle = sums(a_high * b_low + a_low * b_high, starts)
    low = sums(a_low * b_low, starts)
    return np.asarray(high * (1 << 2 * _LIMB_BITS) + middle * (1 << _LIMB_BITS) + low)


def sum_exactly(amounts: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The sum of (units, scale) amounts, at the finest scale among them; (0, 0) for none."""
    scale = max((s for _, s in amounts), default=0)
    return sum(units * 10 ** (scale - s) for units, s in amounts), scale


def _missed(values: Float64Array, scale: int, largest: float) -> BoolArray:
    """Which values are not an integer of at most 15 digits times 10^-scale; `largest` bounds their magnitude."""
    power = POWERS[scale]
    units = np.rint(values * power)
    missed: BoolArray = units / power != values
    if largest * power >= UNITS_MAX:
        missed |= np.abs(units) >= UNITS_MAX
    return missed


def _largest(values: Int64Array) -> int:
    """The greatest magnitude in a column, 0 for an empty one."""
    return max(abs(int(values.max(initial=0))), abs(int(values.min(initial=0))))
