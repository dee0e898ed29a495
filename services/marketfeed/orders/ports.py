"""What the order service needs of the outside, as it sees it; `app.py` plugs the adapters in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from marketfeed.domain.order_desk import DeskState
from marketfeed.domain.order_matching import Prints
from marketfeed.domain.order_validation import Reference
from marketfeed.domain.orders import Fill, Order, OrderCommit


@dataclass(frozen=True, slots=True)
class TapeBegins:
    """A stream begins at `position`; `recovered`: nothing is missing since the position that was asked for."""

    position: str
    recovered: bool


@dataclass(frozen=True, slots=True, eq=False)
class TapePrints:
    """A batch; everything before `position` has been had, these prints included."""

    prints: Prints
    position: str


@dataclass(frozen=True, slots=True)
class TapeHole:
    """Trades of these symbols stamped in [from_ts, to_ts] may be missing."""

    symbols: tuple[str, ...]
    from_ts: int
    to_ts: int


@dataclass(frozen=True, slots=True)
class TapePasses:
    """Up to `watermark_ts` (0: not known) no trade is missing of what is before `position`, all of which was had."""

    watermark_ts: int
    position: str


TapeEvent = TapeBegins | TapePrints | TapeHole | TapePasses


class Market(Protocol):
    """mds."""

    def tape(self, position: str) -> AsyncIterator[TapeEvent]:
        """The tape from a position on (empty: from now), for ever; a lost stream begins again by itself.

        Raises CallRefused for what waiting cannot mend.
        """

    async def reference(self, symbol: str, max_age_ms: int) -> Reference:
        """The price to judge an order by, or why there is none. Raises CallRefused for a symbol that the feed does not
        carry, Unavailable."""


class Writer(Protocol):
    """The writing side of storage. Every call raises Unavailable; after any error it is thrown away."""

    async def claim(self) -> tuple[str, DeskState]:
        """Become the writer: the tape's place and what the desk begins with."""

    async def find(self, keys: Sequence[tuple[str, str]], numbers: Sequence[int]) -> list[Order]:
        """Orders by (account, client order id), and by number."""

    async def commit(self, what: OrderCommit) -> None:
        """All or nothing. Raises StalePosition."""

    async def close(self) -> None:
        """Let the connection go."""


class Reader(Protocol):
    """The reading side of storage. Every call raises Unavailable."""

    async def is_migrated(self) -> bool:
        """Whether the tables are there."""

    async def version(self) -> int:
        """Rises with every commit of whoever is the writer."""

    async def by_number(self, account: str, number: int) -> tuple[Order, list[Fill]] | None:
        """An account's order with its fills."""

    async def by_client_order_id(self, account: str, client_order_id: str) -> tuple[Order, list[Fill]] | None:
        """The same by the caller's key."""

    async def page(self, account: str, after: int, limit: int, *, working_only: bool, symbol: str) -> list[Order]:
        """An account's orders with a number above `after`."""

    async def changed_since(
        self, account: str, update: int, after: int, ceiling: int | None, limit: int
    ) -> tuple[int, list[Order]]:
        """Working orders and those changed since, in the order of update numbers."""
