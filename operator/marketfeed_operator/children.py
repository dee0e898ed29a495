"""Every child that a feed should have, as a pure function of its specification and of what is seen of it.

Each is the full intent for a server-side apply. Topics and tables come first: pods that need them are made, and
replaced by newer ones, only after the prepare Job of just this specification has succeeded. Meanwhile a feed that ran
before goes on as it is: its Deployments are left alone, and one that somebody deletes comes back as it is specified
now, for its topics and tables are there but for what is new.

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
    first = [plan_config_map(feed, planned), *network_policies(feed), *mds_services(feed), *disruption_budgets(feed)]
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
    there = {("Deployment", str(its["metadata"]["name"])) for its in state.of_kind("Deployment")}
    ready = is_prepared(feed, state, defaults)
    if ready or _ran_before(feed, there):
        members = ingest(feed, state, planned, defaults, now)
        rest = [recorder(feed, defaults), *members.apply, mds(feed, defaults)]
        keep |= {("Deployment", name) for name in members.keep}
        waiting = tuple(members.waiting)
    if not ready:
        jobs = [job for job in jobs if job not in reads]
        keep |= there
        rest = [its for its in rest if _key(its) not in there]
    rest += [pod_monitor(feed)] if state.pod_monitors else []
    applied = [its for its in [*first, *jobs, *rest] if _key(its) not in keep | replaced or its in first]
    return Desired(tuple(applied), frozenset(keep), replaced, waiting)


def _ran_before(feed: MarketFeed, there: set[tuple[str, str]]) -> bool:
    """Whether topics and tables were made for the feed: only then has it a recorder or an mds."""
    return not there.isdisjoint({("Deployment", f"{feed.name}-recorder"), ("Deployment", f"{feed.name}-mds")})


def plan_config_map(feed: MarketFeed, planned: Planned) -> Child:
    """The plan, which ingest follows without a restart."""
    data = {PLAN_KEY: encode(planned.plan)}
    made = child(feed, "v1", "ConfigMap", plan_name(feed), labels_of(feed, "ingest"), data=data)
    made["metadata"]["annotations"] = {PLANNED_AT: planned.planned_at}
    return made


def _key(its: Child) -> tuple[str, str]:
    return its["kind"], its["metadata"]["name"]
