"""The synthetic exchange's list of symbols: names, price ranges, decimals, and how often each trades. Pure.

The first fifty are names people know, the rest are SYM0051, SYM0052, … A symbol's price keeps its number of digits for
ever (187.50 may walk between 100.00 and 999.99): that is what lets a price be patched into an encoded frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from marketfeed.domain.synthetic_symbols import CRYPTO, KNOWN, STOCK, synthetic_symbols
from marketfeed.domain.trades import Float64Array, Int64Array

# Prices of the nameless: log-uniform in this range.
_OTHERS_FROM, _OTHERS_TO = 12.0, 880.0
# Half the width of the band in which single trades scatter around the walk, as a share of the price.
_SPREAD = 1e-4


@dataclass(frozen=True, slots=True)
class Layout:
    """How a price is written: so many digits, a point, so many decimals."""

    int_digits: int
    decimals: int

    @property
    def placeholder(self) -> bytes:
        """A price of this layout, all digits nought."""
        return b"0" * self.int_digits + b"." + b"0" * self.decimals


@dataclass(frozen=True, eq=False)
class Universe:
    """All symbols as equally long columns, most traded first.

    kind          int8, STOCK | CRYPTO | FX
    layout        int8, position in `layouts`
    price_scale   int64, decimals of a price; a price is an integer of ticks of 10^-price_scale
    size_scale    int64, decimals of a size
    start_ticks   int64, price at the start; `low_ticks` to `high_ticks` is the range in which it walks
    spread_ticks  int64, how far single trades scatter around the walk
    weight        float64, share of the trades, sums to 1
    """

    symbols: tuple[str, ...]
    kind: npt.NDArray[np.int8]
    layouts: tuple[Layout, ...]
    layout: npt.NDArray[np.int8]
    price_scale: Int64Array
    size_scale: Int64Array
    start_ticks: Int64Array
    low_ticks: Int64Array
    high_ticks: Int64Array
    spread_ticks: Int64Array
    weight: Float64Array

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def position(self) -> dict[str, int]:
        """Symbol -> its place in the columns."""
        return {symbol: place for place, symbol in enumerate(self.symbols)}


def make_universe(count: int, seed: int, zipf_exponent: float) -> Universe:
    """`count` symbols; the prices of those without a known name depend on `seed` only."""
    rng = np.random.Generator(np.random.PCG64([seed, 1]))
    others = np.exp(rng.uniform(np.log(_OTHERS_FROM), np.log(_OTHERS_TO), max(count - len(KNOWN), 0)))
    names = synthetic_symbols(count)[len(KNOWN) :]
    unnamed = [(name, STOCK, f"{price:.2f}") for name, price in zip(names, others.tolist(), strict=True)]
    listed = [*KNOWN[:count], *unnamed]
    wanted = [_layout_of(price) for _, _, price in listed]
    layouts = tuple(dict.fromkeys(wanted))
    start = np.array([int(price.replace(".", "")) for _, _, price in listed], np.int64)
    spread = np.maximum(1, np.rint(start * _SPREAD).astype(np.int64))
    digits = np.array([layout.int_digits + layout.decimals for layout in wanted], np.int64)
    # A single trade scatters by three spreads at most, and must keep the number of digits, too.
    room = 3 * spread + 1
    kind = np.array([kind for _, kind, _ in listed], np.int8)
    low = np.maximum(10 ** (digits - 1) + room, start // 2)
    high = np.minimum(10**digits - 1 - room, start * 2)
    weight = np.arange(1, count + 1, dtype=np.float64) ** -zipf_exponent
    return Universe(
        symbols=tuple(symbol for symbol, _, _ in listed),
        kind=kind,
        layouts=layouts,
        layout=np.array([layouts.index(layout) for layout in wanted], np.int8),
        price_scale=np.array([layout.decimals for layout in wanted], np.int64),
        size_scale=np.where(kind == CRYPTO, 6, 0).astype(np.int64),
        start_ticks=np.clip(start, low, high),
        low_ticks=low,
        high_ticks=high,
        spread_ticks=spread,
        weight=weight / weight.sum(),
    )


def _layout_of(price: str) -> Layout:
    whole, decimals = price.split(".")
    return Layout(len(whole), len(decimals))
