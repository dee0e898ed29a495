"""What the shards do, member by member, and the figures of the whole feed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from marketfeed.domain.sharding import Plan
from marketfeed_operator.children_ingest import members
from marketfeed_operator.observed import FeedState, Member, Object, PodReading, holds, labels_on
from marketfeed_operator.spec import MarketFeed
from marketfeed_operator.spec_status import HistoryStatus, ShardStatus

_SPEAKS = "live"
_AT_WORK = frozenset({"live", "standby", "idle"})


@dataclass(frozen=True, slots=True)
class ShardView:
    """One shard: whether it does what the plan says, and how many of its members are at work."""

    shard: int
    symbols: int
    serving: bool
    at_work: int
    adopted: bool


def shard_views(feed: MarketFeed, state: FeedState, plan: Plan) -> list[ShardView]:
    """The shards that the specification asks for."""
    return [_view(feed, state, plan, shard) for shard in range(feed.spec.shards)] if members(feed) else []


def _view(feed: MarketFeed, state: FeedState, plan: Plan, shard: int) -> ShardView:
    count = len(plan.of_shard(shard))
    its_members = [Member(shard, number) for number in range(feed.spec.redundancy)]
    looks = [_look(state, member, count) for member in its_members]
    revisions = [_revision(state.member_reading(member)) for member in its_members]
    return ShardView(
        shard=shard,
        symbols=count,
        serving=any(serving for serving, _ in looks),
        at_work=sum(works for _, works in looks),
        adopted=all(revision is None or revision >= plan.revision for revision in revisions),
    )


def _look(state: FeedState, member: Member, symbols: int) -> tuple[bool, bool]:
    """(publishes for the shard, is at work). A pod that was not asked yet is believed by its readiness."""
    reading = state.member_reading(member)
    if reading is None:
        ready = any(holds(pod, "Ready") for pod in state.pods("ingest", member))
        return ready, ready
    phase, connected = reading.text("phase"), reading.body.get("connected") is True
    if symbols == 0:
        return phase in _AT_WORK, phase in _AT_WORK
    # One that takes over more symbols is not settled, and publishes for those it has.
    speaks = phase == _SPEAKS or _published(reading) > 0
    return speaks and connected, phase in _AT_WORK and connected


def _published(reading: PodReading) -> int:
    value = reading.part("symbols").get("live")
    return value if isinstance(value, int) else 0


def published(state: FeedState) -> int:
    """How many symbols connected pods publish together, by their own word."""
    readings = [reading for pod in state.pods("ingest") if (reading := state.reading(pod)) is not None]
    return sum(_published(reading) for reading in readings if reading.body.get("connected") is True)


def _revision(reading: PodReading | None) -> int | None:
    value = reading.part("symbols").get("plan_revision") if reading else None
    return value if isinstance(value, int) else None


def shard_status(feed: MarketFeed, state: FeedState, plan: Plan) -> list[ShardStatus]:
    """Every member that is wanted or still there."""
    known = {*members(feed), *state.ingest_deployments()}
    return [_member(state, plan, member) for member in sorted(known, key=lambda its: (its.shard, its.number))]


def _member(state: FeedState, plan: Plan, member: Member) -> ShardStatus:
    pods = state.pods("ingest", member)
    running = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Running"] or pods
    reading = state.member_reading(member)
    body: Mapping[str, object] = reading.body if reading else {}
    symbols = reading.part("symbols") if reading else {}
    symbols_hash = symbols.get("hash")
    return ShardStatus(
        shard=member.shard,
        member=member.number,
        pod=str(running[-1]["metadata"]["name"]) if running else None,
        phase=(reading.text("phase") or None) if reading else None,
        connected=body.get("connected") is True,
        symbols=len(plan.of_shard(member.shard)),
        symbols_hash=symbols_hash if isinstance(symbols_hash, str) else None,
        rate=_figure(reading, "rate"),
        lag_seconds=_figure(reading, "lag_s"),
        last_event_age_seconds=_figure(reading, "last_event_age_s"),
    )


def _figure(reading: PodReading | None, name: str) -> str | None:
    number = reading.number(name) if reading else None
    return None if number is None else f"{number:.1f}"


def total_rate(state: FeedState) -> str | None:
    """Trades a second that are published, over all shards; None if nobody told."""
    rates = [
        rate
        for pod in state.pods("ingest")
        if (reading := state.reading(pod)) is not None
        and (reading.text("phase") == _SPEAKS or _published(reading) > 0)
        and (rate := reading.number("rate")) is not None
    ]
    if not rates:
        return None
    total = sum(rates)
    return f"{total:.1f}/s" if total < 10 else f"{total:.0f}/s"


def greatest_lag(state: FeedState) -> str | None:
    """The greatest age of a publishing member's watermark; None if nobody told."""
    lags = [
        lag
        for pod in state.pods("ingest")
        if (reading := state.reading(pod)) is not None
        and reading.text("phase") == _SPEAKS
        and (lag := reading.number("lag_s")) is not None
    ]
    return f"{max(lags):.1f}s" if lags else None


def history_status(state: FeedState, job: Object | None) -> HistoryStatus:
    """How far the history Job is, by its pod's word, or by the line that it left at its end."""
    if job is None:
        return HistoryStatus(phase="Pending")
    phase = "Succeeded" if holds(job, "Complete") else "Failed" if holds(job, "Failed") else "Running"
    told = _told(state, job)
    rows = _whole(told.get("rows"))
    return HistoryStatus(
        phase=phase,
        rows_done=rows,
        rows_total=rows if phase == "Succeeded" else _whole(told.get("rows_total")),
        percent="100.0" if phase == "Succeeded" else _percent(told.get("percent")),
        bad_lines=_whole(told.get("bad_lines")),
    )


def _told(state: FeedState, job: Object) -> Mapping[str, object]:
    its = labels_on(job).get("app.kubernetes.io/component", "history")
    for pod in reversed(state.pods(its)):
        # Its last word counts; what it said on the way is fresh for some seconds more.
        for container in (pod.get("status") or {}).get("containerStatuses") or ():
            ended = (container.get("state") or {}).get("terminated") or {}
            if (result := _result(str(ended.get("message", "")))) is not None:
                return result
        reading = state.reading(pod)
        if reading is not None:
            return reading.body
    return {}


def _result(text: str) -> Mapping[str, object] | None:
    """The line of JSON that a history process leaves; None if it left something else."""
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return None
    return found if isinstance(found, dict) else None


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None


def _percent(value: object) -> str | None:
    return f"{value:.1f}" if isinstance(value, int | float) else None
