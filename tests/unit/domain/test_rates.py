"""Smoothed rates of symbols."""

from __future__ import annotations

import numpy as np
import pytest

from marketfeed.domain.rates import WINDOW_S, SymbolRates


def test_a_steady_symbol_shows_its_rate_at_once() -> None:
    """Also one that begins late, and in whatever steps it is told."""
    rates = SymbolRates()
    totals = np.zeros(2, np.int64)
    for tick in range(100):
        totals = totals + np.array([50, 10 if tick >= 90 else 0])
        rates.observe(totals, 1000 + tick * 0.5)
    found = dict(rates.busiest(np.array([0, 1]), 10))
    assert found[0] == pytest.approx(100)
    assert found[1] == pytest.approx(20)


def test_a_change_is_taken_in_over_the_window() -> None:
    """After one window of silence about a third is left."""
    rates, total = SymbolRates(), 0
    for second in range(300):
        total += 100
        rates.observe(np.array([total]), float(second))
    for second in range(300, 300 + int(WINDOW_S)):
        rates.observe(np.array([total]), float(second))
    assert rates.rates()[0] == pytest.approx(100 / np.e, rel=0.05)


def test_only_the_busiest_of_those_asked_for_are_named() -> None:
    """In order, none at nothing, and ids that came after the last look are passed over."""
    rates = SymbolRates()
    rates.observe(np.zeros(4, np.int64), 0.0)
    rates.observe(np.zeros(4, np.int64), 0.1)
    rates.observe(np.array([5, 40, 0, 20]), 1.0)
    assert [one for one, _ in rates.busiest(np.array([0, 1, 2, 3, 9]), 2)] == [1, 3]
    assert [one for one, _ in rates.busiest(np.array([0, 2]), 2)] == [0]
    rates.observe(np.array([5, 40, 0, 20, 7]), 2.0)
    assert [one for one, _ in rates.busiest(np.array([2, 4]), 2)] == [4]
