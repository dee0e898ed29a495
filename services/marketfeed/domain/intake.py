"""What is let into the log: the rules for a live trade, and which symbols have fallen silent.

Mechanism: one pass of comparisons over whole columns; a NaN fails every comparison and so needs no test of its own.
Only when something is refused are the reasons worked out. Replays of old files do not pass here: their watermark is
the file's time.

It does not know what a usual price is: a wrong but possible price is let in, as every vendor's consumer would.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from marketfeed.domain.trades import NANOS, BoolArray, Float64Array, Int64Array

# A stamp further ahead of us than this must not move a watermark: it would close bars that are still being traded.
STAMP_AHEAD_MAX_S = 5
# Older than a day is a vendor's replay or a broken clock, not a late trade.
STAMP_AGE_MAX_S = 24 * 3600

# Reasons in the order in which they are looked for; a trade has the first that fits. They are labels of a metric.
REASONS = (
    "accepted",
    "unknown_symbol",
    "price_not_a_number",
    "price_not_positive",
    "price_absurd",
    "size_not_a_number",
    "size_negative",
    "size_absurd",
    "stamp_not_a_number",
    "stamp_ahead",
    "stamp_old",
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what is believed.

    price_max, size_max   above these a value is absurd: the dearest share costs under 1e6 and the weakest currency
                          under 1e6 a dollar, so 1e12 leaves room; float64 is exact for 15 digits
    price_min, size_min   below these it is absurd, too: sums are exact, and 1e-300 would give them 300 decimals
    stamp_ahead_max_s, stamp_age_max_s   how far a stamp may be from our clock
    """

    price_max: float = 1e12
    size_max: float = 1e15
    price_min: float = 1e-18
    size_min: float = 1e-18
    stamp_ahead_max_s: float = STAMP_AHEAD_MAX_S
    stamp_age_max_s: float = STAMP_AGE_MAX_S


def refused(
    symbol_id: Int64Array,
    stamp_ms: Float64Array,
    price: Float64Array,
    size: Float64Array,
    now_ts: int,
    limits: Limits,
) -> npt.NDArray[np.uint8] | None:
    """Per trade the position of its reason in REASONS, 0 for accepted; None when all are accepted (the usual case).

    symbol_id below 0 is an unknown symbol; `now_ts` is our clock in Unix nanoseconds.
    """
    now_ms = now_ts / 1e6
    newest, oldest = now_ms + limits.stamp_ahead_max_s * 1e3, now_ms - limits.stamp_age_max_s * 1e3
    good = (symbol_id >= 0) & (price >= limits.price_min) & (price <= limits.price_max)
    good &= ((size >= limits.size_min) | (size == 0.0)) & (size <= limits.size_max)
    good &= (stamp_ms <= newest) & (stamp_ms >= oldest)
    if good.all():
        return None
    tests: tuple[BoolArray, ...] = (
        symbol_id < 0,
        np.isnan(price),
        price <= 0.0,
        (price > limits.price_max) | (price < limits.price_min),
        np.isnan(size),
        size < 0.0,
        (size > limits.size_max) | ((size > 0.0) & (size < limits.size_min)),
        np.isnan(stamp_ms),
        stamp_ms > newest,
        stamp_ms < oldest,
    )
    return np.select(tests, [np.uint8(i) for i in range(1, len(REASONS))], np.uint8(0)).astype(np.uint8)


def stamps(stamp_ms: Float64Array) -> Int64Array:
    """Accepted stamps as Unix nanoseconds; a fraction of a millisecond is kept to the microsecond."""
    return np.rint(stamp_ms * 1e3).astype(np.int64) * 1000


class Silence:
    """When each symbol was last heard of, by our clock: a vendor may drop one symbol while the others flow."""

    def __init__(self) -> None:
        self._last_ts: Int64Array = np.zeros(0, np.int64)
        self._followed: BoolArray = np.zeros(0, np.bool_)

    def follow(self, symbol_ids: Int64Array, now_ts: int) -> None:
        """From now on exactly these symbols are expected; one that is new counts as heard of now."""
        size = int(symbol_ids.max(initial=-1)) + 1
        if size > len(self._last_ts):
            missing = size - len(self._last_ts)
            self._last_ts = np.concatenate([self._last_ts, np.zeros(missing, np.int64)])
            self._followed = np.concatenate([self._followed, np.zeros(missing, np.bool_)])
        followed = np.zeros(len(self._followed), np.bool_)
        followed[symbol_ids] = True
        self._last_ts[followed & ~self._followed] = now_ts
        self._followed = followed

    def heard(self, symbol_ids: Int64Array, now_ts: int) -> None:
        """Trades of these followed symbols arrived; repeats of an id cost nothing."""
        self._last_ts[symbol_ids] = now_ts

    def silent(self, now_ts: int, after_s: float) -> Int64Array:
        """Ids of the followed symbols of which nothing came for `after_s`."""
        return np.flatnonzero(self._followed & (self._last_ts < now_ts - int(after_s * NANOS))).astype(np.int64)

    def longest_s(self, now_ts: int) -> float:
        """Age in seconds of the word we have of the most silent symbol, 0 without symbols."""
        if not self._followed.any():
            return 0.0
        return max(0.0, (now_ts - int(self._last_ts[self._followed].min())) / NANOS)
