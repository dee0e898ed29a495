"""What is seen of a feed: its children as API objects, and what its pods say of themselves. Values only.

Objects are the API server's JSON; of each only metadata, `status`, a Deployment's `spec.replicas` and a ConfigMap's
`data` are read, so a cache may drop the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

Object = Mapping[str, Any]

COMPONENT = "app.kubernetes.io/component"
FEED = "marketfeed.dev/feed"
SHARD = "marketfeed.dev/shard"
MEMBER = "marketfeed.dev/member"
API_KEY = "marketfeed.dev/api-key"
KAFKA = "marketfeed.dev/kafka"
TEMPLATE_HASH = "marketfeed.dev/template-hash"
# On ingest's pods: the plan that was announced to them.
PLAN_REVISION = "marketfeed.dev/plan-revision"
PLANNED_AT = "marketfeed.dev/planned-at"
PLAN_KEY = "plan.json"

# Why a container waits, by the kubelet's word: for its image, or for what its settings are read from.
NO_IMAGE = frozenset({"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
NO_SETTINGS = frozenset({"CreateContainerConfigError", "CreateContainerError"})

# A reading older than this says nothing about now.
FRESH_S = 45.0


@dataclass(frozen=True, slots=True)
class PodReading:
    """The /status of a pod: the JSON object that it answered, and how many seconds ago."""

    age_s: float
    body: Object

    @property
    def fresh(self) -> bool:
        """Whether it is young enough to decide by."""
        return self.age_s <= FRESH_S

    def number(self, name: str) -> float | None:
        """A number of the body; None if it is absent or something else."""
        value = self.body.get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def text(self, name: str) -> str:
        """A text of the body; empty if it is absent."""
        value = self.body.get(name)
        return value if isinstance(value, str) else ""

    def part(self, name: str) -> Object:
        """An object inside the body; empty if it is absent."""
        value = self.body.get(name)
        return value if isinstance(value, Mapping) else {}

    @property
    def waiting_for(self) -> dict[str, str]:
        """The parts that are not ready, with the reason."""
        return {str(part): str(why) for part, why in self.part("waiting_for").items()}


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a shard."""

    shard: int
    number: int


@dataclass(frozen=True, slots=True)
class FeedState:
    """Everything that was seen of one feed.

    objects        all its children, and their pods
    readings       what pods said, by pod name
    symbols_text   the content that `symbolsFrom` names; None if there is none
    pod_monitors   whether the API of PodMonitors is served
    shown_revision the plan's revision as the status in force shows it; 0 if it shows none
    refusals       why the API server takes no pod of a Job, by the Job's name, in its own words
    """

    objects: tuple[Object, ...] = ()
    readings: Mapping[str, PodReading] = field(default_factory=dict)
    symbols_text: str | None = None
    pod_monitors: bool = False
    shown_revision: int = 0
    refusals: Mapping[str, str] = field(default_factory=dict)

    def of_kind(self, kind: str) -> Iterator[Object]:
        """The objects of a kind that are not on their way out."""
        return (obj for obj in self.objects if obj.get("kind") == kind and "deletionTimestamp" not in obj["metadata"])

    def named(self, kind: str, name: str) -> Object | None:
        """One object, or None."""
        return next((obj for obj in self.of_kind(kind) if obj["metadata"]["name"] == name), None)

    def pods(self, component: str, member: Member | None = None) -> list[Object]:
        """The pods of a component (of one member), by name."""
        wanted = {COMPONENT: component}
        if member is not None:
            wanted |= {SHARD: str(member.shard), MEMBER: str(member.number)}
        found = [pod for pod in self.of_kind("Pod") if wanted.items() <= labels_on(pod).items()]
        return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))

    def pods_of(self, owner: Object) -> list[Object]:
        """The pods that an object owns itself."""
        uid = owner["metadata"].get("uid")
        return [pod for pod in self.of_kind("Pod") if any(its.get("uid") == uid for its in owners_of(pod))]

    def without(self, keys: Iterable[tuple[str, str]]) -> FeedState:
        """The same as if these (kind, name) and their pods were gone already."""
        gone = [found for key in keys if (found := self.named(*key)) is not None]
        pods = [pod for one in gone for pod in self.pods_of(one)]
        return replace(self, objects=tuple(obj for obj in self.objects if obj not in gone and obj not in pods))

    def reading(self, pod: Object) -> PodReading | None:
        """What a pod said, if it did of late."""
        found = self.readings.get(str(pod["metadata"]["name"]))
        return found if found is not None and found.fresh else None

    def member_reading(self, member: Member) -> PodReading | None:
        """What a member's pod said of late; with two pods, during a replacement, the younger answer."""
        found = [reading for pod in self.pods("ingest", member) if (reading := self.reading(pod)) is not None]
        return min(found, key=lambda reading: reading.age_s, default=None)

    def ingest_deployments(self) -> dict[Member, Object]:
        """The members' Deployments that exist."""
        found = {}
        for deployment in self.of_kind("Deployment"):
            member = member_of(deployment)
            if member is not None and labels_on(deployment).get(COMPONENT) == "ingest":
                found[member] = deployment
        return found


