"""The reader of orders before it has a server; everything else is tested on a real one (test_orders_store.py)."""

from __future__ import annotations

import asyncio

import pytest

from marketfeed.adapters.postgres import orders
from marketfeed.adapters.postgres.orders import OrderReader


async def test_calls_that_come_together_open_one_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ones all find none; a second pool would be let go of by nobody."""
    opened: list[object] = []

    async def open_pool(*_: object) -> object:
        await asyncio.sleep(0)
        opened.append(object())
        return opened[-1]

    monkeypatch.setattr(orders, "open_pool", open_pool)
    reader = OrderReader("postgresql://nowhere", "feed")
    await asyncio.gather(*(reader.open() for _ in range(5)))
    assert len(opened) == 1
