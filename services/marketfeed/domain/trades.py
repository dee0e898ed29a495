"""Trades as columns, the only shape in which they travel after decoding.

A batch is a dictionary of symbols plus equally long arrays. Nothing here loops over trades; what loops over the
dictionary costs per symbol in the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]
UInt32Array = npt.NDArray[np.uint32]
BoolArray = npt.NDArray[np.bool_]

# The condition codes of one trade as Finnhub sends them; None for null (crypto, FX).
Conditions = tuple[str, ...] | None

NANOS = 1_000_000_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class TradeColumns:
    """Trades in the order in which they were received.

    symbols          dictionary; a symbol appears once
    symbol_index     uint32, position in `symbols`
    event_ts         int64, Unix nanoseconds, the vendor's stamp
    price, size      float64; a size of 0 is a price update: it moves prices, and is no trade
    condition_sets   dictionary of condition codes; a set appears once
    condition_index  uint32, position in `condition_sets`
    """

    symbols: tuple[str, ...]
    symbol_index: UInt32Array
    event_ts: Int64Array
    price: Float64Array
    size: Float64Array
    condition_sets: tuple[Conditions, ...]
    condition_index: UInt32Array

    def __len__(self) -> int:
        return len(self.event_ts)

    def take(self, chosen: npt.NDArray[np.intp] | BoolArray) -> TradeColumns:
        """The chosen trades (a mask or positions), with the dictionaries cut down to what they use."""
        symbols, symbol_index = _compact(self.symbols, self.symbol_index[chosen])
        sets, condition_index = _compact(self.condition_sets, self.condition_index[chosen])
        return TradeColumns(
            symbols, symbol_index, self.event_ts[chosen], self.price[chosen], self.size[chosen], sets, condition_index
        )


def no_trades() -> TradeColumns:
    """An empty batch."""
    none32 = np.empty(0, np.uint32)
    return TradeColumns((), none32, np.empty(0, np.int64), np.empty(0), np.empty(0), (), none32)


def concat(batches: Sequence[TradeColumns]) -> TradeColumns:
    """One batch of all trades, in the order given, with joint dictionaries."""
    if len(batches) == 1:
        return batches[0]
    if not batches:
        return no_trades()
    symbols, symbol_maps = _join([b.symbols for b in batches])
    sets, condition_maps = _join([b.condition_sets for b in batches])
    return TradeColumns(
        symbols,
        np.concatenate([m[b.symbol_index] for m, b in zip(symbol_maps, batches, strict=True)]),
        np.concatenate([b.event_ts for b in batches]),
        np.concatenate([b.price for b in batches]),
        np.concatenate([b.size for b in batches]),
        sets,
        np.concatenate([m[b.condition_index] for m, b in zip(condition_maps, batches, strict=True)]),
    )


class SymbolTable:
    """Dense ids of symbols within one process: 0, 1, 2 … in the order of first sight.

    Ids are local and never leave the process; storage has its own.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._ids: dict[str, int] = {}
        self._names: list[str] = []
        self.ids(tuple(names))

    def __len__(self) -> int:
        return len(self._names)

    def id(self, name: str) -> int:
        """The id of a symbol, given now if it is new."""
        found = self._ids.get(name)
        if found is None:
            found = self._ids[name] = len(self._names)
            self._names.append(name)
        return found

    def ids(self, names: Sequence[str]) -> Int64Array:
        """The ids of several symbols, int64, in their order."""
        try:
            return np.fromiter(map(self._ids.__getitem__, names), np.int64, len(names))
        except KeyError:  # the first sight of a symbol is rare, and the path without calls three times as fast
            return np.fromiter((self.id(n) for n in names), np.int64, len(names))

    def find(self, name: str) -> int | None:
        """The id of a symbol, or None if it was never seen."""
        return self._ids.get(name)

    def name(self, symbol_id: int) -> str:
        """The symbol of an id."""
        return self._names[symbol_id]

    def names(self) -> tuple[str, ...]:
        """All symbols in the order of their ids."""
        return tuple(self._names)


def _compact(dictionary: tuple[T, ...], index: UInt32Array) -> tuple[tuple[T, ...], UInt32Array]:
    """The part of a dictionary that `index` uses, in dictionary order, and the index into that part."""
    used = np.zeros(len(dictionary), np.bool_)
    used[index] = True
    if used.all():
        return dictionary, index
    renumbered = (np.cumsum(used) - 1).astype(np.uint32)
    return tuple(entry for entry, keep in zip(dictionary, used.tolist(), strict=True) if keep), renumbered[index]


def _join(dictionaries: Sequence[tuple[T, ...]]) -> tuple[tuple[T, ...], list[UInt32Array]]:
    """The union of dictionaries in the order of first sight, and for each the positions of its entries in it."""
    joint: dict[T, int] = {}
    maps = [
        np.fromiter((joint.setdefault(entry, len(joint)) for entry in dictionary), np.uint32, len(dictionary))
        for dictionary in dictionaries
    ]
    return tuple(joint), maps
