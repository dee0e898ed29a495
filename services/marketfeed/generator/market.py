"""The synthetic market: which symbol trades when, at what price, for what size. Pure and deterministic.

Everything follows from (seed, start instant, rate, number of symbols); the reader of the schedule changes nothing, so
two shards that ask for different symbols together see the very trades that one connection would see.

Mechanism
- A *page* is a fixed pattern of trades (symbols, sizes, conditions, small price offsets), cut into *slices* of about
  5 ms. The schedule plays slices, one page after another, pages chosen by a hash of the slice's number. Patterns come
  back; stamps and prices do not: each slice gets its own stamps, and prices move with a random walk per symbol that
  takes one step per slice (vectorised over symbols) and is reflected at the ends of the symbol's range.
- Intensity (bursts, the U of a trading day) changes how long a slice lasts, never what is in it. Its mean is 1.
- Slices never share a millisecond. With the next rule this makes every encoded frame unique without looking at it:
- Each trade has a class, on time, out of order or late, that its size tells (last digit 3: out of order, 7: late, never
  so otherwise), and a symbol's trades of one class are all late by the same time. Equal frames of two slices would
  have equal classes, hence equal lateness, hence equal instants: but slices share none. (`frames.py` sees to the
  frames of one slice.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from marketfeed.domain.synthetic_symbols import CRYPTO, FX, STOCK
from marketfeed.domain.trades import Conditions, Float64Array, Int64Array
from marketfeed.generator.universe import Universe, make_universe

Int32Array = npt.NDArray[np.int32]

SLICE_MS = 5.0
_SLICES_PER_PAGE = 16
_PAGES = 16
# The walk's unit is 2^-12 of a tick, so that slow symbols and short slices still move.
_WALK_BITS = 12
_STEPS = 256
# Standard deviation of a price over one second, as a share of it: about three times a calm stock's, to be seen.
_VOLATILITY = 3e-4
# A page is kept about this long before another mood of the market may begin.
_MOOD_MS = 2_000
_BURST_MS = 200
_INTENSITY_MAX = 4.9
_INTENSITY_MIN = 0.05
_DAY_MS = 86_400_000
# The U of a day spans a New York session in winter: 14:30 to 21:00 UTC.
_SESSION_MS = (52_200_000, 75_600_000)
LATE_MS_MAX = 20_000
_LATE_MS_MIN = 1_500
_DISORDER_MS = (2, 800)

CONDITION_SETS: tuple[Conditions, ...] = (
    None, ("1",), ("1", "8"), ("1", "12"), ("1", "8", "12"), ("1", "24", "12"), ("1", "30"), ("1", "30", "12"),
)  # fmt: skip
_REGULAR, _SWEEP, _SOLD = 1, 2, 6
_ODD_LOT = np.array([0, 3, 4, 3, 4, 5, 7, 7], np.int8)  # condition set -> the same with "odd lot"

_MASK64 = (1 << 64) - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class MarketShape:
    """What a market is made from.

    rate                       mean trades a second over all symbols
    burst_share, burst_factor  share of the time that is a burst, and how many times denser it is
    late_share                 share of trades 1.5 to 20 s late; `disorder_share` of those up to 0.8 s out of order
    update_share               share of stock trades that are price updates of size 0
    day_curve                  "flat", or "u": dense at the ends of the session, thin outside
    """

    seed: int
    start_ms: int
    symbols: int
    rate: float
    zipf_exponent: float = 1.0
    burst_share: float = 0.04
    burst_factor: float = 3.0
    late_share: float = 0.0002
    disorder_share: float = 0.01
    update_share: float = 0.01
    day_curve: str = "flat"


@dataclass(frozen=True, slots=True, eq=False)
class Pages:
    """All patterns, as columns over pages x slices x trades of a slice.

    symbol      int32, place in the universe
    size_units  int64, units of 10^-size_scale; 0 is a price update
    condition   int8, place in CONDITION_SETS
    offset      int32, ticks from the walk
    instant     float64 in [0, 1), place within its slice, rising
    back_ms     int64, how much earlier than its instant the trade is stamped
    """

    per_slice: int
    slices: int
    symbol: Int32Array
    size_units: Int64Array
    condition: npt.NDArray[np.int8]
    offset: Int32Array
    instant: Float64Array
    back_ms: Int64Array


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """The trades due in [start_ms, end_ms).

    number       position in the schedule
    pattern      position of its pattern: trades pattern * per_slice onwards of the pages
    stamp_ms     int64, event time in Unix milliseconds
    price_ticks  int64
    """

    number: int
    pattern: int
    start_ms: int
    end_ms: int
    stamp_ms: Int64Array
    price_ticks: Int64Array


class Market:
    """Walks through the schedule, slice by slice."""

    def __init__(self, shape: MarketShape) -> None:
        self.shape = shape
        self.universe = make_universe(shape.symbols, shape.seed, shape.zipf_exponent)
        self.pages = make_pages(shape, self.universe)
        self._slice_s = self.pages.per_slice / shape.rate
        self._steps = _walk_steps(shape.seed, self.universe, self._slice_s)
        self._low = self.universe.low_ticks << _WALK_BITS
        self._high = self.universe.high_ticks << _WALK_BITS
        self._walk = self.universe.start_ticks << _WALK_BITS
        self._number = 0
        self._boundary_ms = float(shape.start_ms)
        self._start_ms = shape.start_ms
        self._page = 0
        self.end_ms = 0  # when the next slice is complete
        self._plan()

    def next(self) -> Slice:
        """The next slice, with stamps and prices."""
        per_slice, pattern = self.pages.per_slice, self._pattern()
        at = slice(pattern * per_slice, (pattern + 1) * per_slice)
        instants = self.pages.instant[at] * (self.end_ms - self._start_ms)
        stamp_ms = instants.astype(np.int64) + (self._start_ms - self.pages.back_ms[at])
        price_ticks = (self._walk >> _WALK_BITS)[self.pages.symbol[at]] + self.pages.offset[at]
        made = Slice(self._number, pattern, self._start_ms, self.end_ms, stamp_ms, price_ticks)
        self._advance()
        return made

    def skip(self) -> None:
        """Pass over a slice: prices walk on, nobody learns its trades."""
        self._advance()

    def _pattern(self) -> int:
        return self._page * _SLICES_PER_PAGE + self._number % _SLICES_PER_PAGE

    def _advance(self) -> None:
        chosen = mix(self.shape.seed, self._number)
        step = self._steps[chosen % _STEPS]
        if chosen >> 32 & 1:
            self._walk += step
        else:
            self._walk -= step
        # Reflected at both ends; a step is far shorter than the range.
        np.subtract(self._high, np.abs(self._high - self._walk), out=self._walk)
        np.add(self._low, np.abs(self._walk - self._low), out=self._walk)
        self._number += 1
        self._start_ms = self.end_ms
        self._plan()

    def _plan(self) -> None:
        """Decide the pattern and the end of the slice that comes next."""
        seed = self.shape.seed
        if self._number % _SLICES_PER_PAGE == 0:
            run = self._number // _SLICES_PER_PAGE
            mood = mix(seed + 1, (self._start_ms - self.shape.start_ms) // _MOOD_MS)
            wander = mix(seed + 2, run)
            self._page = (wander >> 8 if wander & 3 == 0 else mood + (wander >> 16) % 3) % _PAGES
        self._boundary_ms += 1e3 * self._slice_s / intensity(self.shape, self._start_ms)
        self.end_ms = max(int(self._boundary_ms), self._start_ms + 1)


def mix(seed: int, number: int) -> int:
    """A 64-bit hash of two integers (splitmix64's finaliser), the schedule's source of chance after the start."""
    x = (seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & _MASK64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK64
    return x ^ (x >> 31)


def intensity(shape: MarketShape, at_ms: int) -> float:
    """How many times denser than the mean the market trades at an instant."""
    day = _day_curve(at_ms % _DAY_MS) if shape.day_curve == "u" else 1.0
    window = mix(shape.seed + 3, (at_ms - shape.start_ms) // _BURST_MS)
    share, factor = shape.burst_share, shape.burst_factor
    if (window >> 11) / (1 << 53) < share:
        return min(day * factor, _INTENSITY_MAX)
    calm = (1.0 - share * factor) / (1.0 - share)
    return min(max(day * calm, _INTENSITY_MIN), _INTENSITY_MAX)


def _day_curve(of_day_ms: int) -> float:
    """The U: 2.2 at the open and the close, 0.4 at noon, mean 1; a tenth outside the session."""
    begin, end = _SESSION_MS
    if not begin <= of_day_ms < end:
        return 0.1
    from_middle = 2.0 * (of_day_ms - begin) / (end - begin) - 1.0
    return 0.4 + 1.8 * from_middle * from_middle


def make_pages(shape: MarketShape, universe: Universe) -> Pages:
    """All patterns of a market; every symbol is in one of them at least."""
    rng = np.random.Generator(np.random.PCG64([shape.seed, 2]))
    per_slice = max(1, round(shape.rate * SLICE_MS / 1e3))
    slices = _PAGES * _SLICES_PER_PAGE
    symbol = _symbols(rng, universe, per_slice * _SLICES_PER_PAGE)
    total = len(symbol)
    kind = universe.kind[symbol]
    chance = rng.random(total)
    # FX sends nothing but updates of size 0, which are always on time.
    late = (chance < shape.late_share) & (kind != FX)
    disorder = (chance >= shape.late_share) & (chance < shape.late_share + shape.disorder_share) & (kind != FX)
    update = (kind == FX) | ((rng.random(total) < shape.update_share) & ~late & ~disorder)
    size_units = _sizes(rng, kind, late, disorder)
    size_units[update] = 0
    late_by = rng.integers(_LATE_MS_MIN, LATE_MS_MAX, len(universe))[symbol]
    disordered_by = rng.integers(*_DISORDER_MS, len(universe))[symbol]
    spread = universe.spread_ticks[symbol]
    offset = np.clip(np.rint(rng.normal(0.0, 0.8, total) * spread), -3 * spread, 3 * spread)
    return Pages(
        per_slice=per_slice,
        slices=slices,
        symbol=symbol,
        size_units=size_units,
        condition=_conditions(rng, kind, size_units, late),
        offset=offset.astype(np.int32),
        instant=np.sort(rng.random((slices, per_slice)), axis=1).reshape(-1),
        back_ms=np.where(late, late_by, np.where(disorder, disordered_by, 0)).astype(np.int64),
    )


def _symbols(rng: np.random.Generator, universe: Universe, per_page: int) -> Int32Array:
    """Zipf's law on every page, each page with its own favourites."""
    pages = []
    for _ in range(_PAGES):
        weight = universe.weight * np.exp(rng.normal(0.0, 0.5, len(universe)))
        edges = np.cumsum(weight)
        chosen = np.searchsorted(edges, rng.random(per_page) * edges[-1], side="right")
        pages.append(np.minimum(chosen, len(universe) - 1))
    symbol = np.concatenate(pages).astype(np.int32)
    missing = np.setdiff1d(np.arange(len(universe)), symbol)[: len(symbol)]
    symbol[rng.choice(len(symbol), len(missing), replace=False)] = missing
    return symbol


def _sizes(
    rng: np.random.Generator, kind: npt.NDArray[np.int8], late: npt.NDArray[np.bool_], disorder: npt.NDArray[np.bool_]
) -> Int64Array:
    """Sizes above 0 whose last digit tells the class: 7 late, 3 out of order, neither otherwise."""
    total = len(kind)
    odd_lot = 1 + (rng.pareto(1.2, total) * 8).astype(np.int64) % 99
    round_lot = 100 * (1 + (rng.pareto(1.5, total) * 1.2).astype(np.int64) % 200)
    stock = np.where(rng.random(total) < 0.62, odd_lot, round_lot)
    coin = 100 * (1 + (rng.pareto(1.1, total) * 60).astype(np.int64) % 50_000)
    size = np.where(kind == CRYPTO, coin, stock)
    size += np.isin(size % 10, (3, 7))
    marked = size // 10 * 10
    return np.where(late, marked + 7, np.where(disorder, marked + 3, size)).astype(np.int64)


def _conditions(
    rng: np.random.Generator, kind: npt.NDArray[np.int8], size_units: Int64Array, late: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int8]:
    """Regular, swept or, when late, sold out of sequence, with "odd lot" below 100; none off the stock market."""
    found = np.where(rng.random(len(kind)) < 0.4, _SWEEP, _REGULAR)
    found = np.where(late, _SOLD, found)
    found = np.where((size_units < 100) & (size_units > 0), _ODD_LOT[found], found)
    return np.where(kind == STOCK, found, 0).astype(np.int8)


def _walk_steps(seed: int, universe: Universe, slice_s: float) -> Int64Array:
    """Steps of the walk for one slice, (_STEPS, symbols), in walk units; fat tails, so that there are jumps."""
    rng = np.random.Generator(np.random.PCG64([seed, 3]))
    # Variance 1; cut at eight so that one step stays far below a symbol's range.
    chance = np.clip(rng.standard_t(4, (_STEPS, len(universe))) / np.sqrt(2.0), -8.0, 8.0)
    by_symbol = universe.start_ticks * (_VOLATILITY * np.sqrt(slice_s) * (1 << _WALK_BITS))
    # At a trade a minute a step must still not leave the range.
    steps = np.rint(chance * np.minimum(by_symbol, (universe.start_ticks << _WALK_BITS) * 0.01))
    return np.asarray(steps, np.int64)
