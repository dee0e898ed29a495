"""Names of the synthetic exchange."""

import pytest

from marketfeed.domain.synthetic_symbols import KNOWN, SYMBOLS_MAX, synthetic_symbols
from marketfeed.generator.universe import make_universe


@pytest.mark.parametrize("count", [1, 50, 51, 400])
def test_the_generator_trades_these_names(count: int) -> None:
    """What is planned from a number alone is what the generator sends."""
    assert synthetic_symbols(count) == make_universe(count, 3, 1.0).symbols


def test_names_are_unique_and_bounded() -> None:
    """Every number of symbols within the bounds gives as many names."""
    assert len(set(synthetic_symbols(SYMBOLS_MAX))) == SYMBOLS_MAX
    assert synthetic_symbols(len(KNOWN))[0] == "AAPL"
    for wrong in (0, SYMBOLS_MAX + 1):
        with pytest.raises(ValueError, match="1 to 9999"):
            synthetic_symbols(wrong)
