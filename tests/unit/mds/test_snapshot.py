"""The joint of history and live, with a store at any distance behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketfeed.domain.bars import COLUMNS, BarColumns
from marketfeed.domain.errors import Unavailable
from marketfeed.mds import snapshot as snapshot_module
from marketfeed.mds.snapshot import Snapshots

T0 = 1_790_000_000


def table(bars: BarColumns) -> list[tuple[Any, ...]]:
    return list(zip(*(getattr(bars, name).tolist() for name in COLUMNS), strict=True))


def snapshots(market: Any, store: Any, cache: Any) -> Snapshots:
    return Snapshots(market.hub, store, cache, "feed", at_once=2)


def truth(market: Any, symbol: str) -> list[tuple[Any, ...]]:
    symbols, bars = market.log.truth()
    return table(bars.take(bars.symbol_id == symbols.id(symbol)))


def fill(market: Any, seconds: int) -> None:
    market.log.own("A", "B")
    for second in range(seconds):
        market.log.trade("A", second, 10.0 + second)
        market.log.trade("B", second, 50.0)
        market.log.watermark(second - 0.5)
    market.hub.state.commit(0.0)


steps = st.lists(st.sampled_from(["trade", "late", "time", "evict", "store"]), min_size=1, max_size=40)


@given(steps, st.integers(0, 2**31))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_join_is_the_truth_wherever_store_and_memory_stand(
    market: Any, store: Any, cache: Any, plan: list[str], seed: int
) -> None:
    """Trades, late trades, evictions and a store that lags: stored and held make the reducer's bars."""
    # The fixture is shared by all examples: each goes on where the last one ended, which is a longer history.
    state, log = market.hub.state, market.log
    if not log.records:
        log.own("A")
    a = state.symbols.id("A")
    clock = max((r.offset for r in log.records), default=0)
    for number, step in enumerate(plan):
        if step == "trade":
            log.trade("A", clock + number, 10.0 + number)
        elif step == "late":
            log.trade("A", clock + number - (seed + number) % 30, 10.0 + number)
        elif step == "time":
            log.watermark(clock + number)
        elif step == "evict":
            state.commit(0.0)
            state.evict({0: store.upto})
        else:
            # What the store has it keeps: bars that it had were let go of.
            store.upto = max(store.upto, len(log.records) - seed % 3 if len(log.records) > 3 else 0)
    state.commit(0.0)
    history = await snapshots(market, store, cache).history("A", 0)
    joined = snapshots(market, store, cache).join("A", 0, history)
    pending = {start for (symbol, start) in state.orphans if symbol == a}
    assert {row for row in table(joined) if row[1] not in pending} == {
        row for row in truth(market, "A") if row[1] not in pending
    }


async def test_a_store_that_is_ahead_is_waited_for(market: Any, store: Any, cache: Any) -> None:
    """Bars at a position that this process has not reached are used once it has."""
    fill(market, 5)
    hub, log = market.hub, market.log
    records = list(log.records)
    market.restart()
    hub.state.topic_id = "topic"
    hub.apply(records[:4])
    store.upto = len(records)
    reading = asyncio.ensure_future(snapshots(market, store, cache).history("A", 0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not reading.done()
    hub.apply(records[4:])
    history = await reading
    assert (history.offset, history.source, history.whole) == (len(records), "store", True)


async def test_one_that_cannot_be_reached_is_used_and_marked(
    market: Any, store: Any, cache: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Better an early snapshot that says so than none."""
    monkeypatch.setattr(snapshot_module, "REACH_S", 0.01)
    fill(market, 3)
    records = list(market.log.records)
    market.restart()
    market.hub.state.topic_id = "topic"
    market.hub.apply(records[:4])
    store.upto = len(records)
    taken = snapshots(market, store, cache)
    history = await taken.history("A", 0)
    assert taken.incomplete("A", history)


async def test_without_postgresql_the_cache_s_closes_and_without_both_memory(
    market: Any, store: Any, cache: Any
) -> None:
    """Closes only, below what is held in full; then only what is held."""
    fill(market, 30)
    state = market.hub.state
    state.evict({0: len(market.log.records)})
    held = len(state.window.of_symbol(state.symbols.id("A")))
    assert held < 30
    store.away, cache.upto = True, len(market.log.records)
    taken = snapshots(market, store, cache)
    history = await taken.history("A", 0)
    bars = taken.join("A", 0, history)
    assert history.source == "cache"
    assert bars.close.tolist() == [10.0 + second for second in range(30)]
    assert bars.trades.tolist() == [0] * (30 - held) + [1] * held
    cache.away = True
    taken = snapshots(market, store, cache)
    history = await taken.history("A", 0)
    assert (history.source, len(taken.join("A", 0, history))) == ("memory", held)


async def test_another_log_s_store_is_not_used(market: Any, store: Any, cache: Any) -> None:
    """After the log was replaced the store's bars are joined to nothing until the recorder has followed."""
    fill(market, 3)
    store.upto = cache.upto = len(market.log.records)
    market.restart()
    market.log.records.clear()
    market.log.own("A")
    store.log.records[:] = market.log.records
    history = await snapshots(market, store, cache).history("A", 0)
    assert (history.source, len(history.bars)) == ("memory", 0)


async def test_equal_reads_are_shared(market: Any, store: Any, cache: Any) -> None:
    """A thousand clients that come back at once cost one read; another span is another read."""
    fill(market, 3)
    store.upto = len(market.log.records)
    taken = snapshots(market, store, cache)
    found = await asyncio.gather(*(taken.history("A", 0) for _ in range(50)))
    assert store.reads == 1
    assert len({id(history) for history in found}) == 1
    await taken.history("A", 5)
    assert store.reads == 2


async def test_bounded_reads_say_where_they_end(market: Any, store: Any, cache: Any) -> None:
    """A read that was cut ends after its last bar, and nothing held beyond that is added."""
    fill(market, 20)
    store.upto = len(market.log.records)
    taken = snapshots(market, store, cache)
    history = await taken.history("A", T0, T0 + 20, 5)
    assert history.until_s == T0 + 5
    assert len(taken.join("A", T0, history)) == 5


async def test_a_log_replaced_meanwhile_ends_the_wait(market: Any, store: Any, cache: Any) -> None:
    """Whoever waits for a position of the old log is told."""
    fill(market, 3)
    store.upto = len(market.log.records) + 5
    reading = asyncio.ensure_future(snapshots(market, store, cache).history("A", 0))
    await asyncio.sleep(0.01)
    market.restart()
    with pytest.raises(Unavailable, match="replaced"):
        await reading


async def test_shared_reads_are_forgotten(market: Any, store: Any, cache: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that is too old to be shared is not kept: requests for ever new spans cost no memory."""
    monkeypatch.setattr(snapshot_module, "SHARE_S", 0.0)
    fill(market, 3)
    store.upto = len(market.log.records)
    taken = snapshots(market, store, cache)
    for from_s in range(20):
        await taken.history("A", from_s)
    assert len(taken._reading) <= 1
