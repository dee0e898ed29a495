"""A database that comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import pytest

from marketfeed.domain.errors import Unavailable
from marketfeed.mds import stores
from marketfeed.mds.ports import Store
from marketfeed.mds.stores import PatientStore


class Database:
    place = "here"

    def __init__(self) -> None:
        self.away = True
        self.migrated = True
        self.opened = 0
        self.calls = 0

    async def open(self) -> None:
        self.calls += 1
        if self.away:
            raise Unavailable("PostgreSQL", "here", "refused")
        self.opened += 1

    async def close(self) -> None:
        self.opened = 0

    async def is_migrated(self) -> bool:
        return self.migrated

    async def read_checkpoint(self, feed: str) -> None:
        if self.away:
            raise Unavailable("PostgreSQL", "here", "gone")

    async def previous_close(self, feed: str, symbols: Sequence[str], before: date) -> Mapping[str, Any]:
        return {}


async def nothing(*_: object) -> Any:
    return None


def patient(database: Database) -> Store:
    return PatientStore(database, "feed", nothing, nothing)


async def test_it_is_opened_once_when_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Away: every call fails, and only the first one asks. Back after the rest: opened once."""
    database = Database()
    store = patient(database)
    for _ in range(3):
        with pytest.raises(Unavailable, match="refused"):
            await store.read_checkpoint("feed")
    assert database.calls == 1
    database.away = False
    monkeypatch.setattr(stores, "REST_S", 0.0)
    store = patient(database)
    for _ in range(3):
        await store.read_checkpoint("feed")
        await store.read_bars("feed", "A", 1, 0, 1, 1)
        assert await store.previous_close("feed", ["A"], date(2026, 1, 1)) == {}
    assert database.opened == 1


async def test_missing_tables_and_slowness_are_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a sentence that says what to do; a call has a time limit of its own."""
    database = Database()
    database.away, database.migrated = False, False
    with pytest.raises(Unavailable, match="marketfeed migrate"):
        await patient(database).read_checkpoint("feed")
    database.migrated = True
    monkeypatch.setattr(stores, "CALL_S", 0.001)

    async def slow(*_: object) -> Any:
        await asyncio.sleep(5)

    with pytest.raises(Unavailable, match="too long"):
        await PatientStore(database, "feed", slow, nothing).read_start(120)
