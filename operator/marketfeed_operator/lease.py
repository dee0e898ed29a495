"""The Lease object as the election's store: records to and from coordination.k8s.io/v1."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from marketfeed_operator.cluster import Cluster
from marketfeed_operator.kinds import LEASE
from marketfeed_operator.leader import LeaseRecord

# The API server takes exactly six digits.
_MICRO_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
_EPOCH = datetime.fromtimestamp(0, UTC)


class ClusterLease:
    """A Lease in a namespace. Every write is guarded by the resourceVersion that was read."""

    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name

    async def read(self) -> LeaseRecord | None:
        """The Lease, or None if there is none. Raises ClusterError."""
        found = await self._cluster.get(LEASE, self._namespace, self._name)
        return None if found is None else record_of(found)

    async def write(self, record: LeaseRecord) -> LeaseRecord:
        """Create or replace the Lease. Raises ClusterError, and Conflict if another replica wrote first."""
        body = body_of(record, self._namespace, self._name)
        if record.version:
            return record_of(await self._cluster.replace(LEASE, self._namespace, self._name, body))
        return record_of(await self._cluster.create(LEASE, self._namespace, body))


def record_of(lease: dict[str, Any]) -> LeaseRecord:
    """What a Lease object says; a field that nobody wrote yet counts as free and old."""
    spec = lease.get("spec") or {}
    return LeaseRecord(
        holder=spec.get("holderIdentity") or "",
        duration_s=float(spec.get("leaseDurationSeconds") or 1),
        acquired=_time_of(spec.get("acquireTime")),
        renewed=_time_of(spec.get("renewTime")),
        transitions=int(spec.get("leaseTransitions") or 0),
        version=str(lease["metadata"].get("resourceVersion", "")),
    )


def body_of(record: LeaseRecord, namespace: str, name: str) -> dict[str, Any]:
    """The Lease object of a record."""
    metadata = {"name": name, "namespace": namespace}
    if record.version:
        metadata["resourceVersion"] = record.version
    return {
        "apiVersion": LEASE.group_version,
        "kind": LEASE.name,
        "metadata": metadata,
        "spec": {
            "holderIdentity": record.holder,
            "leaseDurationSeconds": max(1, round(record.duration_s)),
            "acquireTime": record.acquired.astimezone(UTC).strftime(_MICRO_TIME),
            "renewTime": record.renewed.astimezone(UTC).strftime(_MICRO_TIME),
            "leaseTransitions": record.transitions,
        },
    }


def _time_of(text: str | None) -> datetime:
    return datetime.fromisoformat(text) if text else _EPOCH
