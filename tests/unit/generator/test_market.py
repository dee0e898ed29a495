"""The schedule: deterministic, moving, and with everything a real day has."""

import numpy as np

from marketfeed.domain.synthetic_symbols import CRYPTO, FX
from marketfeed.generator.market import LATE_MS_MAX, Market, MarketShape, intensity

START_MS = 1_767_366_000_000


def shape(**values: object) -> MarketShape:
    return MarketShape(**({"seed": 1, "start_ms": START_MS, "symbols": 60, "rate": 4_000.0} | values))  # type: ignore[arg-type]


def test_same_seed_and_start_give_the_same_trades_another_seed_does_not() -> None:
    """Deterministic in (seed, start instant)."""
    first, again, other = Market(shape()), Market(shape()), Market(shape(seed=2))
    for _ in range(300):
        a, b, c = first.next(), again.next(), other.next()
        assert np.array_equal(a.stamp_ms, b.stamp_ms)
        assert np.array_equal(a.price_ticks, b.price_ticks)
    assert not np.array_equal(a.price_ticks, c.price_ticks)


def test_skipping_changes_nothing_that_comes_after() -> None:
    """Who was connected when has no influence on the market."""
    played, skipped = Market(shape()), Market(shape())
    for _ in range(100):
        played.next()
        skipped.skip()
    assert np.array_equal(played.next().price_ticks, skipped.next().price_ticks)


def test_prices_move_and_stay_in_their_range() -> None:
    """A walk, reflected: no price leaves its digits, and none stands still."""
    market = Market(shape())
    universe, seen = market.universe, []
    for _ in range(2000):
        made = market.next()
        symbol = market.pages.symbol[made.pattern * market.pages.per_slice :][: market.pages.per_slice]
        spread = 3 * universe.spread_ticks[symbol]
        assert (made.price_ticks >= universe.low_ticks[symbol] - spread).all()
        assert (made.price_ticks <= universe.high_ticks[symbol] + spread).all()
        seen.append(made.price_ticks[symbol == 0])
    assert len(np.unique(np.concatenate(seen))) > 10


def test_slices_share_no_millisecond_and_keep_the_rate() -> None:
    """On-time stamps lie in their own slice; over a long time the mean is the rate."""
    market = Market(shape(burst_share=0.2))
    count, end_ms = 0, START_MS
    for _ in range(12_000):
        made = market.next()
        assert made.start_ms == end_ms < made.end_ms
        end_ms = made.end_ms
        at = slice(made.pattern * market.pages.per_slice, (made.pattern + 1) * market.pages.per_slice)
        on_time = market.pages.back_ms[at] == 0
        assert (made.stamp_ms[on_time] >= made.start_ms).all()
        assert (made.stamp_ms < made.end_ms).all()
        count += len(made.stamp_ms)
    assert abs(count / ((end_ms - START_MS) / 1e3) / 4_000 - 1) < 0.15


def test_patterns_hold_late_and_disordered_trades_updates_and_null_conditions() -> None:
    """All that a real feed sends is there, for every symbol, and the size tells the class."""
    market = Market(shape(late_share=0.01, disorder_share=0.05, update_share=0.02))
    pages, kind = market.pages, market.universe.kind
    assert set(pages.symbol.tolist()) == set(range(60))
    late = pages.back_ms >= 1500
    disorder = (pages.back_ms > 0) & ~late
    assert late.any()
    assert disorder.any()
    assert pages.back_ms.max() <= LATE_MS_MAX
    assert (pages.size_units[late] % 10 == 7).all()
    assert (pages.size_units[disorder] % 10 == 3).all()
    assert not np.isin(pages.size_units[pages.back_ms == 0] % 10, (3, 7)).any()
    assert (pages.size_units[kind[pages.symbol] == FX] == 0).all()
    assert (pages.condition[kind[pages.symbol] == CRYPTO] == 0).all()


def test_a_u_shaped_day_is_dense_at_its_ends() -> None:
    """Open and close outdo noon, and the night is nearly still."""
    day = shape(day_curve="u", burst_share=0.0)
    midnight = START_MS - START_MS % 86_400_000
    at = {
        name: intensity(day, midnight + ms) for name, ms in (("open", 52_200_000), ("noon", 63_900_000), ("night", 0))
    }
    assert at["open"] > 2 > 1 > at["noon"] > at["night"]
