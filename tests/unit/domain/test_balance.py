"""Loads over shards: bounded where capacities allow, few moves, never back and forth."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain.balance import EXCESS_KEPT, EXCESS_MAX, balanced

Case = tuple[dict[str, int], dict[str, float], list[float], list[int]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """An assignment within capacities, loads from even to extreme, some symbols not measured."""
    weights = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=5).filter(any))
    usable = [shard for shard, weight in enumerate(weights) if weight > 0]
    shards = draw(st.lists(st.sampled_from(usable), max_size=40))
    assigned = {f"S{number:02d}": shard for number, shard in enumerate(shards)}
    loads = {s: draw(st.sampled_from([0.0, 0.1, 1.0, 1.5, 3.0, 10.0, 100.0])) for s in assigned if draw(st.booleans())}
    counts = Counter(shards)
    spare = draw(st.integers(0, 12))
    return assigned, loads, weights, [counts[s] + spare if w > 0 else 0 for s, w in enumerate(weights)]


def liking(symbol: str, shard: int) -> float:
    return random.Random(f"{symbol}/{shard}").random()


def carried(assigned: Mapping[str, int], loads: Mapping[str, float], shards: int) -> list[float]:
    sums = [0.0] * shards
    for symbol, shard in assigned.items():
        sums[shard] += loads.get(symbol, 0.0)
    return sums


def bound(shard: int, assigned: Mapping[str, int], loads: Mapping[str, float], fair: Sequence[float]) -> float:
    hottest = max((loads.get(s, 0.0) for s, its in assigned.items() if its == shard), default=0.0)
    return max(fair[shard], hottest) + EXCESS_MAX * fair[shard] + 1e-6


def fair_shares(loads: Mapping[str, float], assigned: Mapping[str, int], weights: Sequence[float]) -> list[float]:
    total = sum(loads.get(symbol, 0.0) for symbol in assigned)
    return [total * weight / sum(weights) for weight in weights]


@given(cases())
@settings(max_examples=150, deadline=None)
def test_who_is_overloaded_afterwards_has_nothing_that_could_go_anywhere(case: Case) -> None:
    """At most its share and a quarter, or its hottest symbol and that quarter, unless no other shard could take any."""
    assigned, loads, weights, capacities = case
    after = balanced(*case, liking)
    fair, sums, counts = (
        fair_shares(loads, after, weights),
        carried(after, loads, len(weights)),
        Counter(after.values()),
    )
    assert after.keys() == assigned.keys()
    assert all(counts[s] <= capacities[s] for s in range(len(weights)))
    for shard in range(len(weights)):
        if sums[shard] <= bound(shard, after, loads, fair):
            continue
        mine = sorted(loads.get(s, 0.0) for s, its in after.items() if its == shard and loads.get(s, 0.0) > 0)
        movable = mine[:-1] if mine[-1] > fair[shard] else mine
        for other in range(len(weights)):
            if other != shard and counts[other] < capacities[other] and fair[other] > 0:
                assert all(sums[other] + load > (1 + EXCESS_KEPT) * fair[other] for load in movable)


@given(cases())
@settings(max_examples=150, deadline=None)
def test_only_overloaded_shards_lose_symbols_and_the_worst_gets_no_worse(case: Case) -> None:
    """No move without need, and no measured load makes a shard the new worst one."""
    assigned, loads, weights, _ = case
    after = balanced(*case, liking)
    fair, before = fair_shares(loads, assigned, weights), carried(assigned, loads, len(weights))
    losers = {assigned[s] for s in assigned if after[s] != assigned[s]}
    if losers:
        assert any(before[s] > bound(s, assigned, loads, fair) - 2e-6 for s in losers)
    else:
        assert after == assigned
    assert all(loads.get(s, 0.0) > 0 for s in assigned if after[s] != assigned[s])
    sums = carried(after, loads, len(weights))
    level = [max(x / f for x, f in zip(of, fair, strict=True) if f > 0) if sum(of) else 0 for of in (before, sums)]
    assert level[1] <= level[0] + 1e-6


@given(cases())
@settings(max_examples=150, deadline=None)
def test_balancing_what_is_balanced_moves_nothing(case: Case) -> None:
    """Where it ends it stays: with equal loads no second plan differs from the first, whatever order they come in."""
    _, loads, weights, capacities = case
    after = balanced(*case, liking)
    assert balanced(after, loads, weights, capacities, liking) == after
    backwards = dict(reversed(list(after.items())))
    assert balanced(backwards, dict(reversed(list(loads.items()))), weights, capacities, liking) == after


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_loads_that_come_and_go_within_the_band_change_nothing(seed: int) -> None:
    """Once a shard was relieved, measurements that vary by a tenth never move a symbol again."""
    rng = random.Random(seed)
    loads = {f"S{number:03d}": 100.0 / (number + 1) for number in range(100)}
    plan = balanced(dict.fromkeys(loads, rng.randrange(3)), loads, [1.0] * 3, [100] * 3, liking)
    for _ in range(5):
        noisy = {symbol: load * rng.uniform(0.93, 1.07) for symbol, load in loads.items()}
        assert balanced(plan, noisy, [1.0] * 3, [100] * 3, liking) == plan


def test_as_few_as_possible_move() -> None:
    """One symbol that is enough is preferred to many, and nobody else is touched."""
    loads = {"A": 30.0, "B": 20.0, "C": 10.0, "D": 10.0, "E": 5.0, "F": 5.0, "X": 20.0}
    assigned = dict.fromkeys("ABCDEF", 0) | {"X": 1}
    after = balanced(assigned, loads, [1.0, 1.0], [10, 10], liking)
    assert {s for s in after if after[s] != assigned[s]} == {"A"}


def test_two_hot_symbols_part() -> None:
    """Each is above a fair share: one stays, the other goes where it makes the least trouble."""
    loads = {"H1": 40.0, "H2": 40.0, "A": 7.0, "B": 7.0, "C": 6.0}
    assigned = {"H1": 0, "H2": 0, "A": 1, "B": 2, "C": 3}
    after = balanced(assigned, loads, [1.0] * 4, [5] * 4, liking)
    assert after["H1"] != after["H2"]
    assert max(carried(after, loads, 4)) <= 47


def test_full_shards_keep_what_they_have() -> None:
    """Without a free place nothing moves, however uneven it is."""
    loads = {"A": 100.0, "B": 100.0, "C": 1.0, "D": 1.0}
    assigned = {"A": 0, "B": 0, "C": 1, "D": 1}
    assert balanced(assigned, loads, [1.0, 1.0], [2, 2], liking) == assigned
