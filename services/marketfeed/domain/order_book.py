"""The working limit orders by symbol, in the order in which a print serves them.

Buys are served from the highest limit, sells from the lowest, equal limits by priority. Suspended orders keep their
place in here. What a batch of prints is compared with costs two numbers per symbol.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import merge

from marketfeed.domain.order_states import OrderState
from marketfeed.domain.orders import NANOS_MAX, Order, Side, TimeInForce

# Limit (negative for buys, so that both sides rise), priority, number.
_Key = tuple[int, int, int]


def _key(order: Order) -> _Key:
    limit = -order.limit_price if order.side is Side.BUY else order.limit_price
    return limit, order.priority, order.number


@dataclass(slots=True)
class SymbolBook:
    """One symbol's orders. `watched` are those on which any print may act: IOC and suspended ones."""

    orders: dict[int, Order] = field(default_factory=dict)
    watched: dict[int, Order] = field(default_factory=dict)
    _buys: list[_Key] = field(default_factory=list)
    _sells: list[_Key] = field(default_factory=list)

    @property
    def best_buy(self) -> int:
        """The highest limit of a buy, -1 without one."""
        return -self._buys[0][0] if self._buys else -1

    @property
    def best_sell(self) -> int:
        """The lowest limit of a sell, more than any price without one."""
        return self._sells[0][0] if self._sells else NANOS_MAX

    def put(self, order: Order) -> None:
        """Add an order, or take the newer state of one that is here."""
        if order.number not in self.orders:
            insort(self._keys(order), _key(order))
        self.orders[order.number] = order
        if order.state is OrderState.SUSPENDED or order.time_in_force is TimeInForce.IOC:
            self.watched[order.number] = order
        else:
            self.watched.pop(order.number, None)

    def remove(self, order: Order) -> None:
        """Forget an order."""
        keys = self._keys(order)
        del keys[bisect_left(keys, _key(order))]
        del self.orders[order.number]
        self.watched.pop(order.number, None)

    def crossed_by(self, price: int) -> Iterator[Order]:
        """Buys with a limit of at least `price` and sells of at most that, first who is served first.

        Between a buy and a sell the one whose limit lies further beyond the price comes first, then the earlier one:
        a print is shared by both sides, as each of its shares was traded once.
        """
        # Of a buy -limit + price, of a sell limit - price: how far the limit lies beyond, negative.
        buys = ((limit + price, priority, number) for limit, priority, number in self._buys)
        sells = ((limit - price, priority, number) for limit, priority, number in self._sells)
        for beyond, _, number in merge(buys, sells):
            if beyond > 0:
                return
            yield self.orders[number]

    def _keys(self, order: Order) -> list[_Key]:
        return self._buys if order.side is Side.BUY else self._sells


class OrderBook:
    """The books of all symbols that have one."""

    def __init__(self) -> None:
        self.symbols: dict[str, SymbolBook] = {}
        self._symbol_of: dict[int, str] = {}
        self._per_account: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._symbol_of)

    def __iter__(self) -> Iterator[Order]:
        """All orders; the book must not change meanwhile."""
        for book in self.symbols.values():
            yield from book.orders.values()

    def find(self, number: int) -> Order | None:
        """The order of that number, if it is working."""
        symbol = self._symbol_of.get(number)
        return None if symbol is None else self.symbols[symbol].orders[number]

    def count_of(self, account: str) -> int:
        """How many working orders an account has."""
        return self._per_account.get(account, 0)

    def put(self, order: Order) -> None:
        """Take an order as it stands: it stays while it is working."""
        known = order.number in self._symbol_of
        if order.is_working:
            if not known:
                self._symbol_of[order.number] = order.symbol
                self._per_account[order.account] = self.count_of(order.account) + 1
            self.symbols.setdefault(order.symbol, SymbolBook()).put(order)
        elif known:
            self._forget(order)

    def _forget(self, order: Order) -> None:
        book = self.symbols[self._symbol_of.pop(order.number)]
        book.remove(order)
        if not book.orders:
            del self.symbols[order.symbol]
        self._per_account[order.account] -= 1
        if not self._per_account[order.account]:
            del self._per_account[order.account]
