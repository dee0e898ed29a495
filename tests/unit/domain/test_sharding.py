"""Who serves what: complete, within bounds, fair, and with as little movement as possible."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain.sharding import Move, Plan, equal_shares, make_plan, moves, parse_shard

symbol_sets = st.sets(st.text("ABCDEFGH:", min_size=1, max_size=4), max_size=60)
weight_lists = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=6).filter(any)
MANY = [f"S{i:04d}" for i in range(2000)]


@given(symbol_sets, weight_lists, st.data())
@settings(max_examples=30, deadline=None)
def test_each_symbol_has_one_place_within_bounds(symbols: set[str], weights: list[float], data: st.DataObject) -> None:
    """Assigned or overflow, never both or neither; no shard above its capacity; overflow only when all are full."""
    size = len(weights)
    capacities = data.draw(st.lists(st.integers(0, 20), min_size=size, max_size=size))
    before = make_plan(data.draw(symbol_sets), weights, capacities)
    plan = make_plan(symbols, weights, capacities, data.draw(st.sampled_from([None, before])))
    assert set(plan.assigned) | set(plan.overflow) == symbols
    assert not set(plan.assigned) & set(plan.overflow)
    load = Counter(plan.assigned.values())
    usable = [c if w > 0 else 0 for c, w in zip(capacities, weights, strict=True)]
    assert all(load[shard] <= usable[shard] for shard in range(size))
    if plan.overflow:
        assert all(load[shard] == usable[shard] for shard in range(size))


@given(symbol_sets, weight_lists, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_symbols_does_not_matter(symbols: set[str], weights: list[float], rng: random.Random) -> None:
    """Equal arguments give an equal plan."""
    shuffled = list(symbols)
    rng.shuffle(shuffled)
    assert make_plan(shuffled, weights) == make_plan(symbols, weights)


@given(symbol_sets, symbol_sets, weight_lists, st.data())
@settings(max_examples=30, deadline=None)
def test_other_symbols_coming_and_going_move_nobody(
    first: set[str], second: set[str], weights: list[float], data: st.DataObject
) -> None:
    """With the same shards, whoever has a place keeps it, whatever else is added or removed."""
    size = len(weights)
    capacities = data.draw(st.lists(st.integers(0, 30), min_size=size, max_size=size))
    before = make_plan(first, weights, capacities)
    after = make_plan(second, weights, capacities, before)
    for symbol in set(before.assigned) & second:
        assert after.assigned[symbol] == before.assigned[symbol]


@given(symbol_sets, weight_lists)
@settings(max_examples=25, deadline=None)
def test_an_added_shard_takes_and_nobody_else_gains(symbols: set[str], weights: list[float]) -> None:
    """Symbols move to the new shard or not at all."""
    before = make_plan(symbols, weights)
    after = make_plan(symbols, [*weights, 1.0], None, before)
    for symbol in symbols:
        assert after.assigned[symbol] in (before.assigned[symbol], len(weights))


@given(symbol_sets, st.integers(2, 5))
@settings(max_examples=25, deadline=None)
def test_a_removed_shard_frees_only_what_it_had(symbols: set[str], shards: int) -> None:
    """Who was on another shard stays."""
    before = equal_shares(symbols, shards)
    after = make_plan(symbols, [1.0] * (shards - 1) + [0.0], None, before)
    for symbol in symbols:
        if before.assigned[symbol] != shards - 1:
            assert after.assigned[symbol] == before.assigned[symbol]


@given(symbol_sets, weight_lists, st.data())
@settings(max_examples=40, deadline=None)
def test_a_plan_that_changes_nothing_keeps_its_revision(
    symbols: set[str], weights: list[float], data: st.DataObject
) -> None:
    """Planning again is not news; a change counts one up."""
    plan = make_plan(symbols, weights, None, Plan(7))
    assert plan.revision == (8 if symbols else 7)
    assert make_plan(symbols, weights, None, plan) == plan


def test_shares_follow_weights() -> None:
    """Over many symbols each shard gets its weight's part of them, give or take the hash's noise."""
    load = Counter(make_plan(MANY, [1.0, 2.0, 1.0]).assigned.values())
    assert all(abs(load[shard] / len(MANY) - share) < 0.04 for shard, share in enumerate([0.25, 0.5, 0.25]))


def test_the_assignment_is_the_same_everywhere() -> None:
    """The hash is part of the contract between versions and machines."""
    assert dict(equal_shares(["AAPL", "MSFT", "NVDA", "TSLA", "AMZN"], 3).assigned) == {
        "AAPL": 0,
        "AMZN": 0,
        "MSFT": 2,
        "NVDA": 0,
        "TSLA": 2,
    }


def test_a_small_shard_keeps_those_that_like_it_best_and_previous_ones_first() -> None:
    """Two shards of 50 symbols take 100 of 120; a newcomer displaces nobody."""
    full = make_plan(MANY[:120], [1, 1], [50, 50])
    assert len(full.overflow) == 20
    more = make_plan(MANY[:121], [1, 1], [50, 50], full)
    assert dict(more.assigned) == dict(full.assigned)
    assert len(more.overflow) == 21
    assert full.of_shard(0) == tuple(sorted(s for s, k in full.assigned.items() if k == 0))


def test_moves_say_what_an_event_tells() -> None:
    """From which shard to which, new symbols and those that leave included; nothing for what stays."""
    before = Plan(1, {"A": 0, "B": 0, "C": 1, "D": 1}, ("E",))
    after = Plan(2, {"A": 0, "B": 1, "C": 2, "E": 2, "F": 0}, ("D",))
    assert moves(before, after) == (
        Move(None, 0, ("F",)),
        Move(None, 2, ("E",)),
        Move(0, 1, ("B",)),
        Move(1, None, ("D",)),
        Move(1, 2, ("C",)),
    )
    assert moves(after, after) == ()
    assert moves(None, before)[0] == Move(None, 0, ("A", "B"))


def test_measured_loads_are_part_of_the_plan() -> None:
    """One hot symbol of four equal shards is left nearly alone, and the plan that does it is news only once."""
    loads = dict.fromkeys(MANY[:100], 1.0) | {"S0000": 60.0}
    by_number = make_plan(MANY[:100], [1.0] * 4)
    home = by_number.assigned["S0000"]
    by_load = make_plan(MANY[:100], [1.0] * 4, None, by_number, loads)
    beside = sum(loads[s] for s, shard in by_load.assigned.items() if shard == home and s != "S0000")
    assert by_load.assigned["S0000"] == home
    assert by_load.revision == by_number.revision + 1
    assert beside <= 0.25 * 159 / 4
    assert all(move.from_shard == home for move in moves(by_number, by_load))
    assert make_plan(MANY[:100], [1.0] * 4, None, by_load, loads) == by_load
    with pytest.raises(ValueError, match="loads"):
        make_plan(MANY[:10], [1.0], None, None, {"S0000": float("nan")})


@pytest.mark.parametrize(
    ("weights", "capacities"), [([], None), ([-1.0], None), ([float("nan")], None), ([1.0], [1, 2]), ([1.0], [-1])]
)
def test_wrong_arguments_are_refused(weights: list[float], capacities: list[int] | None) -> None:
    """No shards, bad weights, unequal lengths."""
    with pytest.raises(ValueError, match=r"shard|weights"):
        make_plan(["A"], weights, capacities)


def test_the_shard_setting_is_read_strictly() -> None:
    """i/n with i below n, or i alone for a plan to say the rest."""
    assert parse_shard("2/3") == (2, 3)
    assert parse_shard("7") == (7, None)
    for wrong in ("3/3", "-1", "-1/2", "a/b", "1/", ""):
        with pytest.raises(ValueError, match="i/n"):
            parse_shard(wrong)
