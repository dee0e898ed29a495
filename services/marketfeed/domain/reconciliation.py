"""Joining two records of the same trades that carry no ids: the multiset difference, and credits.

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


def difference(held: TradeColumns, logged: TradeColumns) -> tuple[TradeColumns, TradeColumns]:
    """(what `held` has beyond `logged`, what `logged` has beyond `held`), as multisets, each in its own order.

    Of equal trades the first ones are taken to be the common ones.
    """
    if not len(held) or not len(logged):
        return held, logged
    group, rank = _ranks(concat([held, logged]), len(held))
    groups = int(group.max()) + 1
    held_group, logged_group = group[: len(held)], group[len(held) :]
    in_held = np.bincount(held_group, minlength=groups)
    in_logged = np.bincount(logged_group, minlength=groups)
    beyond = rank[: len(held)] >= in_logged[held_group]
    credit = rank[len(held) :] >= in_held[logged_group]
    return _chosen(held, beyond), _chosen(logged, credit)


class Credits:
    """What the log held beyond the buffer, to be set off against trades that arrive late.

    `until_s` is the caller's monotonic time at which they lapse (`CREDITS_KEPT_S` after going live).
    """

    def __init__(self, trades: TradeColumns, until_s: float) -> None:
        self._left = trades
        self._stamps: Int64Array = np.unique(trades.event_ts)
        self._until_s = until_s
        self.spent = 0

    def __len__(self) -> int:
        return len(self._left)

    def spend(self, trades: TradeColumns, now_s: float) -> TradeColumns:
        """The trades to publish: those given, in their order, less the ones that a credit stands for."""
        if not len(self._left) or not len(trades):
            return trades
        if now_s >= self._until_s:
            self._left, self._stamps = no_trades(), np.empty(0, np.int64)
            return trades
        suspects = np.isin(trades.event_ts, self._stamps)
        if not suspects.any():
            return trades
        positions = np.flatnonzero(suspects)
        candidates = trades.take(positions)
        group, rank = _ranks(concat([candidates, self._left]), len(candidates))
        mine = group[: len(candidates)]
        available = np.bincount(group[len(candidates) :], minlength=int(group.max()) + 1)
        consumed = positions[rank[: len(candidates)] < available[mine]]
        if not len(consumed):
            return trades
        _, self._left = difference(candidates, self._left)
        self._stamps = np.unique(self._left.event_ts)
        self.spent += len(consumed)
        keep = np.ones(len(trades), np.bool_)
        keep[consumed] = False
        return trades.take(keep)


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
