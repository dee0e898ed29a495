"""A stretch of the tape, cut into the trades of each symbol: what readers who want a few symbols each can share.

One sort for all of them; a symbol's part is a slice. Trades of a symbol keep the order of the log, as a symbol lives in
one partition.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from marketfeed.domain.tape import TapeTrades
from marketfeed.domain.trades import Conditions, Float64Array, Int64Array


@dataclass(frozen=True, slots=True, eq=False)
class SymbolTape:
    """Trades of one symbol in the order of the log. Columns are equally long, see `TapeTrades`.

    conditions               of each trade; None if none of them has any
    received_ts, append_ts   of the last of them
    """

    symbol_id: int
    partition: int
    event_ts: Int64Array
    price: Float64Array
    size: Float64Array
    offset: Int64Array
    index: Int64Array
    conditions: list[Conditions] | None
    received_ts: int
    append_ts: int

    def __len__(self) -> int:
        return len(self.event_ts)


class TapeCut:
    """The trades of some events, each partition's in the order of its log, by symbol."""

    def __init__(self, events: Iterable[object]) -> None:
        self._events = [event for event in events if isinstance(event, TapeTrades) and len(event)]
        ids = _joined([event.symbol_id for event in self._events])
        self._order = np.argsort(ids, kind="stable")
        ordered = ids[self._order]
        edges = np.flatnonzero(np.diff(ordered, prepend=-1, append=-1))
        spans = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        self._spans = {int(ordered[first]): (first, stop) for first, stop in spans}
        self._columns = {name: self._column(name) for name in ("event_ts", "price", "size", "offset", "index")}
        self._event_of = np.repeat(np.arange(len(self._events)), [len(event) for event in self._events])[self._order]

    def __len__(self) -> int:
        return len(self._order)

    @property
    def symbol_ids(self) -> frozenset[int]:
        """Symbols with a trade in here."""
        return frozenset(self._spans)

    def of(self, symbol_id: int) -> SymbolTape:
        """The trades of a symbol that has some."""
        span = slice(*self._spans[symbol_id])
        newest = self._events[int(self._event_of[span][-1])]
        columns: dict[str, Any] = {name: column[span] for name, column in self._columns.items()}
        return SymbolTape(
            symbol_id=symbol_id,
            partition=newest.partition,
            conditions=self._conditions(span),
            received_ts=newest.received_ts,
            append_ts=newest.append_ts,
            **columns,
        )

    def _column(self, name: str) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
        return _joined([getattr(event, name) for event in self._events])[self._order]

    def _conditions(self, span: slice) -> list[Conditions] | None:
        """The codes of each trade; the dictionaries are looked at only where there is one."""
        found: list[Conditions] = []
        places = self._order[span]
        begins = np.cumsum([0, *(len(event) for event in self._events)])
        for number in np.unique(self._event_of[span]).tolist():
            event = self._events[number]
            mine = places[self._event_of[span] == number] - begins[number]
            if event.condition_sets == (None,):
                found += [None] * len(mine)
            else:
                found += [event.condition_sets[i] for i in event.condition_index[mine].tolist()]
        return found if any(codes is not None for codes in found) else None


def _joined(
    parts: Sequence[np.ndarray[tuple[int], np.dtype[np.generic]]],
) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
