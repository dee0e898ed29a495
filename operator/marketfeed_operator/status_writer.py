"""Writes the status of MarketFeeds: at once when a condition changes, else every few seconds, only if it changed.

The status has a field manager of its own and is written through the status subresource, so it neither touches the
specification nor asks for a reconcile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marketfeed_operator import metrics
from marketfeed_operator.cluster import Cluster
from marketfeed_operator.kinds import MARKETFEED, STATUS_MANAGER
from marketfeed_operator.observed_objects import Observed
from marketfeed_operator.status import changed_materially

Key = tuple[str, str]
Status = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """The status as written last, and when (monotonic seconds)."""

    status: Status
    at: float


def due_in_s(last: Written | None, status: Status, now: float, interval_s: float) -> float | None:
    """Seconds until `status` may be written: 0 now, None never because nothing changed. Pure."""
    if last is None:
        return 0.0
    if last.status == status:
        return None
    if changed_materially(last.status, status):
        return 0.0
    return max(0.0, last.at + interval_s - now)


class StatusWriter:
    """Remembers what was written for each feed of one leadership."""

    def __init__(self, cluster: Cluster, interval_s: float) -> None:
        self._cluster = cluster
        self._interval_s = interval_s
        self._written: dict[Key, Written] = {}

    def latest(self, key: Key, feed: Observed) -> Status:
        """The status in force: what we wrote last, which the watch may not show yet, else what the watch shows."""
        written = self._written.get(key)
        return written.status if written is not None else feed.body.get("status") or {}

    async def write(self, key: Key, status: Status, now: float) -> float | None:
        """Write if it is due. Returns the seconds after which it will be, if it is not yet. Raises ClusterError."""
        wait_s = due_in_s(self._written.get(key), status, now, self._interval_s)
        if wait_s is None or wait_s > 0:
            return wait_s
        namespace, name = key
        wanted = {
            "apiVersion": MARKETFEED.group_version,
            "kind": MARKETFEED.name,
            "metadata": {"namespace": namespace, "name": name},
            "status": status,
        }
        await self._cluster.apply(wanted, STATUS_MANAGER, status=True)
        metrics.STATUS_WRITES.inc()
        self._written[key] = Written(status, now)
        return None

    def forget(self, key: Key) -> None:
        """The feed is gone."""
        self._written.pop(key, None)
