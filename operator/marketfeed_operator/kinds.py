"""The kinds of objects that the operator reads or writes, and their paths at the API server. Pure."""

from __future__ import annotations

from dataclasses import dataclass

GROUP = "marketfeed.dev"
VERSION = "v1alpha1"
FIELD_MANAGER = "marketfeed.dev/operator"
STATUS_MANAGER = "marketfeed.dev/operator-status"
FEED_LABEL = "marketfeed.dev/feed"
MANAGED_BY = "app.kubernetes.io/managed-by=marketfeed-operator"


@dataclass(frozen=True, slots=True)
class Kind:
    """A namespaced kind: `group_version` as in apiVersion, `plural` as in paths."""

    name: str
    group_version: str
    plural: str

    @property
    def group(self) -> str:
        """The API group; empty for the core group."""
        return self.group_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """The version without the group."""
        return self.group_version.rpartition("/")[2]

    @property
    def root(self) -> str:
        """Where the group's discovery document is."""
        return f"/apis/{self.group_version}" if self.group else f"/api/{self.group_version}"

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The path of the kind (in a namespace), of one object, or of its subresource."""
        middle = f"/namespaces/{namespace}" if namespace else ""
        parts = [self.plural, *([name] if name else []), *([subresource] if subresource else [])]
        return f"{self.root}{middle}/{'/'.join(parts)}"


MARKETFEED = Kind("MarketFeed", f"{GROUP}/{VERSION}", "marketfeeds")
LEASE = Kind("Lease", "coordination.k8s.io/v1", "leases")
EVENT = Kind("Event", "events.k8s.io/v1", "events")
POD = Kind("Pod", "v1", "pods")
CONFIG_MAP = Kind("ConfigMap", "v1", "configmaps")
POD_MONITOR = Kind("PodMonitor", "monitoring.coreos.com/v1", "podmonitors")

# What the operator makes, in the order in which it is applied where the plan says nothing else.
CHILD_KINDS = (
    CONFIG_MAP,
    Kind("Service", "v1", "services"),
    Kind("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies"),
    Kind("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets"),
    Kind("Job", "batch/v1", "jobs"),
    Kind("Deployment", "apps/v1", "deployments"),
)
# Watched beside the children that are made: pods are made by Deployments and Jobs.
WATCHED_KINDS = (*CHILD_KINDS, POD)

BY_NAME = {kind.name: kind for kind in (*CHILD_KINDS, POD, POD_MONITOR, MARKETFEED, LEASE, EVENT)}
