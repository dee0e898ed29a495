"""The status of a MarketFeed: conditions that kstatus and `kubectl wait` understand, and what the shards do.

- Ready is what people wait for: that the feed serves, whatever else is wrong. Reconciling and Stalled are abnormal when
  True and never True together: work is in progress, or somebody has to change something. Degraded is True when the feed
  serves less than was asked for.
- A condition's time is that of its last change of status, so that writing it again changes nothing.
- A paused feed keeps the generation that was acted on last, which tells that a newer one was not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Self

import msgspec

from marketfeed_operator.children import Desired, is_prepared
from marketfeed_operator.children_jobs import history_name
from marketfeed_operator.children_parts import PodDefaults
from marketfeed_operator.cluster_errors import ClusterError
from marketfeed_operator.observed import FeedState, Object, component_of, holds, is_settled
from marketfeed_operator.plan import Planned
from marketfeed_operator.spec import GROUP, InvalidSpec, MarketFeed, is_paused
from marketfeed_operator.spec_status import CONDITIONS, MESSAGE_LENGTH_MAX, OVERFLOW_SHOWN, Condition, Reason, Status
from marketfeed_operator.status_findings import Finding, findings
from marketfeed_operator.status_shards import (
    ShardView,
    greatest_lag,
    history_status,
    published,
    shard_status,
    shard_views,
    total_rate,
)

# A sentence may tell seconds that pass; it may wait for its turn.
_OF_CONDITIONS = ("type", "status", "reason", "observedGeneration")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the operator could not do its work for a feed; `final` if a repeat cannot help before somebody acts."""

    reason: Reason
    message: str
    final: bool

    @classmethod
    def of_invalid(cls, error: InvalidSpec) -> Self:
        """A specification that cannot become a pipeline. A missing ConfigMap is looked for again."""
        return cls(Reason.INVALID_SPEC, str(error), final=True)

    @classmethod
    def of_refusal(cls, status: int, message: str) -> Self:
        """What the API server answered to a write: its HTTP status and its sentence."""
        if "exceeded quota" in message:
            return cls(Reason.QUOTA_EXCEEDED, f"{message}; raise the quota", final=True)
        if status == 403:
            return cls(Reason.FORBIDDEN, f"{message}; grant the operator this right (charts/marketfeed-operator)", True)
        if status in (400, 409, 413, 422):
            return cls(Reason.REFUSED, message, final=True)
        return cls(Reason.UNAVAILABLE, message, final=False)

    @classmethod
    def of_failure(cls, error: Exception) -> Self:
        """What ended a reconcile before it could judge: an answer of the API server, its time, or a bug."""
        if isinstance(error, ClusterError):
            return cls.of_refusal(error.status, str(error))
        if isinstance(error, TimeoutError):
            return cls(Reason.UNAVAILABLE, f"{error}; tried again", final=False)
        told = f"{type(error).__name__}: {error}; the operator's log has the whole, please report it; tried again"
        return cls(Reason.INTERNAL_ERROR, told, final=False)


@dataclass(frozen=True, slots=True)
class _Judgement:
    """A condition without its times."""

    holds: bool
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """Everything that the conditions are judged by."""

    feed: MarketFeed
    state: FeedState
    prepared: bool
    shards: list[ShardView]
    findings: list[Finding]
    overflow: int
    unsettled: list[str]
    resharding: bool
    published: int
    planned: int
    waiting: int
    job: Object | None

    @property
    def all_published(self) -> bool:
        """Whether connected pods together publish as many symbols as the plan has, whichever shard they are of.

        While a shard starts or leaves, symbols are still published by those that had them.
        """
        return 0 < self.planned <= self.published

    @property
    def history(self) -> str | None:
        """The mode of `source.history`, None for live sources."""
        source = self.feed.spec.source.history
        return source.mode if source is not None else None


