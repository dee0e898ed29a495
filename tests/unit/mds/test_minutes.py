"""Bars of one minute, made of what is in memory or, for older ones, of what is stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from marketfeed.domain.client_messages import MINUTES, Wish
from marketfeed.domain.client_session import ClientSession, Limits
from marketfeed.mds import snapshot
from marketfeed.mds.minutes import Minutes
from marketfeed.mds.snapshot import Snapshots
from marketfeed.runtime.logs import get_logger
from marketfeed.wire.websocket import BarOut

# The market's first second is the 20th of its minute.
T0 = 1_790_000_000 // 60 * 60


@pytest.fixture
def minutes(market: Any, store: Any, cache: Any) -> Minutes:
    return Minutes(hub=market.hub, snapshots=Snapshots(market.hub, store, cache, "feed", 2), log=get_logger("test"))


def watcher(market: Any, socket: Any) -> None:
    """A client that gets the minutes of A."""
    client = market.hub.fanout.add(ClientSession(Limits(), bool, lambda: True, 0.0), socket)
    market.hub.fanout.activate(client, [market.hub.state.symbols.id("A")], Wish((MINUTES,), None))


def bars(socket: Any) -> list[tuple[str, list[int], list[float], list[int], list[int]]]:
    """What came of bars: interval, starts, volumes, states, revisions."""
    found = [message for message in socket.take() if isinstance(message, BarOut)]
    return [(m.interval, m.bars.start, m.bars.volume, m.bars.state, m.bars.revision) for m in found]


async def test_a_minute_grows_closes_and_is_revised(market: Any, store: Any, minutes: Minutes, new_socket: Any) -> None:
    """Once a turn at most; after it has left the memory a late trade brings it back whole from the store."""
    socket = new_socket()
    market.log.own("A")
    market.hub.tick()
    watcher(market, socket)
    for second in range(20, 60):
        market.log.trade("A", second, 10.0)
    await minutes.turn()
    market.hub.tick()
    assert bars(socket) == [("1m", [T0, T0 + 60], [20.0, 20.0], [0, 0], [0, 0])]
    market.log.watermark(42)
    await minutes.turn()
    market.hub.tick()
    assert bars(socket) == [("1m", [T0], [20.0], [1], [0])]
    store.upto = len(market.log.records)
    market.hub.state.evict({0: store.upto})
    assert market.hub.state.window.held_from_s > T0
    market.log.trade("A", 30, 11.0)
    market.hub.tick()
    await minutes.turn()
    market.hub.tick()
    assert bars(socket) == [], "only the store can tell what the late trade makes of its second"
    store.upto = len(market.log.records)
    _, stored = await store.read_bars("feed", "A", 1, T0 + 50, T0 + 51, 1)
    late = replace(stored.bars, symbol_id=np.zeros(1, np.int64))
    market.hub.state.adopt_older(late, {0: store.upto})
    await minutes.turn()
    market.hub.tick()
    assert bars(socket) == [("1m", [T0], [21.0], [2], [1])]


async def test_a_minute_that_cannot_be_read_stays_due(
    market: Any, store: Any, minutes: Minutes, new_socket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a minute is never told."""
    socket = new_socket()
    market.log.own("A")
    monkeypatch.setattr(snapshot, "SHARE_S", -1.0)
    for second in range(20, 60):
        market.log.trade("A", second, 10.0)
    market.log.watermark(59)
    market.hub.tick()
    store.upto = len(market.log.records)
    market.hub.state.evict({0: store.upto})
    watcher(market, socket)
    market.hub.tick()
    market.hub.state.minutes.renew(0, [T0])
    store.away = True
    await minutes.turn()
    market.hub.tick()
    assert bars(socket) == []
    store.away = False
    await minutes.turn()
    market.hub.tick()
    assert [row[:3] for row in bars(socket)] == [("1m", [T0], [20.0])]
