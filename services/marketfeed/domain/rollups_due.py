"""Which roll-ups have to be made anew, and since when: the books of whoever keeps 1 m, 1 h and 1 d beside the seconds.

A changed second makes its minute due, a minute made anew its hour, an hour its day. Minutes are made after a pause of
seconds, hours and days after a longer one, so that the cost follows the number of active symbols and not the number of
flushes. What is due survives its holder: `frontier` names, per partition, the offset and the second from which on
changes may be missing in the roll-ups; whoever comes next reads those seconds back and marks them.

States move with the watermark alone. `crossed` names the ranges of bars whose state has changed since the last call;
every symbol has its own phase within the minute for the seconds, which spreads the work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from marketfeed.domain.bar_window import CLOSE_AFTER_S, LATENESS_S
from marketfeed.domain.rollup import INTERVALS, bucket_ends, bucket_starts
from marketfeed.domain.sessions import Calendar
from marketfeed.domain.trades import BoolArray, Int64Array

COARSER = ("1m", "1h", "1d")
SETTLE_EVERY_S = 60
FIRST_SETTLE_S = 2 * 86_400
NOTHING_DUE_S = 2**40

# (symbol_id, start_s of the bucket) -> (partition's offset, first second) since when it is due
_Pending = dict[tuple[int, int], tuple[int, int]]
PartitionsOf = Callable[[Int64Array], Int64Array]


@dataclass(frozen=True, slots=True, eq=False)
class DueBuckets:
    """Buckets of an interval to recompute, with what the watermark says of them."""

    interval: str
    symbol_id: Int64Array
    start_s: Int64Array
    end_s: Int64Array
    closed: BoolArray
    final: BoolArray


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """Bars of an interval, per symbol, that start in [from_s, closed_s) are CLOSED or REVISED, before final_s FINAL."""

    interval: str
    symbol_id: Int64Array
    from_s: Int64Array
    closed_s: Int64Array
    final_s: Int64Array


class RollupsDue:
    """The books. `partitions_of` gives the partition of symbol ids."""

    def __init__(self, calendar: Calendar, partitions_of: PartitionsOf) -> None:
        self._calendar = calendar
        self._partitions_of = partitions_of
        self._pending: dict[str, _Pending] = {interval: {} for interval in COARSER}
        self._settled_s: Int64Array = np.zeros(0, np.int64)

    def __len__(self) -> int:
        """Buckets due, of all intervals."""
        return sum(len(pending) for pending in self._pending.values())

    def mark(self, symbol_id: Int64Array, start_s: Int64Array, since: Mapping[int, int]) -> None:
        """Seconds that changed; `since` is, per partition, the offset that the change is not below."""
        minute = bucket_starts(start_s, "1m", self._calendar)
        keys = np.unique(np.stack([symbol_id, minute], axis=1), axis=0) if len(minute) else np.empty((0, 2), np.int64)
        partitions = self._partitions_of(keys[:, 0]).tolist()
        pending = self._pending["1m"]
        for (symbol, bucket_s), partition in zip(keys.tolist(), partitions, strict=True):
            if (symbol, bucket_s) not in pending:
                pending[symbol, bucket_s] = (since[partition], bucket_s)

    def waiting(self, now: float, times: Mapping[str, float]) -> bool:
        """Whether an interval has buckets due whose time (same clock as `now`) has come."""
        return any(pending and now >= times[interval] for interval, pending in self._pending.items())

    def take(self, interval: str, reached_s: Int64Array, at_most: int) -> DueBuckets:
        """The buckets of an interval that have been due longest; the coarser ones above them are due from now on.

        `reached_s` holds the watermarks in whole seconds by symbol id. What is taken has to be recomputed in the
        transaction that stores the next `frontier`.
        """
        pending = self._pending[interval]
        chosen = list(pending)[:at_most]
        taken = {key: pending.pop(key) for key in chosen}
        symbol_id = np.array([symbol for symbol, _ in taken], np.int64)
        start_s = np.array([start for _, start in taken], np.int64)
        if interval != COARSER[-1]:
            coarser = COARSER[COARSER.index(interval) + 1]
            above = self._pending[coarser]
            parents = bucket_starts(start_s, coarser, self._calendar).tolist()
            for (symbol, _), since, parent_s in zip(taken, taken.values(), parents, strict=True):
                held = above.get((symbol, parent_s))
                above[symbol, parent_s] = since if held is None else (min(held[0], since[0]), min(held[1], since[1]))
        end_s = bucket_ends(start_s, interval, self._calendar)
        reached = reached_s[symbol_id]
        closed, final = reached >= end_s + CLOSE_AFTER_S, reached >= end_s + LATENESS_S
        return DueBuckets(interval, symbol_id, start_s, end_s, closed, final)

    def frontier(self, next_offsets: Mapping[int, int]) -> dict[int, tuple[int, int]]:
        """Per partition (offset, second) from which on changes may be missing; nothing is before `next_offsets`."""
        frontier = {partition: (offset, NOTHING_DUE_S) for partition, offset in next_offsets.items()}
        for pending in self._pending.values():
            symbol_id = np.fromiter((symbol for symbol, _ in pending), np.int64, len(pending))
            for partition, (offset, second) in zip(
                self._partitions_of(symbol_id).tolist(), pending.values(), strict=True
            ):
                held = frontier[partition]
                frontier[partition] = (min(held[0], offset), min(held[1], second))
        return frontier

    def load_watermarks(self, reached_s: Int64Array) -> None:
        """The watermarks (seconds, by symbol id) as of which stored states are right."""
        self._settled_s = reached_s.copy()

    def crossed(self, reached_s: Int64Array, phase_s: Int64Array) -> list[Settled]:
        """Ranges of bars whose state follows from the watermark having crossed a whole minute since the last call.

        reached_s  watermarks in seconds by symbol id; phase_s  of each symbol, 0 to 59
        """
        before = np.zeros(len(reached_s), np.int64)
        before[: len(self._settled_s)] = self._settled_s[: len(reached_s)]
        # Without a watermark before, all bars were OPEN: those of the last days are enough to look at.
        before = np.where(before > 0, before, reached_s - FIRST_SETTLE_S)
        self._settled_s = reached_s.copy()
        settled = []
        for interval in ("1s", *COARSER):
            phase = phase_s if interval == "1s" else CLOSE_AFTER_S
            now_q, before_q = ((s - phase) // SETTLE_EVERY_S * SETTLE_EVERY_S for s in (reached_s, before))
            ids = np.flatnonzero((now_q > before_q) & (reached_s > 0))
            if not len(ids):
                continue
            if interval == "1s":
                # The window writes CLOSED and REVISED seconds itself; FINAL is all that is left.
                final_s = now_q[ids] - LATENESS_S
                settled.append(Settled(interval, ids, before_q[ids] - LATENESS_S, final_s, final_s))
            else:
                closed_s = bucket_starts(now_q[ids], interval, self._calendar)
                final_s = bucket_starts(now_q[ids] - LATENESS_S, interval, self._calendar)
                from_s = bucket_starts(before_q[ids] - LATENESS_S, interval, self._calendar)
                settled.append(Settled(interval, ids, from_s, closed_s, final_s))
        return settled


assert tuple(INTERVALS) == ("1s", *COARSER)
