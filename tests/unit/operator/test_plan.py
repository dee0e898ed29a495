"""The plan: made from specification, the plan in force and rates; little moves, and what moves is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.operator.feeds import FINNHUB, HISTORY, as_observed, feed

from marketfeed.wire.plan import decode_plan, encode_plan
from marketfeed_operator.children import plan_config_map
from marketfeed_operator.observed import PLAN_REVISION, FeedState, PodReading
from marketfeed_operator.plan import Planned, capacities, decode, encode, next_plan
from marketfeed_operator.spec import MarketFeed

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
SYMBOLS = tuple(f"S{number:03d}" for number in range(60))


def state_after(
    its: MarketFeed,
    planned: Planned,
    rates: dict[str, float] | None = None,
    silent: tuple[int, ...] = (),
    ready_at: str = "2026-11-25T11:00:00Z",
) -> FeedState:
    """The plan in force, and a pod of every shard (but the silent ones) that told rates."""
    objects: list[dict[str, Any]] = [as_observed(plan_config_map(its, planned))]
    readings = {}
    for shard in range(its.spec.shards if rates is not None else 0):
        labels = {
            "app.kubernetes.io/component": "ingest", "marketfeed.dev/shard": str(shard), "marketfeed.dev/member": "0",
        }  # fmt: skip
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": ready_at}
        name = f"pod-{shard}"
        objects.append({"kind": "Pod", "metadata": {"name": name, "labels": labels}, "status": {"conditions": [ready]}})
        if shard not in silent:
            readings[name] = PodReading(1.0, {"rates": rates})
    return FeedState(tuple(objects), readings)


def test_the_first_plan_serves_every_symbol() -> None:
    """Nothing was there before, so it is revision 1, and its summary says where symbols go."""
    its = feed(shards=2)
    planned = next_plan(its, SYMBOLS, FeedState(), NOW)
    assert planned.changed
    assert (planned.plan.revision, set(planned.plan.assigned), planned.moves) == (1, set(SYMBOLS), 0)
    assert planned.summary.startswith("revision 1: ")
    assert "to shard 1" in planned.summary


@pytest.mark.parametrize(
    ("told", "announced", "shown"), [(41, None, 0), (None, "41", 0), (None, None, 41), (7, "41", 3)]
)
@pytest.mark.parametrize("text", [None, "{oops"], ids=["deleted", "broken"])
def test_a_plan_that_was_lost_is_made_above_every_revision_that_was_seen(
    text: str | None, told: int | None, announced: str | None, shown: int
) -> None:
    """By the word of a pod, by what was written onto one, or by the status: a lower one would count as adopted."""
    its = feed(shards=1)
    state = state_after(its, next_plan(its, SYMBOLS, FeedState(), NOW), {})
    plan, pod = state.objects
    pod = {**pod, "metadata": {**pod["metadata"], "annotations": {PLAN_REVISION: announced} if announced else {}}}
    left = (pod,) if text is None else (pod, {**plan, "data": {"plan.json": text}})
    readings = {} if told is None else {"pod-0": PodReading(1.0, {"symbols": {"plan_revision": told}})}
    planned = next_plan(its, SYMBOLS, FeedState(left, readings, shown_revision=shown), NOW)
    assert (planned.changed, planned.plan.revision) == (True, 42)
    assert planned.summary.startswith("revision 42: ")
    none = next_plan(feed(shards=0), SYMBOLS, FeedState(left, readings, shown_revision=shown), NOW)
    assert (none.plan.assigned, none.plan.revision) == ({}, 42)


def test_what_ingest_reads_is_what_was_planned() -> None:
    """The ConfigMap's content is the plan file of the services, byte for byte understood by both sides."""
    planned = next_plan(feed(shards=3), SYMBOLS, FeedState(), NOW)
    assert decode_plan(encode(planned.plan).encode()) == planned.plan
    assert decode(encode_plan(planned.plan).decode()) == planned.plan
    assert decode("{}") is None
    assert decode('{"revision": -1, "assigned": {}}') is None


