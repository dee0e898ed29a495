"""Ingest: a Deployment of one pod for every member of every shard, each with its own connection and API key.

- A member keeps its key while it exists: the key is written on its Deployment and its pods. A new member takes the key
  at its own position, else the first that nobody has; where none is free it waits until a leaving one's pod has gone.
- A shard that left the specification keeps its Deployments until the pods say that they own nothing, so that symbols
  are handed over before they are let go. A surplus member goes as soon as another one of its shard is at work.
- When the template changes, members are replaced one at a time: the others wait for their turn. While a member waits
  for Kafka with trades in its spool, only members whose pods run nothing are replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from marketfeed_operator.children_parts import (
    FEED_PORT,
    Child,
    Container,
    PodDefaults,
    apart,
    deployment,
    labels_of,
    pod_template,
    secret,
    selector_of,
    spread,
    topic_env,
    value,
    volume_mount,
)
from marketfeed_operator.observed import (
    API_KEY,
    KAFKA,
    TEMPLATE_HASH,
    FeedState,
    Member,
    Object,
    annotations_on,
    is_settled,
    is_started,
    member_of,
)
from marketfeed_operator.plan import Planned, emptied, plan_age_s, plan_name
from marketfeed_operator.spec import MarketFeed
from marketfeed_operator.spec_fields import KeyRef

# A leaving pod that tells nothing for so long is not waited for: the shards that gained its symbols have taken them.
LEAVE_AFTER_S = 600.0
_AT_WORK = frozenset({"live", "standby", "idle"})
_ENDED = frozenset({"Succeeded", "Failed"})
_PLAN_DIR = "/etc/marketfeed/plan"
_SPOOL_DIR = "/var/lib/marketfeed"
# The spool and the standby buffer share one volume, whose pod is evicted when it is full. Their own bookkeeping, and
# what is written down at the end of a process, need room beside what both may hold.
_SPOOL_SHARE = 0.6
_BUFFER_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class IngestChildren:
    """The Deployments to apply, the names of those that are left alone for now, and members without a key."""

    apply: list[Child] = field(default_factory=list)
    keep: list[str] = field(default_factory=list)
    waiting: list[Member] = field(default_factory=list)


def ingest_name(feed: MarketFeed, member: Member) -> str:
    """Name of a member's Deployment."""
    return f"{feed.name}-ingest-{member.shard}-{member.number}"


def ingest(
    feed: MarketFeed, state: FeedState, planned: Planned, defaults: PodDefaults, now: datetime
) -> IngestChildren:
    """The members' Deployments."""
    existing = state.ingest_deployments()
    wanted = [*members(feed), *leaving(feed, state, planned, now)]
    keys = key_indices(feed, wanted, state)
    found = IngestChildren()
    for member in sorted(wanted, key=lambda its: (its.shard, its.number)):
        if feed.spec.source.finnhub is not None and member not in keys:
            (found.keep.append(ingest_name(feed, member)) if member in existing else found.waiting.append(member))
        else:
            found.apply.append(_deployment(feed, defaults, member, keys.get(member)))
    return _one_at_a_time(feed, found, state)


def members(feed: MarketFeed) -> list[Member]:
    """The members that the specification asks for; none for history, which a Job reads."""
    if feed.spec.source.history is not None:
        return []
    return [Member(shard, number) for shard in range(feed.spec.shards) for number in range(feed.spec.redundancy)]


def leaving(feed: MarketFeed, state: FeedState, planned: Planned, now: datetime) -> list[Member]:
    """Members that the specification asks for no more, but that have to stay for a while."""
    surplus = set(state.ingest_deployments()) - set(members(feed))
    return sorted(
        (member for member in surplus if not _may_go(feed, state, planned, member, now)),
        key=lambda its: (its.shard, its.number),
    )


