"""Trades a second of each symbol, smoothed: what a plan is balanced by.

Mechanism: an exponentially weighted mean over `WINDOW_S`, divided by the weight that a symbol's time so far can have
reached, so that one that has just been taken over shows its true rate and not one that creeps up from nothing.
"""

from __future__ import annotations

import numpy as np

from marketfeed.domain.trades import Float64Array, Int64Array

WINDOW_S = 30.0
# A shorter stretch would show single frames.
_STRETCH_S = 0.25


class SymbolRates:
    """Told how many trades of each symbol there have been in all; ids are those of the caller's symbol table."""

    def __init__(self) -> None:
        self._before = np.zeros(0, np.int64)
        self._before_s: float | None = None
        self._weighted = np.zeros(0)
        self._weight = np.zeros(0)  # 0 before the first trade, towards 1 afterwards

    def observe(self, totals: Int64Array, now_s: float) -> None:
        """Totals by symbol id, which only grow, as of now (monotonic seconds)."""
        self._grow(len(totals))
        if self._before_s is None:
            self._before, self._before_s = totals.copy(), now_s
        span_s = now_s - self._before_s
        if span_s < _STRETCH_S:
            return
        share = 1.0 - float(np.exp(-span_s / WINDOW_S))
        rate = (totals - self._before) / span_s
        known = (self._weight > 0) | (rate > 0)
        self._weighted[known] += share * (rate[known] - self._weighted[known])
        self._weight[known] += share * (1.0 - self._weight[known])
        self._before, self._before_s = totals.copy(), now_s

    def rates(self) -> Float64Array:
        """Trades a second by symbol id, 0 for one that never traded."""
        return self._weighted / np.maximum(self._weight, 1e-9)

    def busiest(self, ids: Int64Array, most: int) -> list[tuple[int, float]]:
        """(symbol id, trades a second) of the `most` busiest of these ids, the busiest first; none at 0."""
        known = ids[ids < len(self._weighted)]
        rates = self.rates()[known]
        order = np.argsort(-rates, kind="stable")[:most]
        return [(int(known[at]), float(rates[at])) for at in order.tolist() if rates[at] > 0]

    def _grow(self, size: int) -> None:
        missing = size - len(self._before)
        if missing > 0:
            self._before = np.concatenate([self._before, np.zeros(missing, np.int64)])
            self._weighted = np.concatenate([self._weighted, np.zeros(missing)])
            self._weight = np.concatenate([self._weight, np.zeros(missing)])
