"""Bars in memory by key, merged in place: the storage under `bar_window`, without its rules.

A bar is one row of an int64 matrix (prices are the same bytes seen as float64), so finding, merging and copying a set
of bars touches a few cache lines per bar and makes a fixed number of numpy calls, however many bars are held. Volume
and notional are Python integers beside it. Rows are found by a dictionary from (symbol_id, start_s) and reused when
freed.
"""

from __future__ import annotations

from itertools import repeat

import numpy as np
import numpy.typing as npt

from marketfeed.domain.bars import COLUMNS, BarColumns, IntpArray
from marketfeed.domain.decimals import ObjectArray, rescale
from marketfeed.domain.trades import BoolArray, Int64Array

# The order of the cells of a row. Neighbours are merged alike, so that one call serves several columns.
CELLS = (
    "symbol_id", "start_s",
    "open", "open_ts", "open_offset", "open_index",
    "close", "close_ts", "close_offset", "close_index",
    "high", "low", "first_offset",
    "last_offset", "changed_offset", "price_scale", "size_scale", "incomplete", "state",
    "trades", "late",
)  # fmt: skip
PLACE = {name: place for place, name in enumerate(CELLS)}
_FLOATS = frozenset({"open", "high", "low", "close"})
_OPENING = slice(PLACE["open"], PLACE["open_index"] + 1)
_CLOSING = slice(PLACE["close"], PLACE["close_index"] + 1)
_HIGH, _LOW, _FIRST = PLACE["high"], PLACE["low"], PLACE["first_offset"]
_MAXIMA = slice(PLACE["last_offset"], PLACE["state"] + 1)
_SUMS = slice(PLACE["trades"], PLACE["late"] + 1)
_SCALES = slice(PLACE["price_scale"], PLACE["size_scale"] + 1)
_KEY_BITS = 32

Cells = npt.NDArray[np.int64]


class BarRows:
    """Bars keyed by (symbol_id, start_s). A slot is the number of a bar's row, valid until it is freed.

    `live` says which slots hold a bar; `dirty` and `needed` are marks for the owner's use, False for a new bar.
    """

    def __init__(self, capacity: int = 1024) -> None:
        self._cells: Cells = np.zeros((capacity, len(CELLS)), np.int64)
        self._amounts: ObjectArray = np.zeros((capacity, 2), object)
        self._slots: dict[int, int] = {}
        self._free: list[int] = list(range(capacity - 1, -1, -1))
        self.live: BoolArray = np.zeros(capacity, np.bool_)
        self.dirty: BoolArray = np.zeros(capacity, np.bool_)
        self.needed: BoolArray = np.zeros(capacity, np.bool_)

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def capacity(self) -> int:
        """Rows there is room for; it doubles when they are used up."""
        return len(self._cells)

    def column(self, name: str) -> Int64Array:
        """A view of one integer column over all slots, those not `live` included; writable."""
        return self._cells[:, PLACE[name]]

    def find(self, symbol_id: Int64Array, start_s: Int64Array) -> Int64Array:
        """The slot of each key, -1 where there is none, int64."""
        keys = _keys(symbol_id, start_s)
        return np.fromiter(map(self._slots.get, keys, repeat(-1)), np.int64, len(keys))

    def add(self, bars: BarColumns) -> Int64Array:
        """Put bars in whose keys are not held; their slots."""
        while len(self._free) < len(bars):
            self._grow()
        count = len(bars)
        chosen = self._free[len(self._free) - count :]
        del self._free[len(self._free) - count :]
        slots = np.array(chosen, np.int64)
        self._slots.update(zip(_keys(bars.symbol_id, bars.start_s), chosen, strict=True))
        self._cells[slots], self._amounts[slots] = _to_cells(bars)
        self.live[slots] = True
        return slots

    def merge(self, slots: Int64Array, bars: BarColumns) -> None:
        """`bars.merge` into the rows at `slots`, each slot once, bar i into slot i."""
        cells, amounts = _merged(self._cells[slots], self._amounts[slots], *_to_cells(bars))
        self._cells[slots] = cells
        self._amounts[slots] = amounts

    def take(self, slots: IntpArray | Int64Array) -> BarColumns:
        """A copy of the bars at `slots`, sorted by key."""
        cells = self._cells[slots]
        order = np.lexsort((cells[:, PLACE["start_s"]], cells[:, PLACE["symbol_id"]]))
        cells, amounts = cells[order], self._amounts[slots[order]]
        columns = {name: np.ascontiguousarray(cells[:, place]) for name, place in PLACE.items()}
        return BarColumns(
            **{
                **columns,
                **{name: columns[name].view(np.float64) for name in _FLOATS},
                "volume": amounts[:, 0].copy(),
                "notional": amounts[:, 1].copy(),
                "incomplete": columns["incomplete"].astype(np.bool_),
                "state": columns["state"].astype(np.int8),
            }
        )

    def free(self, slots: IntpArray) -> None:
        """Forget the bars at `slots`."""
        for key in _keys(self.column("symbol_id")[slots], self.column("start_s")[slots]):
            del self._slots[key]
        self._amounts[slots] = 0
        self.live[slots] = self.dirty[slots] = self.needed[slots] = False
        self._free.extend(slots.tolist())

    def _grow(self) -> None:
        """Twice the room."""
        held = self.capacity
        self._cells = np.concatenate([self._cells, np.zeros_like(self._cells)])
        self._amounts = np.concatenate([self._amounts, np.zeros_like(self._amounts)])
        self.live, self.dirty, self.needed = (
            np.concatenate([marks, np.zeros_like(marks)]) for marks in (self.live, self.dirty, self.needed)
        )
        self._free = [*range(2 * held - 1, held - 1, -1), *self._free]