def _may_go(feed: MarketFeed, state: FeedState, planned: Planned, member: Member, now: datetime) -> bool:
    others = [Member(member.shard, number) for number in range(feed.spec.redundancy)]
    if member.shard < feed.spec.shards:
        found = [state.member_reading(other) for other in others]
        return any(reading is not None and reading.text("phase") in _AT_WORK for reading in found)
    pods = state.pods("ingest", member)
    if not any((pod.get("status") or {}).get("phase") == "Running" for pod in pods):
        return True
    reading = state.member_reading(member)
    if reading is None:
        return not planned.changed and emptied(planned.plan, member) and plan_age_s(feed, state, now) > LEAVE_AFTER_S
    revision = reading.part("symbols").get("plan_revision")
    # What it said of an older plan says nothing of this one, which may have given its shard something again.
    of_this_plan = not planned.changed and isinstance(revision, int) and revision >= planned.plan.revision
    return of_this_plan and reading.body.get("owns_nothing") is True


def key_indices(feed: MarketFeed, wanted: list[Member], state: FeedState) -> dict[Member, int]:
    """Which API key each member has: never one for two, and the one it has, if that is still listed.

    What another member's Deployment or pod has is not free, though the member may be wanted no more: its pod keeps its
    connection until it has ended, which on a lost node nobody sees.
    """
    finnhub = feed.spec.source.finnhub
    if finnhub is None:
        return {}
    listed = {key_text(key): index for index, key in enumerate(finnhub.api_keys)}
    free = {index: text for text, index in listed.items()}
    existing, carriers = state.ingest_deployments(), _carriers(state)
    keys: dict[Member, int] = {}
    for member in wanted:
        index = listed.get(annotations_on(existing[member]).get(API_KEY, "")) if member in existing else None
        if index is not None and index in free:
            keys[member] = index
            del free[index]
    for member in wanted:
        usable = [index for index, text in free.items() if carriers.get(text, set()) <= {member}]
        if member not in keys and usable:
            own = member.shard * feed.spec.redundancy + member.number
            keys[member] = own if own in usable else usable[0]
            del free[keys[member]]
    return keys


def _carriers(state: FeedState) -> dict[str, set[Member | None]]:
    """Who has each key: every Deployment and every pod that may still run, those on their way out included."""
    carriers: dict[str, set[Member | None]] = {}
    for obj in state.objects:
        ended = (obj.get("status") or {}).get("phase") in _ENDED
        if obj.get("kind") in ("Deployment", "Pod") and not ended and (text := annotations_on(obj).get(API_KEY)):
            carriers.setdefault(text, set()).add(member_of(obj))
    return carriers


def key_text(key: KeyRef) -> str:
    """How a key is written in an annotation."""
    return f"{key.name}/{key.key}"


def _one_at_a_time(feed: MarketFeed, found: IngestChildren, state: FeedState) -> IngestChildren:
    """Replace the pods of one member at a time: what would be replaced next waits until all others are settled."""
    by_name = {str(obj["metadata"]["name"]): (member, obj) for member, obj in state.ingest_deployments().items()}
    outdated = {its["metadata"]["name"]: its for its in found.apply if _is_outdated(its, by_name)}
    settled = {name for name, (_, obj) in by_name.items() if is_settled(obj)}
    holding = {name for name in outdated if _holds_trades(feed, state, *by_name[name])}
    # One that runs nothing loses nothing by being replaced. One that is not ready may well receive and spool.
    broken = [name for name in outdated if name not in settled and not _runs(state, by_name[name][0])]
    # Among the others one that is not ready goes first: the new template may be what mends it.
    in_turn = sorted(outdated, key=lambda name: name in settled)[:1]
    blocked = holding or set(by_name) - set(outdated) - settled
    waiting = set(outdated) - set(broken or ([] if blocked else in_turn))
    return IngestChildren(
        apply=[its for its in found.apply if its["metadata"]["name"] not in waiting],
        keep=[*found.keep, *sorted(waiting)],
        waiting=found.waiting,
    )


def _runs(state: FeedState, member: Member) -> bool:
    return any(is_started(pod) for pod in state.pods("ingest", member))


def _holds_trades(feed: MarketFeed, state: FeedState, member: Member, existing: Object) -> bool:
    """Whether a member waits for Kafka with trades that nobody else may have: its spool goes with its pod.

    One that waits for another Kafka than the specified one would wait for ever.
    """
    reading = state.member_reading(member)
    servers = feed.spec.kafka.bootstrap_servers
    if reading is None or "kafka" not in reading.waiting_for or annotations_on(existing).get(KAFKA, servers) != servers:
        return False
    return bool(reading.part("spool").get("bytes") or reading.part("trades").get("unacknowledged"))