def labels_on(obj: Object) -> Mapping[str, str]:
    """An object's labels."""
    return obj["metadata"].get("labels") or {}


def component_of(obj: Object) -> str:
    """The component that an object belongs to."""
    return labels_on(obj).get(COMPONENT, "")


def annotations_on(obj: Object) -> Mapping[str, str]:
    """An object's annotations."""
    return obj["metadata"].get("annotations") or {}


def member_of(obj: Object) -> Member | None:
    """The member that an object belongs to by its labels; None for none."""
    shard, member = labels_on(obj).get(SHARD, ""), labels_on(obj).get(MEMBER, "")
    return Member(int(shard), int(member)) if shard.isdecimal() and member.isdecimal() else None


def condition(obj: Object, kind: str) -> Object | None:
    """A condition of an object's status, or None."""
    found = (obj.get("status") or {}).get("conditions") or ()
    return next((condition for condition in found if condition.get("type") == kind), None)


def holds(obj: Object, kind: str) -> bool:
    """Whether a condition is True."""
    found = condition(obj, kind)
    return found is not None and found.get("status") == "True"


def podless_jobs(objects: Iterable[Object], now: datetime, at_least_s: float) -> list[Object]:
    """The Jobs that are not at their end, have no pod, and are at least so old."""
    objects = tuple(objects)
    owners = {str(owner["uid"]) for obj in objects if obj["kind"] == "Pod" for owner in owners_of(obj)}
    found = []
    for job in objects:
        if job["kind"] != "Job" or "deletionTimestamp" in job["metadata"] or str(job["metadata"].get("uid")) in owners:
            continue
        made = str(job["metadata"].get("creationTimestamp") or "")
        age_s = (now - datetime.fromisoformat(made)).total_seconds() if made else 0.0
        if age_s >= at_least_s and not holds(job, "Complete") and not holds(job, "Failed"):
            found.append(job)
    return found


def owners_of(obj: Object) -> list[Object]:
    """What an object belongs to."""
    return obj["metadata"].get("ownerReferences") or []


def is_settled(deployment: Object) -> bool:
    """Whether a Deployment's pods are all the wanted ones and ready, as `kubectl rollout status` judges."""
    status = deployment.get("status") or {}
    wanted = (deployment.get("spec") or {}).get("replicas", 1)
    replicas = int(status.get("replicas") or 0)
    return (
        int(status.get("observedGeneration") or 0) >= int(deployment["metadata"].get("generation") or 0)
        and int(status.get("updatedReplicas") or 0) == replicas == wanted
        and int(status.get("readyReplicas") or 0) == wanted
    )


def cannot_begin(pod: Object) -> bool:
    """Whether a pod has done nothing yet and waits for something that only a change can give it."""
    scheduled = condition(pod, "PodScheduled")
    if scheduled is not None and scheduled.get("status") == "False":
        return True
    containers = (pod.get("status") or {}).get("containerStatuses") or ()
    return bool(containers) and all(map(_is_stuck, containers))


def _is_stuck(container: Object) -> bool:
    waiting = (container.get("state") or {}).get("waiting") or {}
    return waiting.get("reason") in NO_IMAGE | NO_SETTINGS and not container.get("restartCount")


def is_started(pod: Object) -> bool:
    """Whether a pod is at work, ready or not: it is Running and its container's startup probe has succeeded."""
    status = pod.get("status") or {}
    return status.get("phase") == "Running" and any(
        container.get("started") is True for container in status.get("containerStatuses") or ()
    )
