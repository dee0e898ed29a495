"""Which shard serves which symbol: capacity-bounded, weighted rendezvous hashing, and as little movement as possible.

Mechanism
- Every (symbol, shard) has a score, -weight / ln(u) with u the symbol's hash for that shard in (0, 1): the shard with
  the highest score is the symbol's favourite, and over many symbols each shard is favourite in proportion to its
  weight. A shard that is added takes only what now likes it best; one that is removed frees only what it had.
- A shard takes at most its capacity (a vendor's limit of symbols per key). Whom it refuses goes on to its next best.
- With a previous plan a symbol stays where it is, unless its favourite has changed (weights or shards did), its shard
  is gone, or the shard has become too small. So adding or removing a symbol moves no other symbol.
- What fits nowhere is `overflow`, in order of symbols, never silently dropped.

- With measured loads, shards that carry clearly more than their share give symbols away, as few as possible, and one
  hot symbol has little beside it: `balance.py`.

Hashes are BLAKE2b, equal on every machine and in every version. Numbers of shards are positions; a shard that leaves in
the middle is expressed by weight 0. The plan file's form is `wire/plan.py`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from marketfeed.domain.balance import balanced

# No vendor's limit is near it; "unbounded" would make arithmetic special.
UNBOUNDED = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Plan:
    """Who serves what.

    revision     grows with every change
    assigned     symbol -> shard (position)
    overflow     symbols that no shard has room for, sorted
    weights      of the shards, as the plan was made with; a changed favourite shows only against these
    """

    revision: int
    assigned: Mapping[str, int] = field(default_factory=dict)
    overflow: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()

    def of_shard(self, shard: int) -> tuple[str, ...]:
        """The symbols of a shard, sorted."""
        return tuple(sorted(symbol for symbol, its in self.assigned.items() if its == shard))


def make_plan(
    symbols: Iterable[str],
    weights: Sequence[float],
    capacities: Sequence[int] | None = None,
    previous: Plan | None = None,
    loads: Mapping[str, float] | None = None,
) -> Plan:
    """Assign symbols to the shards 0 … len(weights) - 1. Pure: equal arguments give an equal plan, in any order.

    weights      how much of the whole each shard should serve, relative; 0 serves nothing
    capacities   the most symbols each shard can take; None for no bound
    previous     the plan in force, whose assignments are kept where possible; its revision + 1 is the new one's,
                 or its own revision if nothing changes
    loads        what symbols were measured to cost, in any one unit (trades a second); one that is not named counts as
                 none, and without any the shards are balanced by numbers of symbols alone

    Raises ValueError for no shard, a negative or not finite weight or load, unequal lengths or a negative capacity.
    """
    room = _checked_capacities(weights, capacities)
    if loads and any(not math.isfinite(load) or load < 0 for load in loads.values()):
        raise ValueError("loads have to be finite and not negative")
    wanted = sorted(set(symbols))
    assigned = _fill(wanted, weights, room, previous)
    if loads:
        assigned = balanced(assigned, loads, weights, room, lambda name, shard: _score(name, shard, weights[shard]))
    overflow = tuple(symbol for symbol in wanted if symbol not in assigned)
    plan = Plan((previous.revision if previous else 0) + 1, assigned, overflow, tuple(map(float, weights)))
    if previous and dict(previous.assigned) == assigned and previous.overflow == overflow:
        return Plan(previous.revision, assigned, overflow, plan.weights)
    return plan


def equal_shares(symbols: Iterable[str], shards: int) -> Plan:
    """The plan of `--shard i/n` without a plan file: equal weights, no bound, no history."""
    return make_plan(symbols, [1.0] * shards)


@dataclass(frozen=True, slots=True)
class Move:
    """Symbols (sorted) that a new plan takes from one shard to another; None stands for no shard: new, or in overflow,
    or left out."""

    from_shard: int | None
    to_shard: int | None
    symbols: tuple[str, ...]


def moves(previous: Plan | None, following: Plan) -> tuple[Move, ...]:
    """What changes between two plans, in order of shards; empty if no symbol has another place."""
    before: Mapping[str, int] = previous.assigned if previous else {}
    found: dict[tuple[int | None, int | None], list[str]] = {}
    for symbol in sorted(before.keys() | following.assigned.keys()):
        place = before.get(symbol), following.assigned.get(symbol)
        if place[0] != place[1]:
            found.setdefault(place, []).append(symbol)
    order = sorted(found, key=lambda place: tuple(-1 if shard is None else shard for shard in place))
    return tuple(Move(*place, tuple(found[place])) for place in order)


def parse_shard(text: str) -> tuple[int, int | None]:
    """`"1/3"` -> (1, 3): the second of three; `"1"` -> (1, None): the second of as many as a plan says.

    Raises ValueError with what is expected.
    """
    index_text, slash, count_text = text.partition("/")
    if index_text.isdecimal() and not slash:
        return int(index_text), None
    if not (index_text.isdecimal() and count_text.isdecimal() and int(index_text) < int(count_text)):
        raise ValueError(f"{text!r} is not i/n with 0 <= i < n, such as 0/1 or 2/3, nor i alone for use with a plan")
    return int(index_text), int(count_text)


def _checked_capacities(weights: Sequence[float], capacities: Sequence[int] | None) -> list[int]:
    if not weights:
        raise ValueError("there has to be at least one shard")
    if any(not math.isfinite(weight) or weight < 0 for weight in weights):
        raise ValueError(f"weights have to be finite and not negative, got {list(weights)}")
    room = [UNBOUNDED] * len(weights) if capacities is None else list(capacities)
    if len(room) != len(weights) or any(capacity < 0 for capacity in room):
        raise ValueError(f"each of {len(weights)} shards needs a capacity not below 0, got {room}")
    return [capacity if weight > 0 else 0 for capacity, weight in zip(room, weights, strict=True)]


def _score(symbol: str, shard: int, weight: float) -> float:
    digest = hashlib.blake2b(f"{shard}/{symbol}".encode(), digest_size=8).digest()
    # 53 bits and a half, so that u is never 0 or 1.
    unit = ((int.from_bytes(digest, "big") >> 11) + 0.5) / 2**53
    return -weight / math.log(unit)


def _ranking(symbol: str, weights: Sequence[float]) -> list[tuple[float, int]]:
    """(score, shard) of the shards that serve anything, best first."""
    scored = [(_score(symbol, shard, weight), shard) for shard, weight in enumerate(weights) if weight > 0]
    return sorted(scored, key=lambda pair: (-pair[0], pair[1]))


def _fill(
    symbols: Sequence[str],
    weights: Sequence[float],
    room: Sequence[int],
    previous: Plan | None,
) -> dict[str, int]:
    """Places by claim, the stronger first; among equal claims whoever likes the shard best gets the place.

    0 stays where it is, 1 its favourite, 2 where it was although its favourite changed, 3 the rest.
    """
    claims: list[tuple[int, float, str, int]] = []
    for symbol in symbols:
        ranking = _ranking(symbol, weights)
        favourite = ranking[0][1] if ranking else None
        home = previous.assigned.get(symbol) if previous else None
        stays = previous is not None and home is not None and _may_stay(symbol, favourite, previous, weights)
        for score, shard in ranking:
            at_home = shard == home
            claim = 0 if at_home and stays else 1 if shard == favourite else 2 if at_home else 3
            claims.append((claim, -score, symbol, shard))
    left = list(room)
    assigned: dict[str, int] = {}
    for _, _, symbol, shard in sorted(claims):
        if left[shard] > 0 and symbol not in assigned:
            assigned[symbol] = shard
            left[shard] -= 1
    return assigned


def _may_stay(symbol: str, favourite: int | None, previous: Plan, weights: Sequence[float]) -> bool:
    """Whether the symbol's favourite is what it was when the previous plan was made (one without weights: yes)."""
    if not previous.weights or previous.weights == tuple(map(float, weights)):
        return True
    before = _ranking(symbol, previous.weights)
    return bool(before) and before[0][1] == favourite
