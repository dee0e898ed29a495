"""Trades of symbols that this process does not speak for (yet): what a take-over reconciles with the log.

Bounded in trades. When it is full the oldest batches go, and `lost` says what went, for a Gap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from marketfeed.domain.trades import BoolArray, TradeColumns, concat, no_trades


@dataclass(frozen=True, slots=True)
class Lost:
    """Trades that were pushed out: the span of their stamps (Unix ns) and how many."""

    from_ts: int
    to_ts: int
    trades: int


class StandbyBuffer:
    """Trades in order of arrival, taken out by symbol."""

    def __init__(self, trades_max: int) -> None:
        self._trades_max = trades_max
        self._batches: deque[tuple[int, TradeColumns]] = deque()
        self._trades = 0
        self.lost: Lost | None = None

    def __len__(self) -> int:
        return self._trades

    @property
    def since_ts(self) -> int | None:
        """Arrival (our clock, Unix ns) of the oldest trades in here, None when there are none."""
        # Not simply the first: what a challenged owner sent in the last minute is added after newer trades of others.
        return min((received_ts for received_ts, _ in self._batches), default=None)

    @property
    def oldest_stamp(self) -> int | None:
        """The lowest stamp (Unix ns) of the trades in here, None when there are none."""
        return min((int(batch.event_ts.min()) for _, batch in self._batches), default=None)

    def add(self, trades: TradeColumns, received_ts: int) -> None:
        """Keep trades that arrived at `received_ts`."""
        self._batches.append((received_ts, trades))
        self._trades += len(trades)
        while self._trades > self._trades_max and len(self._batches) > 1:
            _, gone = self._batches.popleft()
            self._trades -= len(gone)
            first, last, count = int(gone.event_ts.min()), int(gone.event_ts.max()), len(gone)
            if self.lost is not None:
                first, last = min(first, self.lost.from_ts), max(last, self.lost.to_ts)
                count += self.lost.trades
            self.lost = Lost(first, last, count)

    def take_lost(self) -> Lost | None:
        """What was pushed out since the last call, which is then somebody else's to tell."""
        lost, self.lost = self.lost, None
        return lost

    def take(self, symbols: Collection[str]) -> TradeColumns:
        """The trades of these symbols, which leave the buffer."""
        wanted = frozenset(symbols)
        taken: list[TradeColumns] = []
        left: deque[tuple[int, TradeColumns]] = deque()
        for received_ts, batch in self._batches:
            mask = having(batch, wanted)
            if mask.all():
                taken.append(batch)
            elif mask.any():
                taken.append(batch.take(mask))
                left.append((received_ts, batch.take(~mask)))
            else:
                left.append((received_ts, batch))
        self._batches = left
        self._trades = sum(len(batch) for _, batch in left)
        return concat(taken) if taken else no_trades()

    def forget_before(self, event_ts: int) -> None:
        """Drop whole batches that are older than `event_ts`: the owner has them in the log."""
        while self._batches and int(self._batches[0][1].event_ts.max()) < event_ts:
            self._trades -= len(self._batches.popleft()[1])


def having(trades: TradeColumns, symbols: frozenset[str]) -> BoolArray:
    """Which trades are of these symbols."""
    named = np.fromiter((symbol in symbols for symbol in trades.symbols), np.bool_, len(trades.symbols))
    mask: BoolArray = named[trades.symbol_index]
    return mask