@settings(max_examples=50, deadline=None)
@given(
    before=st.integers(1, 8),
    after=st.integers(1, 8),
    gone=st.sets(st.sampled_from(SYMBOLS)),
    rates=st.dictionaries(st.sampled_from(SYMBOLS), st.floats(0, 1e6)),
)
def test_the_same_again_changes_nothing(before: int, after: int, gone: set[str], rates: dict[str, float]) -> None:
    """However a plan came about, planning once more with the same facts leaves it, and its revision, alone."""
    first = next_plan(feed(shards=before), SYMBOLS, FeedState(), NOW)
    its = feed(shards=after)
    left = [symbol for symbol in SYMBOLS if symbol not in gone]
    second = next_plan(its, left, state_after(its, first, rates), NOW + timedelta(hours=1))
    third = next_plan(its, left, state_after(its, second, rates), NOW + timedelta(hours=2))
    # Rates count from the third on: before, shards that are gone had symbols and told nothing.
    fourth = next_plan(its, left, state_after(its, third, rates), NOW + timedelta(hours=3))
    assert not fourth.changed
    assert fourth.plan == third.plan
    assert second.changed == (second.plan != first.plan)
    assert (second.plan.revision > first.plan.revision) == second.changed
    assert set(second.plan.assigned) == set(left)


def test_rates_move_symbols_once_in_a_while_only() -> None:
    """A plan that was just made is left alone; a minute later an overloaded shard gives away."""
    its = feed(shards=2)
    first = next_plan(its, SYMBOLS, FeedState(), NOW)
    mine = first.plan.of_shard(0)
    rates = {symbol: 1000.0 if symbol in mine[:4] else 1.0 for symbol in SYMBOLS}
    state = state_after(its, first, rates)
    soon = next_plan(its, SYMBOLS, state, NOW + timedelta(seconds=30))
    assert not soon.changed
    later = next_plan(its, SYMBOLS, state, NOW + timedelta(seconds=90))
    assert later.changed
    assert later.moves > 0
    assert "from shard 0 to 1" in later.summary


def test_rates_count_when_every_shard_tells_and_has_settled() -> None:
    """A shard that says nothing is not taken for idle, nor one that has just started."""
    its = feed(shards=2)
    first = next_plan(its, SYMBOLS, FeedState(), NOW)
    rates = dict.fromkeys(first.plan.of_shard(0), 1000.0)
    later = NOW + timedelta(seconds=90)
    assert next_plan(its, SYMBOLS, state_after(its, first, rates), later).changed
    assert not next_plan(its, SYMBOLS, state_after(its, first, rates, silent=(1,)), later).changed
    just_now = "2026-11-25T12:01:00Z"
    assert not next_plan(its, SYMBOLS, state_after(its, first, rates, ready_at=just_now), later).changed


def test_symbols_beyond_the_keys_overflow() -> None:
    """A key takes so many; the rest is listed, not dropped."""
    source = {"finnhub": {**FINNHUB["finnhub"], "symbolsPerKey": 10}}
    its = feed(source=source, symbols=list(SYMBOLS), shards=2)
    assert capacities(its) == [10, 10]
    planned = next_plan(its, SYMBOLS, FeedState(), NOW)
    assert (len(planned.plan.assigned), len(planned.plan.overflow)) == (20, 40)
    assert "40 symbols without a place" in planned.summary


def test_no_shards_and_history_have_an_empty_plan() -> None:
    """Scaling to 0 takes every symbol away, once; a history feed never has any."""
    first = next_plan(feed(shards=2), SYMBOLS, FeedState(), NOW)
    its = feed(shards=0)
    none = next_plan(its, SYMBOLS, state_after(its, first), NOW)
    assert (none.plan.assigned, none.plan.revision, none.changed) == ({}, 2, True)
    assert not next_plan(its, SYMBOLS, state_after(its, none), NOW).changed
    assert next_plan(feed(source=HISTORY), (), FeedState(), NOW).plan.assigned == {}


def test_a_broken_plan_is_made_anew() -> None:
    """Somebody edited the ConfigMap into nonsense: the feed gets a plan again."""
    its = feed(shards=2)
    broken = as_observed(plan_config_map(its, next_plan(its, SYMBOLS, FeedState(), NOW)))
    broken["data"] = {"plan.json": "{oops"}
    planned = next_plan(its, SYMBOLS, FeedState((broken,)), NOW)
    assert planned.changed
    assert set(planned.plan.assigned) == set(SYMBOLS)
