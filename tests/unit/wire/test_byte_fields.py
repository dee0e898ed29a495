"""Digits and short strings of a buffer as columns."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.wire.byte_fields import PAD, FieldIds, digits, padded


def positions(fields: list[bytes]) -> tuple[bytes, np.ndarray, np.ndarray]:
    """A text of these fields with a comma after each, and where they start and end."""
    length = np.array([len(f) for f in fields], np.int64)
    end = PAD + np.cumsum(length + 1) - 1
    return b"".join(f + b"," for f in fields), end - length, end


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 10**18).map(str), st.text("0123456789./:aé\0\xff", max_size=19)), min_size=1))
def test_digits_are_integers_and_nothing_else_is(texts: list[str]) -> None:
    """A field of ASCII digits is its integer; any other byte in it is noticed."""
    fields = [text.encode()[:19] for text in texts]
    text, start, end = positions(fields)
    value, plain = digits(padded(text)[1], end, end - start)
    for i, field in enumerate(fields):
        assert plain[i] == (field == b"" or field.isdigit())
        if plain[i]:
            assert value[i] == int(field or b"0")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.binary(max_size=24), min_size=1, max_size=30), min_size=1, max_size=4))
def test_equal_values_have_equal_ids(blocks: list[list[bytes]]) -> None:
    """From block to block a value keeps its id, and different values never share one, padding bytes included."""
    known = FieldIds()
    for fields in blocks:
        text, start, end = positions(fields)
        ids = known.ids(padded(text)[1], start, end - start)
        assert [known.values[i] for i in ids.tolist()] == fields
    assert len(set(known.values)) == len(known.values)


def test_values_that_meet_in_the_table_are_still_told_apart() -> None:
    """More values than the table has places: each has its own id."""
    fields = [b"%d" % i for i in range(70_000)]
    text, start, end = positions(fields)
    known = FieldIds()
    for _ in range(2):
        ids = known.ids(padded(text)[1], start, end - start)
    assert len(np.unique(ids)) == len(fields)
    assert [known.values[i] for i in ids[::9999].tolist()] == fields[::9999]
