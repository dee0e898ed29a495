"""COPY BINARY: what is packed is what PostgreSQL's format says, and comes back unchanged."""

from __future__ import annotations

import struct
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.wire.copy_binary import SIGNATURE, Field, Numeric, decode_rows, encode_rows


def read_numeric(cell: bytes) -> tuple[Fraction, int]:
    """(value, decimal places shown) of a NUMERIC as its wire format defines it, read in the plainest way."""
    ndigits, weight, sign, dscale = struct.unpack_from(">hhhh", cell)
    assert sign in {0, 0x4000}
    digits = struct.unpack_from(f">{ndigits}h", cell, 8)
    assert all(0 <= d < 10_000 for d in digits)
    return (-1 if sign else 1) * sum(
        (d * Fraction(10_000) ** (weight - i) for i, d in enumerate(digits)), Fraction(0)
    ), dscale


FIELDS = (
    Field("id", "int4"),
    Field("start", "timestamptz"),
    Field("day", "date"),
    Field("price", "float8"),
    Field("flag", "bool"),
    Field("small", "int2"),
    Field("big", "int8"),
)


@given(
    st.lists(
        st.tuples(
            st.integers(-(2**31), 2**31 - 1),
            st.integers(0, 4_000_000_000),
            st.integers(0, 40_000),
            st.floats(allow_nan=False),
            st.booleans(),
            st.integers(-(2**15), 2**15 - 1),
            st.integers(-(2**63), 2**63 - 1),
        ),
        max_size=20,
    )
)
@settings(max_examples=25)
def test_columns_come_back_as_they_went_in(rows: list[tuple[int, int, int, float, bool, int, int]]) -> None:
    """decode(encode(columns)) is the columns, for every fixed-width type and any number of rows."""
    kinds = (np.int32, np.int64, np.int64, np.float64, np.bool_, np.int16, np.int64)
    given_columns = {f.name: np.array([r[i] for r in rows], kinds[i]) for i, f in enumerate(FIELDS)}
    back = decode_rows(FIELDS, encode_rows(FIELDS, given_columns))
    for name, column in given_columns.items():
        np.testing.assert_array_equal(back[name], column)


@given(
    st.lists(
        st.tuples(st.integers(-(10**50), 10**50) | st.integers(0, 10**16), st.integers(0, 40)), min_size=1, max_size=20
    )
)
@settings(max_examples=40)
def test_numerics_are_exact_at_every_size_and_scale(values: list[tuple[int, int]]) -> None:
    """units * 10^-scale arrives as that decimal with that many places, whatever limb path the batch takes."""
    units = np.array([u for u, _ in values], object)
    scale = np.array([s for _, s in values], np.int64)
    body = encode_rows((Field("v", "numeric"),), {"v": Numeric(units, scale)})
    width = (len(body) - len(SIGNATURE) - 2) // len(values)
    for row, (unit, places) in enumerate(values):
        start = len(SIGNATURE) + row * width
        count, length = struct.unpack_from(">hi", body, start)
        assert (count, length) == (1, width - 6)
        assert read_numeric(body[start + 6 : start + width]) == (Fraction(unit, 10**places), places)


def test_a_foreign_body_is_refused() -> None:
    """Rows of another length, and a NULL, raise instead of being misread."""
    body = encode_rows((Field("a", "int4"),), {"a": np.array([1, 2, 3])})
    with pytest.raises(ValueError, match="does not hold rows"):
        decode_rows((Field("a", "int8"),), body)
    null = body.replace(struct.pack(">i", 4), struct.pack(">i", -1), 1)
    with pytest.raises(ValueError, match="NULL"):
        decode_rows((Field("a", "int4"),), null)
