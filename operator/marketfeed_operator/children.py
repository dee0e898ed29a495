"""Every child that a feed should have, as a pure function of its specification and of what is seen of it.

Each is the full intent for a server-side apply. Topics and tables come first: pods that need them are made, and
replaced by newer ones, only after the prepare Job of just this specification has succeeded. Meanwhile a feed that ran
before goes on as it is: its Deployments are left alone, and one that somebody deletes comes back as it was
(`prepared_feed.py`).

Jobs run once, so one that is there is left as it is; one that is in the way of a corrected one is deleted, and made
anew when it is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from marketfeed_operator.children_ingest import ingest
from marketfeed_operator.children_jobs import history, is_in_the_way, prepare, prepare_name
from marketfeed_operator.children_network import disruption_budgets, network_policies, pod_monitor
from marketfeed_operator.children_parts import Child, PodDefaults, child, labels_of
from marketfeed_operator.children_services import generator, generator_service, mds, mds_services, recorder
from marketfeed_operator.observed import PLAN_KEY, PLANNED_AT, FeedState, Member, holds
from marketfeed_operator.plan import Planned, encode, plan_name
from marketfeed_operator.prepared_feed import PREPARED, prepared_before, remembered, written_down
from marketfeed_operator.spec import MarketFeed


@dataclass(frozen=True, slots=True)
class Desired:
    """What should be.

    apply      children, in the order in which they are to be applied
    keep       (kind, name) of children that exist and are to be neither applied nor deleted now
    replaced   (kind, name) of children that are to be deleted now and made anew after
    waiting    members that cannot be made yet, as no API key is free
    """

    apply: tuple[Child, ...]
    keep: frozenset[tuple[str, str]] = frozenset()
    replaced: frozenset[tuple[str, str]] = frozenset()
    waiting: tuple[Member, ...] = ()


def is_prepared(feed: MarketFeed, state: FeedState, defaults: PodDefaults) -> bool:
    """Whether the prepare Job of this specification has succeeded."""
    job = state.named("Job", prepare_name(feed, defaults))
    return job is not None and holds(job, "Complete")


def desired(feed: MarketFeed, state: FeedState, planned: Planned, defaults: PodDefaults, now: datetime) -> Desired:
    """All children of a feed."""
    ready = is_prepared(feed, state, defaults)
    memory = written_down(feed, defaults) if ready else remembered(feed, state)
    plan = plan_config_map(feed, planned, memory)
    first = [plan, *network_policies(feed), *mds_services(feed), *disruption_budgets(feed)]
    if feed.spec.source.generator is not None:
        first += [generator_service(feed), generator(feed, defaults)]
    keep: set[tuple[str, str]] = set()
    # A history Job outlives each new prepare Job: another one would read the files again.
    reads = [history(feed, defaults)] if feed.spec.source.history is not None else []
    jobs = [prepare(feed, defaults), *reads]
    replaced = frozenset(_key(job) for job in jobs if is_in_the_way(state, job))
    keep |= {key for key in map(_key, jobs) if state.named(*key) is not None} - replaced
    rest: list[Child] = []
    waiting: tuple[Member, ...] = ()
    if ready:
        members = ingest(feed, state, planned, defaults, now)
        rest = [recorder(feed, defaults), *members.apply, mds(feed, defaults)]
        keep |= {("Deployment", name) for name in members.keep}
        waiting = tuple(members.waiting)
    else:
        jobs = [job for job in jobs if job not in reads]
        there = {("Deployment", str(its["metadata"]["name"])) for its in state.of_kind("Deployment")}
        keep |= there
        rest = [its for its in _as_before(feed, state, planned, defaults, now) if _key(its) not in there]
    rest += [pod_monitor(feed)] if state.pod_monitors else []
    applied = [its for its in [*first, *jobs, *rest] if _key(its) not in keep | replaced or its in first]
    return Desired(tuple(applied), frozenset(keep), replaced, waiting)


def _as_before(
    feed: MarketFeed, state: FeedState, planned: Planned, defaults: PodDefaults, now: datetime
) -> list[Child]:
    """The Deployments of the feed as it was prepared last; none if it never was."""
    before = prepared_before(feed, state)
    if before is None:
        return []
    return [recorder(before, defaults), *ingest(before, state, planned, defaults, now).apply, mds(before, defaults)]


def plan_config_map(feed: MarketFeed, planned: Planned, memory: str | None = None) -> Child:
    """The plan, which ingest follows without a restart; `memory` is of what was prepared last."""
    data = {PLAN_KEY: encode(planned.plan)}
    made = child(feed, "v1", "ConfigMap", plan_name(feed), labels_of(feed, "ingest"), data=data)
    made["metadata"]["annotations"] = {PLANNED_AT: planned.planned_at, **({PREPARED: memory} if memory else {})}
    return made


def _key(its: Child) -> tuple[str, str]:
    return its["kind"], its["metadata"]["name"]