def build(
    feed_object: Object,
    state: FeedState,
    now: datetime,
    defaults: PodDefaults,
    *,
    feed: MarketFeed | None = None,
    planned: Planned | None = None,
    wanted: Desired | None = None,
    previous: Mapping[str, Any] | None = None,
    problem: Problem | None = None,
) -> dict[str, Any]:
    """The whole status, as it is to be applied.

    feed, planned, wanted   as far as the reconcile came; without them only `problem` is told
    previous                the status in force, whose times are kept where nothing changed
    """
    previous = previous or {}
    generation = int(feed_object["metadata"].get("generation", 0))
    paused = is_paused(feed_object)
    if paused:
        generation = int(previous.get("observedGeneration", 0))
    if feed is None or planned is None:
        kept = {name: value for name, value in previous.items() if name not in ("conditions", "observedGeneration")}
        judged = _told_only(problem, paused=paused)
        return {
            **kept,
            **_encoded(Status(observed_generation=generation)),
            **_conditions(judged, generation, previous, now),
        }
    if wanted is not None:
        # What failed before is no news while it is made anew.
        state = state.without(wanted.replaced)
    seen = _look(feed, state, planned, wanted, defaults)
    judged = _judge(seen, problem, paused=paused)
    figures = _figures(seen, planned, generation)
    return {**_encoded(figures), **_conditions(judged, generation, previous, now)}


def troubled(previous: Mapping[str, Any], problem: Problem, generation: int, now: datetime) -> dict[str, Any]:
    """The status of a feed that could not be judged: figures and Ready as they were, the problem in the rest.

    What runs goes on running while the operator fails, so a feed that was ready stays it; the generation that was acted
    on last stays, too, which tells tools that the newest one was not.
    """
    conditions = previous.get("conditions") or ()
    if not any(its.get("type") == "Ready" for its in conditions):
        kept = {name: value for name, value in previous.items() if name != "conditions"}
        return {**kept, **_conditions(_told_only(problem, paused=False), generation, previous, now)}
    told = _Judgement(True, problem.reason, problem.message)
    fine = _Judgement(False, Reason.AS_SPECIFIED, "not judged")
    judged = {
        "Reconciling": _Judgement(not problem.final, problem.reason, problem.message),
        "Stalled": told if problem.final else fine,
        "Degraded": told,
    }
    made = _conditions({**dict.fromkeys(CONDITIONS, fine), **judged}, generation, previous, now)["conditions"]
    ready = [its for its in conditions if its.get("type") == "Ready"]
    return {**previous, "conditions": [*ready, *(its for its in made if its["type"] != "Ready")]}


