"""The plan file."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain.sharding import make_plan
from marketfeed.wire.plan import decode_plan, encode_plan


@given(st.sets(st.text(min_size=1, max_size=12), max_size=30), st.integers(1, 5), st.integers(0, 8))
@settings(max_examples=25, deadline=None)
def test_a_plan_survives_its_file(symbols: set[str], shards: int, capacity: int) -> None:
    """Encoding and decoding give the same plan, overflow and weights included."""
    plan = make_plan(symbols, [1.0] * shards, [capacity] * shards)
    assert decode_plan(encode_plan(plan)) == plan


def test_revision_and_assignments_are_enough() -> None:
    """A plan written by hand needs no more."""
    plan = decode_plan(b'{"revision": 2, "assigned": {"AAPL": 1}}')
    assert (plan.revision, dict(plan.assigned), plan.overflow) == (2, {"AAPL": 1}, ())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b'{"revision": 1}',
        b'{"revision": 1, "assigned": {"A": -1}}',
        b'{"assigned": {}, "x": 1}',
        b"\xff",
        b'{"revision": 1, "assigned": {"": 0}}',
    ],
)
def test_what_is_not_a_plan_says_so(text: bytes) -> None:
    """A half-written or wrong file is a ValueError, so that the plan in force stays."""
    with pytest.raises(ValueError, match="not a plan"):
        decode_plan(text)