def _keys(symbol_id: Int64Array, start_s: Int64Array) -> list[int]:
    """Both parts of the key in one integer; seconds of this century and the last fit 32 bits with their sign."""
    keys: list[int] = ((symbol_id << _KEY_BITS) + start_s).tolist()
    return keys


def _to_cells(bars: BarColumns) -> tuple[Cells, ObjectArray]:
    cells = np.empty((len(bars), len(CELLS)), np.int64)
    floats = cells.view(np.float64)
    for name, place in PLACE.items():
        (floats if name in _FLOATS else cells)[:, place] = getattr(bars, name)
    amounts = np.empty((len(bars), 2), object)
    amounts[:, 0], amounts[:, 1] = bars.volume, bars.notional
    return cells, amounts


def _merged(held: Cells, held_amounts: ObjectArray, new: Cells, amounts: ObjectArray) -> tuple[Cells, ObjectArray]:
    """Rows of both sides merged pairwise; the result is `held`, changed in place."""
    earlier = _precedes(new[:, _OPENING], held[:, _OPENING])
    held[earlier, _OPENING] = new[earlier, _OPENING]
    later = _precedes(held[:, _CLOSING], new[:, _CLOSING])
    held[later, _CLOSING] = new[later, _CLOSING]
    held_f, new_f = held.view(np.float64), new.view(np.float64)
    np.maximum(held_f[:, _HIGH], new_f[:, _HIGH], out=held_f[:, _HIGH])
    np.minimum(held_f[:, _LOW], new_f[:, _LOW], out=held_f[:, _LOW])
    np.minimum(held[:, _FIRST], new[:, _FIRST], out=held[:, _FIRST])
    scales = held[:, _SCALES].copy()
    np.maximum(held[:, _MAXIMA], new[:, _MAXIMA], out=held[:, _MAXIMA])
    held[:, _SUMS] += new[:, _SUMS]
    finest = held[:, _SCALES]
    return held, _rescaled(held_amounts, finest - scales) + _rescaled(amounts, finest - new[:, _SCALES])


def _rescaled(amounts: ObjectArray, places: Int64Array) -> ObjectArray:
    """(volume, notional) with (price, size) scales raised by `places`."""
    if not places.any():
        return amounts
    return np.stack([rescale(amounts[:, 0], places[:, 1]), rescale(amounts[:, 1], places[:, 0] + places[:, 1])], axis=1)


def _precedes(a: Cells, b: Cells) -> BoolArray:
    """Whether trade a comes before trade b by (event_ts, offset, index), cells 1 to 3 of an opening or closing."""
    same_ts, same_offset = a[:, 1] == b[:, 1], a[:, 2] == b[:, 2]
    before: BoolArray = a[:, 3] < b[:, 3]
    before &= same_offset
    before |= a[:, 2] < b[:, 2]
    before &= same_ts
    before |= a[:, 1] < b[:, 1]
    return before


assert set(CELLS) | {"volume", "notional"} == set(COLUMNS)