def changed_materially(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a new status has to be written at once: when a condition or the plan in force changed.

    All else, pods and phases of shards included, may wait for its turn: a shard that comes and goes would otherwise
    have the status written at every look.
    """
    return old.get("planRevision") != new.get("planRevision") or _states(old) != _states(new)


def _states(status: Mapping[str, Any]) -> list[tuple[object, ...]]:
    return [tuple(its.get(name) for name in _OF_CONDITIONS) for its in status.get("conditions") or ()]


def _encoded(status: Status) -> dict[str, Any]:
    encoded: dict[str, Any] = msgspec.to_builtins(status)
    return encoded


def _look(feed: MarketFeed, state: FeedState, planned: Planned, wanted: Desired | None, defaults: PodDefaults) -> _Seen:
    shards = shard_views(feed, state, planned.plan)
    deployments = list(state.of_kind("Deployment"))
    missing = [] if wanted is None else _missing(state, wanted)
    unsettled = sorted(str(its["metadata"]["name"]) for its in deployments if not is_settled(its))
    leaving = [member for member in state.ingest_deployments() if member.shard >= feed.spec.shards]
    moving = bool(leaving) or any(not view.adopted for view in shards)
    return _Seen(
        feed=feed,
        state=state,
        prepared=is_prepared(feed, state, defaults),
        shards=shards,
        findings=findings(state),
        overflow=len(planned.plan.overflow),
        unsettled=sorted({*missing, *unsettled, *_held(wanted)}),
        resharding=moving,
        published=published(state),
        planned=len(planned.plan.assigned),
        waiting=len(wanted.waiting) if wanted is not None else 0,
        job=state.named("Job", history_name(feed)) if feed.spec.source.history is not None else None,
    )


def _missing(state: FeedState, wanted: Desired) -> list[str]:
    """Deployments that are wanted and not there yet."""
    there = {str(its["metadata"]["name"]) for its in state.of_kind("Deployment")}
    names = [its["metadata"]["name"] for its in wanted.apply if its["kind"] == "Deployment"]
    return [name for name in names if name not in there]


def _held(wanted: Desired | None) -> list[str]:
    return [name for kind, name in (wanted.keep if wanted else ()) if kind == "Deployment"]


def _judge(seen: _Seen, problem: Problem | None, *, paused: bool) -> dict[str, _Judgement]:
    worst = _worst(seen, problem)
    ready = _ready(seen, worst)
    return {
        "Ready": ready,
        "Reconciling": _reconciling(seen, ready, worst, paused=paused),
        "Stalled": _stalled(worst),
        "Degraded": _degraded(seen, worst),
    }


def _worst(seen: _Seen, problem: Problem | None) -> Finding | None:
    if problem is not None:
        return Finding(problem.reason, problem.message, problem.final)
    return seen.findings[0] if seen.findings else None


def _ready(seen: _Seen, worst: Finding | None) -> _Judgement:
    """Whether it serves what it should, whatever is wrong elsewhere: with a standby, or with a pod that is new."""
    lacking = _lacking(seen)
    if lacking is not None and worst is not None and (worst.final or not _serves(seen)):
        return _Judgement(False, worst.reason, worst.message)
    if lacking is not None:
        return lacking
    if seen.history is not None:
        done = seen.job is not None and holds(seen.job, "Complete")
        reason = Reason.FINISHED if done else Reason.REPLAYING
        return _Judgement(True, reason, "all files are read" if done else "the files are being replayed")
    if seen.feed.spec.shards == 0:
        return _Judgement(True, Reason.STOPPED, "spec.shards is 0: nothing is read, what is stored is served")
    return _Judgement(True, Reason.SERVING, "all parts run, every shard is connected")


def _lacking(seen: _Seen) -> _Judgement | None:
    """What keeps a feed from being ready; None for nothing. What ran before goes on while anew is being prepared."""
    idle = _idle_parts(seen)
    unread = seen.history == "import" and not (seen.job is not None and holds(seen.job, "Complete"))
    if not seen.prepared and (idle or (unread and seen.job is None)):
        return _Judgement(False, Reason.PREPARING, _preparing(seen))
    if seen.job is not None and holds(seen.job, "Failed"):
        return _Judgement(False, Reason.HISTORY_FAILED, "the files could not be read")
    if unread:
        return _Judgement(False, Reason.IMPORTING, "the files are being imported")
    if idle:
        return _Judgement(False, Reason.STARTING, f"not ready yet: {', '.join(idle)}")
    return None


def _serves(seen: _Seen) -> bool:
    return seen.prepared and not _idle_parts(seen)


def _idle_parts(seen: _Seen) -> list[str]:
    """The parts that do not do their work: services without a ready pod, shards that do not publish."""
    parts = {"recorder", "mds"} if seen.feed.spec.mds.replicas else {"recorder"}
    if seen.feed.spec.source.generator is not None:
        parts.add("generator")
    ready = {
        component_of(its)
        for its in seen.state.of_kind("Deployment")
        if int((its.get("status") or {}).get("readyReplicas") or 0) > 0
    }
    silent = [] if seen.all_published else [f"shard {view.shard}" for view in seen.shards if not view.serving]
    return [*sorted(parts - ready), *silent]


def _preparing(seen: _Seen) -> str:
    if not seen.state.pods("prepare"):
        return "topics and tables are to be made; the Job has no pod yet (if that lasts: kubectl describe job)"
    return "topics and tables are being made; the rest waits for it"


def _reconciling(seen: _Seen, ready: _Judgement, worst: Finding | None, *, paused: bool) -> _Judgement:
    if paused:
        return _Judgement(False, Reason.PAUSED, f"the annotation {GROUP}/paused tells the operator to change nothing")
    if worst is not None and worst.final:
        return _Judgement(False, worst.reason, "somebody has to act first, see Stalled")
    if not ready.holds:
        return _Judgement(True, ready.reason, ready.message)
    if not seen.prepared:
        return _Judgement(True, Reason.PREPARING, worst.message if worst is not None else _preparing(seen))
    if seen.waiting:
        return _Judgement(True, Reason.RESHARDING, f"{seen.waiting} members wait for a key that a leaving one has")
    if seen.resharding or any(not view.serving for view in seen.shards):
        return _Judgement(True, Reason.RESHARDING, "symbols move to other shards")
    if seen.unsettled:
        return _Judgement(True, Reason.ROLLING_OUT, f"being replaced or started: {', '.join(seen.unsettled)}")
    return _Judgement(False, Reason.AS_SPECIFIED, "what runs is what is specified")


def _stalled(worst: Finding | None) -> _Judgement:
    if worst is not None and worst.final:
        return _Judgement(True, worst.reason, worst.message)
    return _Judgement(False, Reason.AS_SPECIFIED, "nothing that would not heal by itself")


def _degraded(seen: _Seen, worst: Finding | None) -> _Judgement:
    if seen.overflow:
        some = "1 symbol fits" if seen.overflow == 1 else f"{seen.overflow} symbols fit"
        return _Judgement(
            True, Reason.OVERFLOW, f"{some} under no key, see status.overflow: add keys and shards, or take symbols out"
        )
    if worst is not None and seen.prepared:
        return _Judgement(True, worst.reason, worst.message)
    short = [view for view in seen.shards if view.serving and view.at_work < seen.feed.spec.redundancy]
    names = ", ".join(str(view.shard) for view in short)
    if short and seen.feed.spec.redundancy > 1:
        return _Judgement(True, Reason.NO_STANDBY, f"fewer members than spec.redundancy at work in shard {names}")
    if short and seen.published < seen.planned:
        told = f"{seen.published} of {seen.planned} symbols are published"
        return _Judgement(True, Reason.RESHARDING, f"shard {names} is taking symbols over: {told}")
    return _Judgement(False, Reason.AS_SPECIFIED, "all that was asked for is served")


def _told_only(problem: Problem | None, *, paused: bool) -> dict[str, _Judgement]:
    """The conditions of a feed of which nothing is known but the problem."""
    if problem is None:
        problem = Problem(Reason.UNAVAILABLE, "not looked at yet", final=False)
    told = _Judgement(True, problem.reason, problem.message)
    fine = _Judgement(False, Reason.AS_SPECIFIED, "not judged")
    waits = Problem(problem.reason, "somebody has to act first, see Stalled", final=True) if problem.final else problem
    reconciling = _Judgement(not problem.final, waits.reason, waits.message)
    if paused:
        reconciling = _Judgement(
            False, Reason.PAUSED, f"the annotation {GROUP}/paused tells the operator to change nothing"
        )
    return {
        "Ready": _Judgement(False, problem.reason, problem.message),
        "Reconciling": reconciling,
        "Stalled": told if problem.final else fine,
        "Degraded": fine,
    }


def _conditions(
    judged: Mapping[str, _Judgement], generation: int, previous: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    before = {its.get("type"): its for its in previous.get("conditions") or ()}
    moment = now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    made = []
    for kind in CONDITIONS:
        its, old = judged[kind], before.get(kind, {})
        status: Literal["True", "False"] = "True" if its.holds else "False"
        kept = old.get("lastTransitionTime") if old.get("status") == status else None
        made.append(
            Condition(
                type=kind,
                status=status,
                reason=its.reason,
                message=its.message[:MESSAGE_LENGTH_MAX],
                observed_generation=generation,
                last_transition_time=kept or moment,
            )
        )
    return {"conditions": msgspec.to_builtins(made)}


def _figures(seen: _Seen, planned: Planned, generation: int) -> Status:
    feed, state, plan = seen.feed, seen.state, planned.plan
    live = seen.history is None
    shards = {member.shard for member in state.ingest_deployments()}
    return Status(
        observed_generation=generation,
        source=feed.spec.source.kind,
        symbols=len(plan.assigned) if live else None,
        shards=len(shards),
        ready_shards=sum(view.serving for view in seen.shards),
        # One member of each shard, so that an autoscaler counts shards and not their standbys.
        selector=f"{GROUP}/feed={feed.name},app.kubernetes.io/component=ingest,{GROUP}/member=0",
        rate=total_rate(state),
        lag=greatest_lag(state),
        plan_revision=plan.revision if live else None,
        shard_status=tuple(shard_status(feed, state, plan)),
        overflow_count=len(plan.overflow) or None,
        overflow=tuple(plan.overflow[:OVERFLOW_SHOWN]),
        history=history_status(state, seen.job) if not live else None,
    )
