"""Who follows orders: first what stands, from storage, then each change once it is stored, in order, each once.

A follower is registered before storage is read. Changes that the reading has seen already are known by their number
and left out. Its queue is bounded: whoever takes too little is ended, and comes back with the newest number it has.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

from marketfeed.domain.errors import CallRefused, CallStatus
from marketfeed.domain.orders import Order, OrderChange
from marketfeed.orders import metrics
from marketfeed.orders.ports import Reader

# Changes that wait for one follower, and orders read at a time.
CHANGES_MAX = 10_000
ORDERS_AT_ONCE = 1_000
HEARTBEAT_S = 1.0


class Follower:
    """One stream's queue."""

    def __init__(self) -> None:
        self._changes: deque[OrderChange] = deque()
        self._filled = asyncio.Event()
        self._end: CallRefused | None = None

    def put(self, change: OrderChange) -> None:
        """One more change; the end, if there are too many."""
        if len(self._changes) >= CHANGES_MAX:
            metrics.STREAMS_TOO_SLOW.inc()
            message = "updates were taken too slowly; come back with the newest number"
            self.end(CallRefused(CallStatus.RESOURCE_EXHAUSTED, "TOO_SLOW", message))
        else:
            self._changes.append(change)
            self._filled.set()

    def end(self, reason: CallRefused) -> None:
        """No more changes."""
        self._end = self._end or reason
        self._changes.clear()
        self._filled.set()

    async def take(self, timeout_s: float) -> OrderChange | None:
        """The next change; None if there is none within the time. Raises CallRefused at the end."""
        if not self._changes and self._end is None:
            self._filled.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._filled.wait()
            except TimeoutError:
                return None
        if self._end is not None:
            raise self._end
        return self._changes.popleft()


class Updates:
    """All followers, by account. `streams_max` bounds them."""

    def __init__(self, streams_max: int) -> None:
        self._streams_max = streams_max
        self._followers: dict[str, set[Follower]] = {}
        self._count = 0

    def publish(self, changes: Sequence[OrderChange]) -> None:
        """Tell those who follow."""
        for change in changes:
            for follower in self._followers.get(change.order.account, ()):
                follower.put(change)

    def end_all(self, reason: CallRefused) -> None:
        """End every stream: what its client has not seen may have been stored without our knowing."""
        for followers in self._followers.values():
            for follower in followers:
                follower.end(reason)

    @contextmanager
    def following(self, account: str) -> Iterator[Follower]:
        """A follower, registered for as long as the block lasts. Raises CallRefused when there are too many."""
        if self._count >= self._streams_max:
            message = "there are as many streams as may be; try later"
            raise CallRefused(CallStatus.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", message)
        follower = Follower()
        self._followers.setdefault(account, set()).add(follower)
        self._count += 1
        metrics.STREAMS.set(self._count)
        try:
            yield follower
        finally:
            self._count -= 1
            metrics.STREAMS.set(self._count)
            self._followers[account].discard(follower)
            if not self._followers[account]:
                del self._followers[account]


async def follow(
    updates: Updates, reader: Reader, account: str, after_update: int
) -> AsyncIterator[Order | OrderChange | None]:
    """Orders as they stand, then changes; None is a sign of life, at the latest every second.

    Raises CallRefused, Unavailable.
    """
    with updates.following(account) as follower:
        ceiling: int | None = None
        at = 0
        while True:
            ceiling, orders = await reader.changed_since(account, after_update, at, ceiling, ORDERS_AT_ONCE)
            for order in orders:
                yield order
            if len(orders) < ORDERS_AT_ONCE:
                break
            at = orders[-1].update
        yield None
        while True:
            change = await follower.take(HEARTBEAT_S)
            if change is None or change.order.update > ceiling:
                yield change
