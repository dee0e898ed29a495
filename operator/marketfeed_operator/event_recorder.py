"""Kubernetes Events about MarketFeeds (`kubectl describe`): what is about to happen, and what went wrong.

Equal events become one object whose series counts them, and a feed that has much to say is held back, so that a broken
resource fills neither the API server nor the reader's screen.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from marketfeed_operator import metrics
from marketfeed_operator.cluster import Cluster
from marketfeed_operator.cluster_errors import ClusterError, Conflict
from marketfeed_operator.kinds import EVENT
from marketfeed_operator.logs import facts

log = logging.getLogger("operator.events")

REPORTER = "marketfeed.dev/operator"
_MICRO_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
# The API server refuses a longer note.
_NOTE_MAX = 1000
_REPEAT_S = 600.0
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """What to say about a feed: `type` is Normal or Warning, `reason` a CamelCase word, `action` what was done."""

    type: str
    reason: str
    note: str
    action: str = "Reconcile"


class Budget:
    """How many events a feed may cause: a burst, and one more each `refill_s`. Time is an argument."""

    def __init__(self, burst: int = 25, refill_s: float = 60.0) -> None:
        self._burst = burst
        self._refill_s = refill_s
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, uid: str, now: float) -> bool:
        """Whether one more event about `uid` may go."""
        left, since = self._left.get(uid, (float(self._burst), now))
        left = min(float(self._burst), left + (now - since) / self._refill_s)
        self._left[uid] = (left - 1.0 if left >= 1.0 else left, now)
        return left >= 1.0

    def forget(self, uid: str) -> None:
        """The feed is gone."""
        self._left.pop(uid, None)


class EventRecorder:
    """Writes events, one after another in the caller's task; a failure is logged and never raised."""

    def __init__(self, cluster: Cluster, instance: str, clock: Callable[[], float]) -> None:
        self._cluster = cluster
        self._instance = instance[:128]
        self._clock = clock
        self._budget = Budget()
        self._written: OrderedDict[str, tuple[int, float]] = OrderedDict()

    async def say(self, feed: Mapping[str, Any], event: FeedEvent) -> None:
        """Create the event, or count it if it was said before. `feed` is the MarketFeed object."""
        metadata = feed["metadata"]
        name = event_name(metadata, event)
        count, at = self._written.get(name, (0, 0.0))
        now = self._clock()
        if count and now - at < _REPEAT_S:
            self._written[name] = (count + 1, at)
            metrics.EVENTS.labels("counted").inc()
            return
        if not self._budget.take(str(metadata["uid"]), now):
            metrics.EVENTS.labels("held_back").inc()
            return
        try:
            await self._write(feed, name, event, count + 1)
        except (ClusterError, TimeoutError) as error:
            metrics.EVENTS.labels("failed").inc()
            log.warning("could not write an event", extra=facts(event=event.reason, error=str(error)))
            return
        metrics.EVENTS.labels("written").inc()
        self._written[name] = (count + 1, now)
        self._written.move_to_end(name)
        while len(self._written) > _REMEMBERED:
            self._written.popitem(last=False)

    def forget(self, uid: str) -> None:
        """The feed is gone."""
        self._budget.forget(uid)

    async def _write(self, feed: Mapping[str, Any], name: str, event: FeedEvent, count: int) -> None:
        namespace = feed["metadata"]["namespace"]
        wall = datetime.now(UTC)
        series = {"count": max(2, count), "lastObservedTime": wall.strftime(_MICRO_TIME)}
        if count > 1:
            try:
                await self._cluster.merge(EVENT, namespace, name, {"series": series})
                return
            except ClusterError as error:
                if error.status != 404:  # events live an hour; a newer one is made below
                    raise
        try:
            await self._cluster.create(EVENT, namespace, event_body(feed, name, event, self._instance, wall))
        except Conflict:
            await self._cluster.merge(EVENT, namespace, name, {"series": series})


def event_name(metadata: Mapping[str, Any], event: FeedEvent) -> str:
    """The name of an event: equal for equal events about the same object, so that a restart counts on."""
    said = "\n".join((str(metadata["uid"]), event.type, event.reason, event.note))
    return f"{metadata['name']}.{hashlib.blake2b(said.encode(), digest_size=8).hexdigest()}"


def event_body(feed: Mapping[str, Any], name: str, event: FeedEvent, instance: str, wall: datetime) -> dict[str, Any]:
    """The events.k8s.io/v1 object."""
    metadata = feed["metadata"]
    note = event.note if len(event.note) <= _NOTE_MAX else event.note[: _NOTE_MAX - 1] + "…"
    return {
        "apiVersion": EVENT.group_version,
        "kind": EVENT.name,
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "eventTime": wall.strftime(_MICRO_TIME),
        "type": event.type,
        "reason": event.reason,
        "note": note,
        "action": event.action,
        "reportingController": REPORTER,
        "reportingInstance": instance,
        "regarding": {
            "apiVersion": feed["apiVersion"],
            "kind": feed["kind"],
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "resourceVersion": metadata.get("resourceVersion", ""),
        },
    }
