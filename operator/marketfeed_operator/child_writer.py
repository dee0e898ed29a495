"""Makes a feed's children what they are wanted to be: applies what differs, repairs drift, deletes what has to go.

Server-side apply with the full intent each time. A child is left alone while its intent is the one applied last and the
watch shows it unchanged since; anything else, a missing one included, is applied again. Kinds that no watch shows are
applied again with each resync. What was applied is remembered for one leadership only, so a new leader applies
everything once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marketfeed_operator import metrics
from marketfeed_operator.cluster import Cluster
from marketfeed_operator.cluster_errors import ClusterError, Conflict, Refused
from marketfeed_operator.kinds import BY_NAME, CHILD_KINDS, POD, Kind
from marketfeed_operator.logs import facts
from marketfeed_operator.observed import PLAN_REVISION
from marketfeed_operator.observed_objects import Observed, belongs_to, fingerprint, intent_hash, observe

log = logging.getLogger("operator.children")

Key = tuple[str, str]
ChildKey = tuple[str, str]  # kind, name
_WATCHED = frozenset(kind.name for kind in CHILD_KINDS)
# After so many writes without any answer the rest has to wait, or they would take all the time of the reconcile.
_UNANSWERED_MAX = 2


@dataclass(slots=True)
class Applied:
    """What was applied last: a hash of the intent, and fingerprint and version of the object as it was stored then.

    `stored` is the object itself, kept until the watch has caught up; `due`: it is to be applied again, though nothing
    shows that it changed. An empty version means that it could not be applied.
    """

    intent: str
    fingerprint: str
    version: str
    stored: Observed | None = None
    due: bool = False


def must_apply(intent: str, applied: Applied | None, seen: Observed | None, watched: bool) -> bool:
    """Whether a child has to be applied. Pure.

    A view older than our own write is no drift: the watch has not caught up yet.
    """
    if applied is None or applied.intent != intent:
        return True
    if not watched:
        return applied.due
    if seen is None:
        return True
    return seen.fingerprint != applied.fingerprint and not _older(seen.version, applied.version)


def _older(seen: str, applied: str) -> bool:
    """Whether a resourceVersion is older; versions that are no numbers are not judged."""
    return seen.isdecimal() and applied.isdecimal() and int(seen) < int(applied)


def superfluous(feed_uid: str, wanted: Iterable[ChildKey], seen: Iterable[Observed]) -> list[Observed]:
    """Children of this very feed that are wanted no more, Deployments first so that their pods go. Pure."""
    kept = set(wanted)
    found = [
        child
        for child in seen
        if child.kind in _WATCHED
        and (child.kind, child.name) not in kept
        and "deletionTimestamp" not in child.body["metadata"]
        and any(owner.get("uid") == feed_uid for owner in child.body["metadata"].get("ownerReferences") or ())
    ]
    return sorted(found, key=lambda child: (child.kind != "Deployment", child.kind, child.name))


def freshened(remembered: Mapping[ChildKey, Applied], seen: Sequence[Observed]) -> tuple[Observed, ...]:
    """What the watch shows, with our own newer writes in place of what it shows still.

    Otherwise a reconcile right after another would plan from a plan that is no longer in force, or let the next shard
    roll because the last one's new generation has not come round yet.
    """
    by_key = {(child.kind, child.name): child for child in seen}
    for which, applied in remembered.items():
        if applied.stored is None:
            continue
        shown = by_key.get(which)
        if shown is None or _older(shown.version, applied.version):
            by_key[which] = applied.stored
        else:
            applied.stored = None
    return tuple(by_key.values())


def _unanswered(failed: Mapping[ChildKey, ClusterError]) -> bool:
    return sum(error.status == 0 for error in failed.values()) >= _UNANSWERED_MAX


class ChildWriter:
    """Writes the children of all feeds of one leadership."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._applied: dict[Key, dict[ChildKey, Applied]] = {}

    def view(self, key: Key, seen: Sequence[Observed]) -> tuple[Observed, ...]:
        """The feed's children as they are: what the watch shows, and what we wrote since."""
        return freshened(self._applied.get(key, {}), seen)

    async def converge(
        self,
        key: Key,
        feed_uid: str,
        wanted: Sequence[Mapping[str, Any]],
        keep: frozenset[ChildKey],
        seen: Sequence[Observed],
    ) -> dict[ChildKey, ClusterError]:
        """Apply and delete until the feed's children are `wanted`, and those in `keep` are left as they are.

        Returns what did not succeed, first things first: one bad child keeps no other from being written. What a
        server that does not answer kept from being tried is tried with the next reconcile.
        """
        by_key = {(child.kind, child.name): child for child in seen}
        remembered = self._applied.setdefault(key, {})
        failed: dict[ChildKey, ClusterError] = {}
        for child in wanted:
            which = (child["kind"], child["metadata"]["name"])
            intent = intent_hash(child)
            if must_apply(intent, remembered.get(which), by_key.get(which), which[0] in _WATCHED):
                try:
                    if which not in by_key:
                        await self._refuse_foreign(key, which)
                    await self._apply(key, which, child, intent)
                except ClusterError as error:
                    failed[which] = error
                    if which[0] not in _WATCHED:
                        remembered[which] = Applied(intent, "", "")  # not again before the next resync
                    if _unanswered(failed):
                        return failed
        for gone in superfluous(feed_uid, {(c["kind"], c["metadata"]["name"]) for c in wanted} | keep, seen):
            try:
                await self._delete(key, gone)
            except ClusterError as error:
                failed[gone.kind, gone.name] = error
                if _unanswered(failed):
                    return failed
        return failed

    async def _refuse_foreign(self, key: Key, which: ChildKey) -> None:
        """Raise Conflict if an object of this name is somebody else's.

        Applying would take it over, and it would be deleted with the feed. The watch does not show such an object, for
        it has not our label.
        """
        applied = self._applied[key].get(which)
        if applied is not None and (applied.stored is not None or (which[0] not in _WATCHED and applied.version)):
            return  # written by us before
        kind, (namespace, feed) = BY_NAME[which[0]], key
        found = await self._metadata(kind, namespace, which[1])
        if found is not None and not belongs_to(found, feed):
            advice = "delete it, or give the feed another name"
            message = f"{kind.name} {namespace}/{which[1]} exists and is not this feed's: {advice}"
            raise Conflict(f"GET {kind.path(namespace, which[1])}", 409, message)

    async def _metadata(self, kind: Kind, namespace: str, name: str) -> Mapping[str, Any] | None:
        if kind.name in _WATCHED:
            found = await self._cluster.find_metadata(kind, namespace, name)
            return None if found is None else dict(found["metadata"])
        # The operator may write such objects, not read them; a patch of nothing answers with what is there.
        try:
            return dict((await self._cluster.merge(kind, namespace, name, {}))["metadata"])
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    async def _delete(self, key: Key, child: Observed) -> None:
        deleted = await self._cluster.delete(BY_NAME[child.kind], child.namespace, child.name, child.uid)
        self._applied[key].pop((child.kind, child.name), None)
        if deleted:
            log.info("deleted", extra=facts(feed="/".join(key), kind=child.kind, name=child.name))

    async def _apply(self, key: Key, which: ChildKey, child: Mapping[str, Any], intent: str) -> None:
        before = self._applied[key].get(which)
        try:
            stored = await self._cluster.apply(child)
        except Refused as error:
            stored = await self._overwrite(child, error)
        version = str(stored["metadata"].get("resourceVersion", ""))
        if before is not None and before.intent == intent and before.version not in ("", version):
            metrics.DRIFT.labels(which[0]).inc()
            log.info("repaired", extra=facts(feed="/".join(key), kind=which[0], name=which[1]))
        elif before is None or before.intent != intent:
            log.debug("applied", extra=facts(feed="/".join(key), kind=which[0], name=which[1]))
        self._applied[key][which] = Applied(
            intent, fingerprint(stored), version, observe(BY_NAME[which[0]], stored) if which[0] in _WATCHED else None
        )

    async def _overwrite(self, child: Mapping[str, Any], refused: Refused) -> dict[str, Any]:
        """Apply once more after writing whole lists over what others put into them.

        Apply merges lists by key: a Service whose port number somebody changed would get a second port of the same
        name, which is refused for ever. A merge patch replaces lists. Raises Refused if the object itself is wrong.
        """
        kind, metadata = BY_NAME[child["kind"]], child["metadata"]
        if not await self._merged(kind, metadata["namespace"], metadata["name"], child):
            raise refused
        return await self._cluster.apply(child)

    async def announce_plan(self, pods: Iterable[Observed], revision: int) -> dict[ChildKey, ClusterError]:
        """Write the plan's revision onto the pods that read it, which makes their kubelet refresh the mounted file.

        Without it a changed ConfigMap reaches a running pod after a minute or more, so what does not succeed is
        returned and harms nothing else.
        """
        failed: dict[ChildKey, ClusterError] = {}
        for pod in pods:
            metadata = pod.body["metadata"]
            if (metadata.get("annotations") or {}).get(PLAN_REVISION) != str(revision):
                change = {"metadata": {"annotations": {PLAN_REVISION: str(revision)}}}
                try:
                    await self._merged(POD, pod.namespace, pod.name, change)
                except ClusterError as error:
                    failed[pod.kind, pod.name] = error
                    if _unanswered(failed):
                        break
        return failed

    async def _merged(self, kind: Kind, namespace: str, name: str, change: Mapping[str, Any]) -> bool:
        """Merge; False if there is no such object."""
        try:
            await self._cluster.merge(kind, namespace, name, change)
        except ClusterError as error:
            if error.status == 404:
                return False
            raise
        return True

    def forget(self, key: Key) -> None:
        """The feed is gone, or everything of it is to be applied again."""
        self._applied.pop(key, None)

    def recheck_unwatched(self, key: Key) -> None:
        """Have the next reconcile apply once more what no watch shows: somebody may have changed or deleted it."""
        for (kind, _), applied in self._applied.get(key, {}).items():
            applied.due = kind not in _WATCHED

    def missing(self, key: Key, existing: frozenset[ChildKey]) -> bool:
        """Whether something that was applied is not among what a fresh list shows; forgets it if so."""
        remembered = self._applied.get(key, {})
        lost = [which for which in remembered if which[0] in _WATCHED and which not in existing]
        for which in lost:
            del remembered[which]
        return bool(lost)
