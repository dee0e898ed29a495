"""The live state: what follows from records, in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from marketfeed.domain.log import Gap, Logged, Status
from marketfeed.domain.sessions import calendar
from marketfeed.domain.tape import TapeGap
from marketfeed.domain.trades import NANOS
from marketfeed.mds.live import DOWN_AFTER_S, STALE_AFTER_S, LiveState, SourceState, nothing_known
from marketfeed.runtime import tracing

T0 = 1_790_000_000


def fresh(offset: int = 0) -> LiveState:
    return LiveState(nothing_known("topic", {0: offset}), calendar("24x7"), 5, 1 << 20)


def test_a_turn_becomes_one_version_with_what_changed(market: Any) -> None:
    """Quotes and bars of one turn; a turn without news makes no version; symbols appear once."""
    state = market.hub.state
    market.log.own("A", "B")
    assert {state.symbols.name(i) for i in state.commit(0.0)} == {"A", "B"}
    market.log.trade("A", 0.1, 10.0)
    market.log.trade("A", 1.1, 11.0)
    assert state.commit(0.1) == set()
    changes = state.log.since(0)
    a = state.symbols.id("A")
    assert (changes.quotes, changes.bars) == ({a}, {a: {T0, T0 + 1}})
    version = state.log.version
    state.commit(0.2)
    assert state.log.version == version


def test_direction_and_rate_follow_the_quotes(market: Any) -> None:
    """The last different price gives the direction; an equal price changes neither; the rate fades."""
    state = market.hub.state
    market.log.own("A")
    a = state.symbols.id("A")
    assert not state.has_quote(a)
    for at, price in enumerate([10.0, 9.5, 9.5]):
        market.log.trade("A", at, price)
        state.commit(100.0 + at)
    assert state.price_before(a) == (10.0, -1)
    market.log.trade("A", 3, 9.75)
    state.commit(103.0)
    assert state.price_before(a) == (9.5, 1)
    busy = state.trades_per_s(a, 103.0)
    assert busy > 0.3
    assert state.trades_per_s(a, 110.0) < busy / 3
    assert state.last_trade_ts(a) == (T0 + 3) * NANOS


def test_a_symbol_goes_down_stale_and_live_again(market: Any) -> None:
    """Nothing in the log: down; a watermark that stands still: stale; each change is news once."""
    log = market.log
    state = fresh()
    log.own("A")
    log.watermark(1)
    state.apply(log.records, 100.0)
    state.commit(100.0)
    a = state.symbols.id("A")
    state.judge_sources([a], 100.0, 1)
    assert state.source(a, 100.0, 1).source == "live"
    state.judge_sources([a], 100.0 + DOWN_AFTER_S + 1, 2)
    state.judge_sources([a], 100.0 + DOWN_AFTER_S + 2, 3)
    state.commit(106.0)
    assert [(i, n.source, n.since_ts) for i, n in state.log.since(0).news if isinstance(n, SourceState)] == [
        (a, "down", 2)
    ]
    later = 101.0 + STALE_AFTER_S
    state.apply([Logged(0, 2, 1, log.records[1].body)], later)
    assert state.source(a, later, 4).source == "stale"
    state.log_down_since_ts = 5
    assert "cannot read the log" in state.source(a, later, 5).reason


def test_whoever_looks_at_a_status_first_takes_it_from_nobody(market: Any) -> None:
    """A request that notices a change before the house-keeping does, does not keep it from the subscribers."""
    state = fresh()
    market.log.own("A")
    state.apply(market.log.records, 100.0)
    a = state.symbols.id("A")
    assert state.source(a, 100.0, 1).source == "live"
    assert state.source(a, 101.0 + DOWN_AFTER_S, 2).source == "down"
    state.judge_sources([a], 101.0 + DOWN_AFTER_S, 3)
    state.commit(107.0)
    assert [n.source for _, n in state.log.since(0).news if isinstance(n, SourceState)] == ["down"]


def test_the_trace_of_a_record_goes_on_here(market: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is applied is a span below the one that ingest wrote into the record's header."""
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    market.log.own("A")
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    record = Logged(0, 1, 1, market.log.records[0].body, {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"})
    market.hub.apply([record])
    span = spans.get_finished_spans()[-1]
    assert (span.name, f"{span.context.trace_id:032x}") == ("mds.apply", trace_id)


def test_a_log_without_news_is_no_lag(market: Any) -> None:
    """The lag is that of records applied; once none are waiting there is none."""
    market.log.own("A")
    market.hub.apply([Logged(0, 1, 10**9, market.log.records[0].body)])
    assert market.hub.lag_s > 10**9
    market.hub.apply([])
    assert market.hub.lag_s == 0.0


def test_gaps_and_halts_are_news(market: Any) -> None:
    """A gap is told to its symbols; a halt is a status until trading is back."""
    state = market.hub.state
    market.log.own("A", "B")
    a = state.symbols.id("A")
    market.log.write(Gap(("A",), 5, 6, "restart", 2))
    market.log.write(Status(("A",), "halted", 7, "news pending"))
    state.commit(0.0)
    gaps = [(i, n.reason) for i, n in state.log.since(0).news if isinstance(n, TapeGap)]
    assert gaps == [(a, "restart")]
    assert state.source(a, 0.0, 1).trading == "halted"


def test_late_trades_for_bars_that_left_are_adopted_from_the_store(market: Any) -> None:
    """The bar leaves when stored, a late trade orphans it, and the stored row takes the orphan's place, once."""
    state, log = market.hub.state, market.log
    log.own("A")
    log.trade("A", 0, 10.0)
    log.watermark(100)
    state.commit(0.0)
    a = state.symbols.id("A")
    assert state.evict(None) == 0
    assert state.evict({0: 3}) == 1
    log.trade("A", 0.5, 12.0)
    state.commit(0.1)
    assert state.orphans == {(a, T0): 3}
    assert state.readable_orphans({0: 3}) == []
    assert state.readable_orphans({0: 4}) == [(a, T0)]
    _, truth = log.truth()
    state.adopt_older(truth, {0: 3})
    assert state.orphans, "the store did not have the late trade yet"
    version = state.log.version
    state.adopt_older(truth, {0: 4})
    assert state.orphans == {}
    assert state.log.since(version).bars == {a: {T0}}
    shown = state.bars(np.array([a]), np.array([T0]))
    assert (shown.high.tolist(), shown.trades.tolist(), shown.late.tolist()) == ([12.0], [2], [1])
    assert len(state.older_bars(a)) == 1


def test_a_state_that_begins_in_the_middle_knows_it(market: Any) -> None:
    """It learns owners first, counts nothing meanwhile, and leaves earlier bars to the store."""
    log = market.log
    log.own("A")
    for second in range(70):
        log.trade("A", second, 10.0 + second)
    log.own("A")
    state = fresh(offset=1)
    assert not state.began_whole
    assert fresh().began_whole
    late = [Logged(0, r.offset, (T0 + r.offset) * NANOS, r.body) for r in log.records[1:]]
    state.apply(late[:30], 0.0)
    assert (state.learning, state.trades) == (True, 0)
    state.apply(late[30:], 0.0)
    assert not state.learning
    assert state.partial_until_s[0] > T0
    assert state.position.text() == "topic@0=72"
