"""The feed's plan: which shard serves which symbol, made from the specification, the plan in force and measured rates.

The plan in force is the one in the ConfigMap that ingest follows, so a new leader goes on where the old one was. Rates
move symbols only once in a while (`REBALANCE_S`), as every move costs a take-over; a change of shards or symbols is
followed at once, with rates taken into account.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from marketfeed.domain.sharding import Plan, make_plan, moves
from marketfeed_operator.observed import (
    PLAN_KEY,
    PLAN_REVISION,
    PLANNED_AT,
    FeedState,
    Member,
    Object,
    annotations_on,
    condition,
    member_of,
)
from marketfeed_operator.spec import MarketFeed

REBALANCE_S = 60.0
STEADY_S = 60.0
_SUMMARY_SYMBOLS = 5


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and what it changes.

    changed      whether it differs from the plan in force
    moves        how many symbols get another shard than they had, or lose theirs
    summary      the change for people, empty without one
    planned_at   when it was made, RFC 3339
    """

    plan: Plan
    changed: bool
    moves: int
    summary: str
    planned_at: str


class _PlanFile(msgspec.Struct):
    revision: int
    assigned: dict[str, int]
    overflow: list[str] = []
    weights: list[float] = []


_decoder = msgspec.json.Decoder(_PlanFile)  # made before there are threads: see `spec.SPEC_DECODER`


def plan_name(feed: MarketFeed) -> str:
    """Name of the plan's ConfigMap."""
    return f"{feed.name}-plan"


def encode(plan: Plan) -> str:
    """The plan as ingest reads it: JSON, symbols sorted."""
    body = _PlanFile(plan.revision, dict(sorted(plan.assigned.items())), list(plan.overflow), list(plan.weights))
    return msgspec.json.encode(body).decode() + "\n"


def decode(text: str) -> Plan | None:
    """The plan of such JSON; None for anything else, which is then planned anew."""
    try:
        body = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return None
    if body.revision < 0 or any(shard < 0 for shard in body.assigned.values()):
        return None
    return Plan(body.revision, body.assigned, tuple(body.overflow), tuple(body.weights))


def plan_in_force(feed: MarketFeed, state: FeedState) -> Plan | None:
    """The plan in the ConfigMap; None if there is none, or nobody can read it."""
    found = state.named("ConfigMap", plan_name(feed))
    return None if found is None else decode(str((found.get("data") or {}).get(PLAN_KEY, "")))


def revision_seen(state: FeedState) -> int:
    """The highest revision that anybody has seen: the status, a pod that was told of it, a pod's own word; 0 for none.

    A newer plan with a lower one would count as adopted by pods that have not read it.
    """
    seen = [state.shown_revision]
    for pod in state.pods("ingest"):
        announced, reading = annotations_on(pod).get(PLAN_REVISION, ""), state.reading(pod)
        followed = reading.part("symbols").get("plan_revision") if reading is not None else None
        seen += [int(announced)] if announced.isdecimal() else []
        seen += [followed] if isinstance(followed, int) else []
    return max(seen)


def next_plan(feed: MarketFeed, symbols: Sequence[str], state: FeedState, now: datetime) -> Planned:
    """The plan that should be in force."""
    previous = plan_in_force(feed, state)
    loads = measured(state, previous, now)
    settled_plan = _made(feed, symbols, previous, {})
    placed = previous is not None and settled_plan.revision == previous.revision
    if loads and not (placed and plan_age_s(feed, state, now) < REBALANCE_S):
        plan = _made(feed, symbols, previous, loads)
    else:
        plan = settled_plan
    if previous is None:
        # There may have been one that somebody deleted or broke.
        plan = Plan(revision_seen(state) + 1, plan.assigned, plan.overflow, plan.weights)
    if previous is not None and plan.revision == previous.revision and tuple(plan.weights) == tuple(previous.weights):
        return Planned(previous, False, 0, "", _planned_at(feed, state) or _text(now))
    if previous is not None and plan.revision == previous.revision:
        plan = Plan(plan.revision + 1, plan.assigned, plan.overflow, plan.weights)
    return Planned(plan, True, _moved(previous, plan), summary(previous, plan), _text(now))