def _is_outdated(its: Child, existing: Mapping[str, tuple[Member, Object]]) -> bool:
    found = existing.get(its["metadata"]["name"])
    wanted: str = its["metadata"]["annotations"][TEMPLATE_HASH]
    return found is not None and annotations_on(found[1]).get(TEMPLATE_HASH) != wanted


def _placement(feed: MarketFeed, member: Member) -> Child:
    """Ingest pods of a feed are spread, whatever their shard; above all, members of one shard are not on one node.

    It does not depend on how many members there are: another number of them must not replace those that run. Two
    constraints of a pod may not have the same topologyKey, so that of the shard is said as affinity.
    """
    shard = selector_of(feed, "ingest", shard=str(member.shard))
    return {
        "topologySpreadConstraints": spread(selector_of(feed, "ingest")),
        "affinity": {"podAntiAffinity": apart(shard)},
    }


def _deployment(feed: MarketFeed, defaults: PodDefaults, member: Member, key: int | None) -> Child:
    parts = {"shard": str(member.shard), "member": str(member.number)}
    labels = labels_of(feed, "ingest", **parts)
    container = _container(feed, member, key)
    template = pod_template(feed, defaults, container, labels, feed.spec.ingest, **_placement(feed, member))
    has_key = {}
    if key is not None and feed.spec.source.finnhub is not None:
        has_key = {API_KEY: key_text(feed.spec.source.finnhub.api_keys[key])}
        template["metadata"].setdefault("annotations", {}).update(has_key)
    made = deployment(feed, defaults, ingest_name(feed, member), labels, selector_of(feed, "ingest", **parts), template)
    made["metadata"]["annotations"] |= {KAFKA: feed.spec.kafka.bootstrap_servers, **has_key}
    return made


def _container(feed: MarketFeed, member: Member, key: int | None) -> Container:
    spool = feed.spec.ingest.spool
    size = f"{round(spool.size_gigabytes * 1000)}M"
    env = [
        *topic_env(feed),
        *_source_env(feed, member, key),
        value("SHARD", member.shard),
        value("MEMBER", member.number),
        value("PLAN", f"{_PLAN_DIR}/plan.json"),
        value("SPOOL_DIR", f"{_SPOOL_DIR}/spool"),
        value("SPOOL_MB", spool.size_gigabytes * 1000 * _SPOOL_SHARE),
        value("BUFFER_MB", spool.size_gigabytes * 1000 * _BUFFER_SHARE),
    ]
    volumes = [
        # Not optional: a pod without a plan would have nothing to do, and the ConfigMap is made first.
        {"name": "plan", "configMap": {"name": plan_name(feed)}},
        {"name": "spool", **_spool_volume(spool.storage_class_name, size)},
    ]
    return Container(
        component="ingest",
        args=("ingest",),
        env=tuple(env),
        requests={"cpu": "25m", "memory": "192Mi"},
        limits={"cpu": "2", "memory": "1Gi"},
        volumes=tuple(volumes),
        mounts=(volume_mount("plan", _PLAN_DIR, read_only=True), volume_mount("spool", _SPOOL_DIR)),
    )


def _spool_volume(storage_class: str | None, size: str) -> Child:
    if storage_class is None:
        return {"emptyDir": {"sizeLimit": size}}
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": storage_class,
        "resources": {"requests": {"storage": size}},
    }
    return {"ephemeral": {"volumeClaimTemplate": {"spec": claim}}}


def _source_env(feed: MarketFeed, member: Member, key: int | None) -> list[Child]:
    finnhub = feed.spec.source.finnhub
    if finnhub is None:
        url = f"ws://{feed.name}-generator:{FEED_PORT}/"
        # The generator lets in any key, but like the vendor only one connection per key.
        own_key = f"shard-{member.shard}-{member.number}"
        return [value("SOURCE", "generator"), value("FINNHUB_URL", url), value("FINNHUB_API_KEY", own_key)]
    assert key is not None
    return [
        value("SOURCE", "finnhub"),
        value("FINNHUB_URL", finnhub.url),
        secret("FINNHUB_API_KEY", finnhub.api_keys[key]),
        value("SYMBOLS_MAX", finnhub.symbols_per_key),
    ]
