"""A stretch of the tape, cut into the trades of each symbol: what readers who want a few symbols each can share.

One sort for all of them; a symbol's part is a slice. Trades of a symbol keep the order of the log, as a symbol lives in
one partition.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from marketfeed.domain.tape import TapeTrades
from marketfeed.domain.trades import Conditions


@dataclass(frozen=True, slots=True, eq=False)
class SymbolTape:
    """Trades of one symbol in the order of the log, as equally long lists, see `TapeTrades`.

    conditions               of each trade; None if none of them has any
    received_ts, append_ts   of the last of them
    """

    symbol_id: int
    partition: int
    event_ts: list[int]
    price: list[float]
    size: list[float]
    offset: list[int]
    index: list[int]
    conditions: list[Conditions] | None
    received_ts: int
    append_ts: int

    def __len__(self) -> int:
        return len(self.event_ts)


class TapeCut:
    """The trades of some events, each partition's in the order of its log, by symbol.

    Whole columns become lists in one go, once somebody asks: a symbol's part is then a slice of each.
    """

    def __init__(self, events: Iterable[object]) -> None:
        self._events = [event for event in events if isinstance(event, TapeTrades) and len(event)]
        ids = _joined([event.symbol_id for event in self._events])
        self._order = np.argsort(ids, kind="stable")
        ordered = ids[self._order]
        edges = np.flatnonzero(np.diff(ordered, prepend=-1, append=-1))
        spans = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        self._spans = {int(ordered[first]): slice(first, stop) for first, stop in spans}

    def __len__(self) -> int:
        return len(self._order)

    @property
    def symbol_ids(self) -> frozenset[int]:
        """Symbols with a trade in here."""
        return frozenset(self._spans)

    def of(self, symbol_id: int) -> SymbolTape:
        """The trades of a symbol that has some."""
        span = self._spans[symbol_id]
        newest = self._events[self._event_of[span.stop - 1]]
        conditions = None if self._conditions is None else self._conditions[span]
        if conditions is not None and conditions.count(None) == len(conditions):
            conditions = None
        return SymbolTape(
            symbol_id=symbol_id,
            partition=newest.partition,
            conditions=conditions,
            received_ts=newest.received_ts,
            append_ts=newest.append_ts,
            **{name: column[span] for name, column in self._columns.items()},
        )

    @cached_property
    def _columns(self) -> dict[str, list[Any]]:
        names = ("event_ts", "price", "size", "offset", "index")
        return {name: _joined([getattr(event, name) for event in self._events])[self._order].tolist() for name in names}

    @cached_property
    def _event_of(self) -> list[int]:
        """Of each trade the event that it came in."""
        lengths = [len(event) for event in self._events]
        found: list[int] = np.repeat(np.arange(len(self._events)), lengths)[self._order].tolist()
        return found

    @cached_property
    def _conditions(self) -> list[Conditions] | None:
        """The codes of each trade; None if nobody has any."""
        sets: list[Conditions] = []
        places = []
        for event in self._events:
            places.append(event.condition_index.astype(np.int64) + len(sets))
            sets += event.condition_sets
        if sets.count(None) == len(sets):
            return None
        return [sets[place] for place in _joined(places)[self._order].tolist()]


def _joined(parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
