"""A price to trade by is refused for every single reason against it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketfeed.domain.reference_price import NoPrice, PriceFacts, refusal

NOW = 10_000_000_000
GOOD = PriceFacts(12.5, NOW - 5_000_000_000, NOW - 1_000_000_000, "live", "trading", "regular", NOW - 6_000_000_000)


def test_a_quiet_symbol_with_a_fresh_watermark_has_a_price() -> None:
    """The last trade may be old: up to the watermark it is known that there is no newer one."""
    assert refusal(GOOD, NOW, 1_000_000_000) is None
    assert refusal(GOOD, NOW, 999_999_999) is not None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"price": None}, NoPrice.NO_TRADE),
        ({"event_ts": None}, NoPrice.NO_TRADE),
        ({"trading": "halted"}, NoPrice.HALTED),
        ({"trading": "closed"}, NoPrice.SESSION_CLOSED),
        ({"session": "closed"}, NoPrice.SESSION_CLOSED),
        ({"source": "stale"}, NoPrice.STALE),
        ({"source": "down"}, NoPrice.STALE),
        ({"watermark_ts": None}, NoPrice.STALE),
        ({"watermark_ts": NOW - 2_000_000_000}, NoPrice.STALE),
        ({"gap_to_ts": GOOD.event_ts}, NoPrice.FEED_GAP),
        ({"gap_to_ts": NOW}, NoPrice.FEED_GAP),
    ],
)
def test_one_reason_is_enough(change: dict[str, Any], reason: NoPrice) -> None:
    """Each one alone refuses, with a sentence."""
    refused = refusal(replace(GOOD, **change), NOW, 1_500_000_000)
    assert refused is not None
    assert refused[0] is reason
    assert refused[1]


@given(st.integers(0, 2 * NOW), st.integers(0, NOW), st.integers(0, NOW))
def test_a_price_that_is_given_is_never_older_than_allowed(watermark: int, now: int, max_age: int) -> None:
    """Whatever the clocks say: beyond the age there is a refusal."""
    facts = replace(GOOD, watermark_ts=watermark, gap_to_ts=None)
    assert (refusal(facts, now, max_age) is None) == (now - watermark <= max_age)
