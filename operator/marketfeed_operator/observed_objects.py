"""What is kept of each watched object: little, because thousands are kept. Pure.

An object becomes an `Observed`: its identity, a fingerprint of everything that others could change (drift), a signature
of what matters for a feed's status, and the few parts that decisions read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marketfeed_operator.kinds import FEED_LABEL, MANAGED_BY, MARKETFEED, Kind
from marketfeed_operator.observed import PLAN_REVISION

Object = Mapping[str, Any]

# Set by the API server or by controllers on every object or as a consequence of ours; nobody's drift.
_OWN_METADATA = (
    "name",
    "namespace",
    "labels",
    "annotations",
    "ownerReferences",
    "uid",
    "resourceVersion",
    "generation",
)
_KEPT_METADATA = (*_OWN_METADATA, "deletionTimestamp", "creationTimestamp")
# The last one is ours, on pods, and only wakes their kubelet.
_CONTROLLER_ANNOTATIONS = ("deployment.kubernetes.io/", "batch.kubernetes.io/", PLAN_REVISION)


@dataclass(frozen=True, slots=True)
class Observed:
    """One object as the watch last showed it. `body` has no managedFields and no spec that nobody reads."""

    kind: str
    namespace: str
    name: str
    uid: str
    feed: str
    version: str
    fingerprint: str
    signature: str
    body: dict[str, Any]


def observe(kind: Kind, raw: Object) -> Observed:
    """What to keep of `raw`."""
    metadata = raw["metadata"]
    return Observed(
        kind=kind.name,
        namespace=str(metadata.get("namespace", "")),
        name=str(metadata["name"]),
        uid=str(metadata.get("uid", "")),
        feed=feed_of(metadata),
        version=str(metadata.get("resourceVersion", "")),
        fingerprint=fingerprint(raw),
        signature=signature(kind, raw),
        body=slim(kind, raw),
    )


def feed_of(metadata: Object) -> str:
    """The feed that an object belongs to: by its label, else (somebody removed it) by its owner; empty if to none."""
    if label := (metadata.get("labels") or {}).get(FEED_LABEL):
        return str(label)
    owners = metadata.get("ownerReferences") or ()
    return next((str(owner["name"]) for owner in owners if owner.get("kind") == "MarketFeed"), "")


def belongs_to(metadata: Object, feed: str) -> bool:
    """Whether an object is the feed's: owned by it, or made for it by the operator and orphaned since.

    An earlier feed of the same name counts: its children go to the next one.
    """
    labels = metadata.get("labels") or {}
    name, _, operator = MANAGED_BY.partition("=")
    if labels.get(name) == operator and labels.get(FEED_LABEL) == feed:
        return True
    owners = metadata.get("ownerReferences") or ()
    return any(owner.get("kind") == MARKETFEED.name and owner.get("name") == feed for owner in owners)


def fingerprint(raw: Object) -> str:
    """A hash of labels, annotations, owners and all that is not metadata or status: equal while nobody changed it."""
    metadata = raw["metadata"]
    annotations = {
        name: value
        for name, value in (metadata.get("annotations") or {}).items()
        if not name.startswith(_CONTROLLER_ANNOTATIONS)
    }
    rest = {name: value for name, value in raw.items() if name not in ("metadata", "status", "apiVersion", "kind")}
    facts = [metadata.get("uid"), metadata.get("labels"), annotations, metadata.get("ownerReferences"), rest]
    return _hash(facts)


def intent_hash(wanted: Object) -> str:
    """A hash of a wanted object, equal for equal intents."""
    return _hash(wanted)


def _hash(facts: object) -> str:
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def signature(kind: Kind, raw: Object) -> str:
    """A hash of what matters of the object's state for a feed; equal when an event tells nothing new."""
    if "deletionTimestamp" in raw["metadata"]:
        return "going"
    status = raw.get("status") or {}
    match kind.name:
        case "Pod":
            return _hash(_pod_state(status))
        case "Deployment":
            counts = [
                status.get(name) for name in ("observedGeneration", "replicas", "readyReplicas", "updatedReplicas")
            ]
            return _hash([counts, _conditions(status)])
        case "Job":
            return _hash([status.get("succeeded"), status.get("failed"), _conditions(status)])
        case _:
            return ""


def _pod_state(status: Object) -> list[object]:
    containers = [
        [
            container.get("name"),
            container.get("ready"),
            container.get("restartCount"),
            {state: (value or {}).get("reason") for state, value in (container.get("state") or {}).items()},
        ]
        for container in status.get("containerStatuses") or ()
    ]
    return [status.get("phase"), status.get("podIP"), containers, _conditions(status)]


def _conditions(status: Object) -> list[list[object]]:
    return [[c.get("type"), c.get("status"), c.get("reason")] for c in status.get("conditions") or ()]


def slim(kind: Kind, raw: Object) -> dict[str, Any]:
    """The parts of an object that decisions read."""
    metadata = {name: value for name, value in raw["metadata"].items() if name in _KEPT_METADATA}
    kept: dict[str, Any] = {"apiVersion": kind.group_version, "kind": kind.name, "metadata": metadata}
    if kind.name == "MarketFeed":
        kept["spec"] = raw.get("spec") or {}
    if kind.name == "Deployment":
        kept["spec"] = {"replicas": (raw.get("spec") or {}).get("replicas")}
    if kind.name == "ConfigMap":
        kept["data"] = raw.get("data") or {}
    if "status" in raw:
        kept["status"] = raw["status"]
    return kept


def feed_signature(raw: Object) -> tuple[object, ...]:
    """What of a MarketFeed asks for a reconcile when it changes: not its status, which we write ourselves."""
    metadata = raw["metadata"]
    annotations = {
        name: value for name, value in (metadata.get("annotations") or {}).items() if name.startswith("marketfeed.dev/")
    }
    return (
        metadata.get("uid"),
        metadata.get("generation"),
        _hash([annotations, metadata.get("labels")]),
        "deletionTimestamp" in metadata,
    )
