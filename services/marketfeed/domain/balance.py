"""Moves symbols away from shards that carry too much, as few as possible, and never back and forth.

Mechanism
- A shard's fair share is its weight's part of the whole load. It is overloaded when it carries more than its base, the
  greater of its fair share and its hottest symbol, plus `EXCESS_MAX` of the fair share: a symbol hotter than a fair
  share cannot be split, so it stays where it is and the others move away from it.
- An overloaded shard sheds until it is at its base plus `EXCESS_KEPT` of the fair share. Between the two nothing moves,
  so measurements that come and go change no plan.
- What is shed is the least symbol that is enough, else the greatest that fits. It goes where it leaves the receiver
  within `EXCESS_KEPT` of its fair share, the best liked of these shards first; if there is no such place, to one that
  it leaves less loaded than the giver was, by the band's width at least.
- Every move takes from a shard and leaves the receiver less loaded than the giver was: the greatest load falls, so it
  ends, and where it ends another run with equal loads finds nothing to do.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence

EXCESS_MAX = 0.25
EXCESS_KEPT = 0.10

# Sums of floats are not exact; nobody moves for a rounding error.
_ROUNDING = 1e-9

Liking = Callable[[str, int], float]


def balanced(
    assigned: Mapping[str, int],
    loads: Mapping[str, float],
    weights: Sequence[float],
    capacities: Sequence[int],
    liking: Liking,
) -> dict[str, int]:
    """`assigned` with the fewest symbols moved that bring every shard to its share, as far as capacities allow.

    loads       of symbols in any unit; one that is not named counts as none and is never moved
    capacities  the most symbols each shard can take
    liking      (symbol, shard) -> how much the symbol prefers that shard, to choose between equal ones
    """
    result = dict(assigned)
    floor = _Floor(result, loads, weights, capacities, liking)
    if floor.total > 0:
        while any(floor.relieve(shard) for shard in floor.overloaded()):
            pass
    return result


class _Floor:
    """The shards with their symbols by load, and what each carries."""

    def __init__(
        self,
        assigned: dict[str, int],
        loads: Mapping[str, float],
        weights: Sequence[float],
        capacities: Sequence[int],
        liking: Liking,
    ) -> None:
        self._assigned = assigned
        self._liking = liking
        self._held: list[list[tuple[float, str]]] = [[] for _ in weights]
        self._left = list(capacities)
        for symbol, shard in assigned.items():
            self._left[shard] -= 1
            load = loads.get(symbol, 0.0)
            if load > 0:
                self._held[shard].append((load, symbol))
        for held in self._held:
            held.sort()
        self._load = [sum(load for load, _ in held) for held in self._held]
        self.total = sum(self._load)
        self._fair = [self.total * weight / sum(weights) for weight in weights]
        self._rounding = self.total * _ROUNDING

    def overloaded(self) -> list[int]:
        """Shards above what they may carry, the worst first."""
        over = {shard: self._load[shard] - self._bound(shard, EXCESS_MAX) for shard in range(len(self._held))}
        return sorted((s for s in over if over[s] > self._rounding), key=lambda s: (-over[s], s))

    def relieve(self, giver: int) -> bool:
        """Move symbols away until the shard carries its share again; False if none can be moved."""
        moved = False
        while (excess := self._load[giver] - self._bound(giver, EXCESS_KEPT)) > self._rounding:
            rooms = self._kept_rooms(giver) or self._better_rooms(giver)
            symbol = self._chosen(giver, excess, max(rooms.values(), default=0.0))
            if symbol is None and (rooms := self._better_rooms(giver)):
                symbol = self._chosen(giver, excess, max(rooms.values()))
            if symbol is None:
                break
            fits = [shard for shard, room in rooms.items() if room >= symbol[0]]
            self._move(symbol, giver, max(fits, key=lambda shard: (self._liking(symbol[1], shard), -shard)))
            moved = True
        return moved

    def _bound(self, shard: int, excess: float) -> float:
        """The most that a shard may carry with this much above its fair share or its hottest symbol."""
        hottest = self._held[shard][-1][0] if self._held[shard] else 0.0
        return max(self._fair[shard], hottest) + excess * self._fair[shard]

    def _receivers(self, giver: int) -> list[int]:
        return [s for s in range(len(self._held)) if s != giver and self._left[s] > 0 and self._fair[s] > 0]

    def _kept_rooms(self, giver: int) -> dict[int, float]:
        """What each other shard can take and still be within its share."""
        rooms = {s: (1 + EXCESS_KEPT) * self._fair[s] - self._load[s] for s in self._receivers(giver)}
        return {shard: room for shard, room in rooms.items() if room > 0}

    def _better_rooms(self, giver: int) -> dict[int, float]:
        """What each other shard can take and still be clearly less loaded than the giver is now."""
        level = self._load[giver] / self._fair[giver] - (EXCESS_MAX - EXCESS_KEPT)
        rooms = {s: level * self._fair[s] - self._load[s] for s in self._receivers(giver)}
        return {shard: room for shard, room in rooms.items() if room > 0}

    def _chosen(self, giver: int, excess: float, room: float) -> tuple[float, str] | None:
        """The least symbol that is enough, else the greatest, of those that fit; never one above a fair share."""
        held = self._held[giver]
        end = bisect_right(held, (room, "\U0010ffff"))
        if held and held[-1][0] > self._fair[giver]:
            end = min(end, len(held) - 1)
        if end == 0:
            return None
        return held[min(bisect_left(held, (excess, "")), end - 1)]

    def _move(self, symbol: tuple[float, str], giver: int, receiver: int) -> None:
        load, name = symbol
        self._held[giver].remove(symbol)
        held = self._held[receiver]
        held.insert(bisect_left(held, symbol), symbol)
        self._load[giver] -= load
        self._load[receiver] += load
        self._left[giver] += 1
        self._left[receiver] -= 1
        self._assigned[name] = receiver
