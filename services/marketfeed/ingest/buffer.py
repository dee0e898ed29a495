"""Trades of symbols that this process does not speak for (yet): what a take-over reconciles with the log.

Bounded in trades in memory; what has no room there goes to disk, oldest first (`spill.py`), and when that is full, too,
the oldest batches go for good, and `lost` says what went, for a Gap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from marketfeed.domain.trades import BoolArray, TradeColumns
from marketfeed.ingest.spill import Spill, Spilled


@dataclass(frozen=True, slots=True)
class Lost:
    """Trades that were pushed out: the span of their stamps (Unix ns) and how many."""

    from_ts: int
    to_ts: int
    trades: int


@dataclass(slots=True)
class _Held:
    """A batch in memory; its number stays with it on disk."""

    number: int
    received_ts: int
    trades: TradeColumns


class StandbyBuffer:
    """Trades in order of arrival, taken out by symbol."""

    def __init__(self, trades_max: int, spill: Spill | None = None) -> None:
        """`trades_max`: in memory; without `spill` that is all."""
        self._trades_max = trades_max
        self._batches: deque[_Held] = deque()
        self._number = 0
        self._trades = 0
        self.spill = spill
        self.refused = 0  # writes that the disk refused
        self.lost: Lost | None = None

    def __len__(self) -> int:
        return self._trades + (self.spill.trades if self.spill else 0)

    @property
    def since_ts(self) -> int | None:
        """Arrival (our clock, Unix ns) of the oldest trades in here, None when there are none."""
        # Not simply the first: what a challenged owner sent in the last minute is added after newer trades of others.
        arrivals = [held.received_ts for held in self._batches] + [one.received_ts for one in self._on_disk()]
        return min(arrivals, default=None)

    @property
    def oldest_stamp(self) -> int | None:
        """The lowest stamp (Unix ns) of the trades in here, None when there are none."""
        stamps = [int(held.trades.event_ts.min()) for held in self._batches] + [one.first_ts for one in self._on_disk()]
        return min(stamps, default=None)

    def add(self, trades: TradeColumns, received_ts: int) -> None:
        """Keep trades that arrived at `received_ts`."""
        self._batches.append(_Held(self._number, received_ts, trades))
        self._number += 1
        self._trades += len(trades)
        while self._trades > self._trades_max and len(self._batches) > 1:
            gone = self._batches.popleft()
            self._trades -= len(gone.trades)
            self._spill(gone)

    def take_lost(self) -> Lost | None:
        """What was pushed out since the last call, which is then somebody else's to tell."""
        lost, self.lost = self.lost, None
        return lost

    def unseen(self, symbols: Collection[str], seen: set[int]) -> Iterator[tuple[int, TradeColumns]]:
        """(arrival, trades of these symbols) of the batches that are not in `seen`, oldest first: disk, then memory.

        They are added to it, and stay in here until `take`. Others may add trades meanwhile, so it is to be called
        again until it has nothing, and then `take` without a pause. `symbols` may shrink.
        """
        for one in self._on_disk():
            if one.number not in seen:
                seen.add(one.number)
                yield one.received_ts, self._untaken(one, frozenset(symbols))
        for held in tuple(self._batches):
            if held.number not in seen:
                seen.add(held.number)
                yield held.received_ts, held.trades.take(having(held.trades, frozenset(symbols)))

    def take(self, symbols: Collection[str]) -> None:
        """The trades of these symbols are in here no longer."""
        wanted = frozenset(symbols)
        left: deque[_Held] = deque()
        for held in self._batches:
            mask = having(held.trades, wanted)
            if mask.any():
                held.trades = held.trades.take(~mask)
            if len(held.trades):
                left.append(held)
        self._batches = left
        self._trades = sum(len(held.trades) for held in left)
        for one in self._on_disk():
            one.taken |= wanted

    def forget_before(self, event_ts: int) -> None:
        """Drop whole batches that are older than `event_ts`: the owner has them in the log."""
        spill = self.spill
        while spill is not None and spill.first is not None and spill.first.last_ts < event_ts:
            spill.drop_first()
        while self._batches and int(self._batches[0].trades.event_ts.max()) < event_ts:
            self._trades -= len(self._batches.popleft().trades)

    def clear(self) -> None:
        """Forget everything: every symbol that is subscribed to is published."""
        self._batches.clear()
        self._trades = 0
        if self.spill is not None:
            self.spill.clear()

    def _on_disk(self) -> tuple[Spilled, ...]:
        return tuple(self.spill) if self.spill is not None else ()

    def _spill(self, gone: _Held) -> None:
        """Put a batch on disk; where there is no room the oldest there go for good."""
        while self.spill is not None:
            try:
                if self.spill.append(gone.trades, gone.received_ts, gone.number):
                    return
            except OSError:
                self.refused += 1
                break
            oldest = self.spill.first
            if oldest is None:
                break
            self._lose(oldest.first_ts, oldest.last_ts, oldest.trades)
            self.spill.drop_first()
        stamps = gone.trades.event_ts
        self._lose(int(stamps.min()), int(stamps.max()), len(stamps))

    def _lose(self, first: int, last: int, count: int) -> None:
        if self.lost is not None:
            first, last = min(first, self.lost.from_ts), max(last, self.lost.to_ts)
            count += self.lost.trades
        self.lost = Lost(first, last, count)

    def _untaken(self, one: Spilled, symbols: frozenset[str]) -> TradeColumns:
        assert self.spill is not None
        batch = self.spill.read(one)
        return batch.take(having(batch, symbols - one.taken))


def having(trades: TradeColumns, symbols: frozenset[str]) -> BoolArray:
    """Which trades are of these symbols."""
    named = np.fromiter((symbol in symbols for symbol in trades.symbols), np.bool_, len(trades.symbols))
    mask: BoolArray = named[trades.symbol_index]
    return mask
