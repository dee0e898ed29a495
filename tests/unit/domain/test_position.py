"""Positions: one text for each, and nothing but positions is read from text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain.position import Position

OFFSETS = st.dictionaries(st.integers(0, 200), st.integers(0, 2**62), max_size=12)


@given(st.text(alphabet="abcXYZ019_-", max_size=22), OFFSETS)
@settings(max_examples=25)
def test_text_goes_there_and_back(topic_id: str, offsets: dict[int, int]) -> None:
    """parse(text) is the position."""
    position = Position(topic_id, offsets)
    assert Position.parse(position.text()) == position


@pytest.mark.parametrize(
    "text", ["", "abc", "a@1", "a@1=", "a@1=2,", "a@1=2,1=3", "a@b@1=2", "a@1=-2", "a@" + "1=2," * 99_999]
)
def test_other_text_is_refused(text: str) -> None:
    """What no position makes raises ValueError."""
    with pytest.raises(ValueError, match="position"):
        Position.parse(text)


def test_one_position_covers_another_of_the_same_log() -> None:
    """Covering is per partition, and never across logs."""
    here = Position("log", {0: 5, 1: 7})
    assert here.covers(Position("log", {0: 5, 1: 6}))
    assert here.covers(Position("log", {}))
    assert not here.covers(Position("log", {0: 6}))
    assert not here.covers(Position("other", {0: 1}))