def _made(feed: MarketFeed, symbols: Sequence[str], previous: Plan | None, loads: Mapping[str, float]) -> Plan:
    shards = feed.spec.shards
    if shards == 0 or feed.spec.source.history is not None:
        empty = Plan(previous.revision if previous else 1)
        if previous is not None and (previous.assigned or previous.overflow):
            return Plan(previous.revision + 1)
        return empty
    return make_plan(symbols, [1.0] * shards, capacities(feed), previous, loads or None)


def capacities(feed: MarketFeed) -> list[int] | None:
    """The most symbols that each shard can take; None for no bound. Each member has one key, and all of the shard."""
    finnhub = feed.spec.source.finnhub
    return None if finnhub is None else [finnhub.symbols_per_key] * feed.spec.shards


def measured(state: FeedState, previous: Plan | None, now: datetime) -> dict[str, float]:
    """Trades a second by symbol: the most that any member tells, as a standby receives what the owner does.

    Nothing unless every shard that has symbols tells, and has been at work for a while: symbols of a shard that says
    nothing would count as idle, and the others' would be piled upon it.
    """
    loads: dict[str, float] = {}
    shards: set[int] = set()
    for pod in state.pods("ingest"):
        reading, member = state.reading(pod), member_of(pod)
        if reading is None or member is None or not _is_steady(pod, now):
            continue
        shards.add(member.shard)
        for symbol, rate in reading.part("rates").items():
            if isinstance(rate, int | float) and 0 <= rate < float("inf"):
                loads[symbol] = max(loads.get(symbol, 0.0), float(rate))
    return loads if previous is not None and set(previous.assigned.values()) <= shards else {}


def _is_steady(pod: Object, now: datetime) -> bool:
    """Whether a pod has been ready for so long that its rates, which are means over half a minute, mean something."""
    ready = condition(pod, "Ready")
    if ready is None or ready.get("status") != "True":
        return False
    since_s = _seconds_since(str(ready.get("lastTransitionTime", "")), now)
    return since_s is not None and since_s >= STEADY_S


def emptied(plan: Plan, member: Member) -> bool:
    """Whether the plan gives a member nothing."""
    return member.shard not in plan.assigned.values()


def summary(previous: Plan | None, plan: Plan) -> str:
    """What changes, for people: `revision 4: 12 symbols from shard 0 to 1 (AAPL, …); 2 symbols fit nowhere (…)`."""
    told = []
    for move in moves(previous, plan):
        what = f"{_count(move.symbols)} "
        if move.from_shard is None:
            what += f"to shard {move.to_shard}"
        elif move.to_shard is None:
            what += f"away from shard {move.from_shard}"
        else:
            what += f"from shard {move.from_shard} to {move.to_shard}"
        told.append(f"{what} ({_some(move.symbols)})")
    if plan.overflow:
        told.append(f"{_count(plan.overflow)} without a place ({_some(plan.overflow)})")
    return f"revision {plan.revision}: {'; '.join(told) or 'no symbol moves'}"


def _moved(previous: Plan | None, plan: Plan) -> int:
    return sum(len(move.symbols) for move in moves(previous, plan) if move.from_shard is not None)


def _count(symbols: Sequence[str]) -> str:
    return "1 symbol" if len(symbols) == 1 else f"{len(symbols)} symbols"


def _some(symbols: Sequence[str]) -> str:
    shown = ", ".join(symbols[:_SUMMARY_SYMBOLS])
    return shown + (", …" if len(symbols) > _SUMMARY_SYMBOLS else "")


def _planned_at(feed: MarketFeed, state: FeedState) -> str:
    found = state.named("ConfigMap", plan_name(feed))
    return "" if found is None else annotations_on(found).get(PLANNED_AT, "")


def plan_age_s(feed: MarketFeed, state: FeedState, now: datetime) -> float:
    """Seconds since the plan in force was made; infinite if that is not known."""
    since_s = _seconds_since(_planned_at(feed, state), now)
    return float("inf") if since_s is None else since_s


def _seconds_since(text: str, now: datetime) -> float | None:
    try:
        return (now - datetime.fromisoformat(text)).total_seconds()
    except (ValueError, TypeError):
        return None


def _text(now: datetime) -> str:
    return now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
