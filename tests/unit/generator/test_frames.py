"""Frames made by patching say exactly what the slice says, and no two are equal."""

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.generator.frames import Encoder, payload_of, size_text
from marketfeed.generator.market import CONDITION_SETS, Market, MarketShape, Slice


def market_of(rate: float, symbols: int, seed: int = 1, **values: float) -> Market:
    return Market(
        MarketShape(seed=seed, start_ms=1_767_366_000_000, symbols=symbols, rate=rate, **values)  # type: ignore[arg-type]
    )


def frames_of(encoder: Encoder, made: Slice, wanted: Any = None) -> list[bytes]:
    template = encoder.template(made.pattern, wanted)
    if template is None:
        return []
    data, edges = template.patch(made), template.frame_starts
    return [payload_of(data[a:b]) for a, b in pairwise(edges)]


def expected(market: Market, made: Slice, wanted: Any = None) -> list[tuple[Any, ...]]:
    """The slice's trades, written the slow way."""
    universe, pages, rows = market.universe, market.pages, []
    for i in range(pages.per_slice):
        at = made.pattern * pages.per_slice + i
        symbol = int(pages.symbol[at])
        if wanted is None or wanted[symbol]:
            codes = CONDITION_SETS[pages.condition[at]]
            price = int(made.price_ticks[i]) / 10 ** int(universe.price_scale[symbol])
            size = int(pages.size_units[at]) / 10 ** int(universe.size_scale[symbol])
            codes_list = None if codes is None else list(codes)
            rows.append((codes_list, price, universe.symbols[symbol], int(made.stamp_ms[i]), size))
    return rows


def told(frames: list[bytes]) -> list[tuple[Any, ...]]:
    parsed = [json.loads(frame) for frame in frames]
    assert all(list(frame) == ["data", "type"] and frame["type"] == "trade" for frame in parsed)
    return [(t["c"], t["p"], t["s"], t["t"], float(t["v"])) for frame in parsed for t in frame["data"]]


@pytest.mark.parametrize(("rate", "symbols"), [(1.0, 3), (900.0, 50), (40_000.0, 70)])
def test_frames_hold_the_trades_of_the_slice_in_order(rate: float, symbols: int) -> None:
    """Whatever the rate, JSON says what the columns say."""
    market = market_of(rate, symbols)
    encoder = Encoder(market.universe, market.pages, 20)
    for _ in range(40):
        made = market.next()
        assert told(frames_of(encoder, made)) == expected(market, made)


@settings(max_examples=20, deadline=None)
@given(st.sets(st.integers(0, 29)), st.integers(0, 5))
def test_a_choice_of_symbols_gets_its_trades_and_no_others(chosen: set[int], seed: int) -> None:
    """Two shards together are told what one connection is told."""
    market = market_of(2_000, 30, seed)
    encoder = Encoder(market.universe, market.pages, 7)
    wanted = np.isin(np.arange(30), list(chosen))
    made = market.next()
    assert told(frames_of(encoder, made, wanted)) == expected(market, made, wanted)
    both = told(frames_of(encoder, made, wanted)) + told(frames_of(encoder, made, ~wanted))
    assert sorted(map(repr, both)) == sorted(map(repr, expected(market, made)))


@pytest.mark.parametrize(("rate", "symbols", "wanted"), [(9_000.0, 2, 1), (3_000.0, 1, 1), (12_000.0, 40, 40)])
def test_no_two_frames_are_equal(rate: float, symbols: int, wanted: int) -> None:
    """A byte-identical frame would be taken for a repeat and be lost; few symbols and low rates are the hard cases."""
    market = market_of(rate, symbols, late_share=0.2, disorder_share=0.2)
    encoder = Encoder(market.universe, market.pages, 1)
    mask = np.arange(symbols) < wanted
    sent: list[bytes] = []
    for _ in range(450):
        sent += frames_of(encoder, market.next(), mask)
    assert len(set(sent)) == len(sent) > 400


def test_sizes_are_written_as_the_shortest_decimal() -> None:
    """As the feed writes them."""
    assert [size_text(*of) for of in ((0, 6), (12_300, 6), (5_000_000, 6), (100, 0))] == [b"0", b"0.0123", b"5", b"100"]
