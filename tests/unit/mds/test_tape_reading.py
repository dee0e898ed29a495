"""Which bars changed since a place, and which symbols are meant."""

from __future__ import annotations

from typing import Any

import pytest

from marketfeed.domain.access import OPEN
from marketfeed.domain.errors import CallRefused
from marketfeed.domain.log import Gap
from marketfeed.domain.trades import NANOS
from marketfeed.mds.tape_reading import BEFORE_S, TapePlace, Touched, Wanted

T0 = 1_790_000_000


def test_bars_may_have_changed_from_what_was_traded_and_what_was_open(market: Any) -> None:
    """Each symbol's first changed second, less the time that a bar can be open; gaps are kept if asked for."""
    state = market.hub.state
    market.log.own("A", "B")
    market.log.trade("A", 1, 10.0)
    market.log.trade("A", 2000, 10.0)
    market.log.write(Gap(("B",), T0 * NANOS, T0 * NANOS, "restart", 0))
    market.log.trade("B", 1500, 10.0)
    market.hub.refresh()
    touched = Touched(Wanted(state, ["A", "B"], 2, OPEN), TapePlace(state, {0: 2}), keeps_gaps=True)
    ids = {name: state.symbols.id(name) for name in "AB"}
    assert touched.since() == {ids["A"]: T0 + 2000 - BEFORE_S, ids["B"]: T0 + 1500 - BEFORE_S}
    assert [gap.symbol_id.tolist() for gap in touched.gaps] == [[ids["B"]]]


def test_a_bar_that_was_open_and_closed_long_ago_is_not_forgotten(market: Any) -> None:
    """Its symbol has been silent since, while the others went on for much longer than a bar can be open."""
    state = market.hub.state
    market.log.own("A", "B")
    market.log.trade("A", 1, 10.0)
    market.log.watermark(5)
    for minute in range(60):
        market.log.trade("B", 60 * minute, 10.0)
        market.log.watermark(60 * minute)
    market.hub.refresh()
    touched = Touched(Wanted(state, ["A"], 1, OPEN), TapePlace(state, {0: 2}))
    assert touched.since() == {state.symbols.id("A"): T0 + 1 - BEFORE_S}
    touched = Touched(Wanted(state, ["A"], 1, OPEN), TapePlace(state, {0: len(market.log.records) - 4}))
    assert touched.since() == {}


def test_a_place_that_is_let_go_of_is_refused_with_its_position(market: Any) -> None:
    """So that its reader can resume."""
    market.log.own("A")
    market.hub.state.tape.forget(0, 1)
    with pytest.raises(CallRefused) as refused:
        TapePlace(market.hub.state, {0: 0}).read(0)
    assert refused.value.facts["position"] == "topic@0=0"
