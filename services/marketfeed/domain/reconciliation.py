"""Joining two records of the same trades that carry no ids: the multiset difference, as credits that are spent.

A new owner holds a buffer of what it received (after a restart: its spool) and reads back what the log counts already.
Of each tuple (symbol, event_ts, price, size, conditions) it publishes the copies that its buffer holds beyond the log.
What the log holds beyond the buffer stays as credits: this connection may lag the one that wrote the log, so a trade
received later that matches a credit is consumed instead of published. Real trades may be identical in every field;
hence multisets and never sets.

How far to read back: from `READ_BACK_NS` of LogAppendTime before the buffer's start, and `LEARN_NS` more for a reader
that knows no owners. The same difference serves a reconnect inside one process, between what was sent last and what is
received first. Everything is sorted columns; nothing loops over trades.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from marketfeed.domain.trades import NANOS, Int64Array, TradeColumns, concat, no_trades

READ_BACK_NS = 60 * NANOS
CREDITS_KEPT_S = 60.0


class Credits:
    """What the log holds, to be set off against what was buffered and then against trades that arrive late.

    Of equal trades the first ones are taken to be the common ones. Batch by batch, as sorting minutes of trades at once
    takes seconds in which nothing else happens. `until_s` is the caller's monotonic time at which they lapse
    (`CREDITS_KEPT_S` after going live).
    """

    def __init__(self, trades: TradeColumns, until_s: float) -> None:
        self._held = trades.take(np.argsort(trades.event_ts, kind="stable")) if len(trades) else trades
        self._open = np.ones(len(trades), np.bool_)
        self._until_s = until_s
        self._left = len(trades)
        self.spent = 0

    def __len__(self) -> int:
        return self._left

    def left(self) -> TradeColumns:
        """The credits that were not spent, in order of their stamps."""
        return _chosen(self._held, self._open) if self._left else no_trades()

    def spend(self, trades: TradeColumns, now_s: float) -> TradeColumns:
        """The trades to publish: those given, in their order, less the ones that a credit stands for.

        Costs nothing while all stamps are newer than the credits', and per credit of an equal stamp otherwise.
        """
        if now_s >= self._until_s:
            self._held, self._left = no_trades(), 0
        if not self._left or not len(trades):
            return trades
        stamps = self._held.event_ts
        positions = np.flatnonzero((trades.event_ts >= stamps[0]) & (trades.event_ts <= stamps[-1]))
        first = np.searchsorted(stamps, trades.event_ts[positions], "left")
        end = np.searchsorted(stamps, trades.event_ts[positions], "right")
        positions = positions[end > first]
        near = _spans(*(np.unique(edge[end > first]) for edge in (first, end)))
        near = near[self._open[near]]
        if not len(near):
            return trades
        candidates = trades.take(positions)
        group, rank = _ranks(concat([candidates, self._held.take(near)]), len(candidates))
        (mine, theirs), (my_rank, their_rank) = ((x[: len(candidates)], x[len(candidates) :]) for x in (group, rank))
        groups = int(group.max()) + 1
        matched = my_rank < np.bincount(theirs, minlength=groups)[mine]
        if not matched.any():
            return trades
        self._open[near[their_rank < np.bincount(mine[matched], minlength=groups)[theirs]]] = False
        self.spent += int(matched.sum())
        self._left -= int(matched.sum())
        keep = np.ones(len(trades), np.bool_)
        keep[positions[matched]] = False
        return trades.take(keep)


def _spans(first: Int64Array, end: Int64Array) -> Int64Array:
    """All positions of disjoint spans [first, end) given in ascending order."""
    lengths = end - first
    before = np.cumsum(lengths) - lengths
    spans: Int64Array = np.arange(int(lengths.sum())) + np.repeat(first - before, lengths)
    return spans


def _chosen(trades: TradeColumns, mask: npt.NDArray[np.bool_]) -> TradeColumns:
    if mask.all():
        return trades
    return trades.take(mask) if mask.any() else no_trades()


def _ranks(trades: TradeColumns, split: int) -> tuple[Int64Array, Int64Array]:
    """For each trade the number of its group of equal trades, and how many of its group stand before it.

    Ranks count anew on each side of `split`. Prices and sizes compare as numbers, so -0.0 equals 0.0.
    """
    count = len(trades)
    side = np.arange(count) >= split
    keys = (
        side,
        trades.condition_index,
        (trades.size + 0.0).view(np.int64),
        (trades.price + 0.0).view(np.int64),
        trades.symbol_index,
        trades.event_ts,
    )
    order = np.lexsort(keys)  # stable: within a group and side in the order given
    fresh = np.zeros(count, np.bool_)
    fresh[0] = True
    for key in keys[1:]:
        ordered = key[order]
        fresh[1:] |= ordered[1:] != ordered[:-1]
    ordered_side = side[order]
    side_start = fresh.copy()
    side_start[1:] |= ordered_side[1:] != ordered_side[:-1]
    starts = np.flatnonzero(side_start)
    place = np.arange(count)
    group, rank = np.empty(count, np.int64), np.empty(count, np.int64)
    group[order] = np.cumsum(fresh) - 1
    rank[order] = place - np.repeat(starts, np.diff(np.append(starts, count)))
    return group, rank
