"""The list of symbols."""

import numpy as np

from marketfeed.generator.universe import make_universe


def test_known_names_come_first_and_are_never_repeated() -> None:
    """People find AAPL and BTC; the rest have numbers."""
    universe = make_universe(200, 1, 1.0)
    assert universe.symbols[0] == "AAPL"
    assert universe.symbols[50] == "SYM0051"
    assert "BINANCE:BTCUSDT" in universe.symbols
    assert len(set(universe.symbols)) == 200


def test_every_price_keeps_its_number_of_digits() -> None:
    """Start, ends of the range and the widest scatter all fit the symbol's layout."""
    universe = make_universe(2000, 7, 1.0)
    digits = np.array([sum((lay.int_digits, lay.decimals)) for lay in universe.layouts])[universe.layout]
    room = 3 * universe.spread_ticks
    assert (universe.low_ticks - room >= 10 ** (digits - 1)).all()
    assert (universe.high_ticks + room < 10**digits).all()
    assert ((universe.low_ticks <= universe.start_ticks) & (universe.start_ticks <= universe.high_ticks)).all()
