"""MarketFeeds to test with."""

from __future__ import annotations

import copy
from typing import Any

from marketfeed_operator.spec import MarketFeed, parse

GENERATOR: dict[str, Any] = {"generator": {"rate": 20000, "symbols": 50}}
FINNHUB: dict[str, Any] = {"finnhub": {"apiKeys": [{"name": "finnhub", "key": f"key-{i}"} for i in range(4)]}}
HISTORY: dict[str, Any] = {"history": {"mode": "import", "files": {"configMap": "trades", "paths": ["a.csv"]}}}


def feed_object(name: str = "demo", namespace: str = "feeds", **spec: Any) -> dict[str, Any]:
    """A MarketFeed as the API server gives it; `spec` replaces parts of a generator feed's."""
    whole = {
        "source": GENERATOR,
        "kafka": {"bootstrapServers": "kafka:9092"},
        "redis": {"url": "redis://redis:6379/0"},
        "postgres": {"urlFrom": {"secretKeyRef": {"name": "postgres", "key": "url"}}},
        **spec,
    }
    return {
        "apiVersion": "marketfeed.dev/v1alpha1",
        "kind": "MarketFeed",
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-of-{name}", "generation": 1},
        "spec": copy.deepcopy({field: value for field, value in whole.items() if value is not None}),
    }


def feed(name: str = "demo", namespace: str = "feeds", **spec: Any) -> MarketFeed:
    """The same, parsed."""
    return parse(feed_object(name, namespace, **spec))


def as_observed(child: dict[str, Any], *, settled: bool = True, **status: Any) -> dict[str, Any]:
    """A child as a watch shows it: a settled Deployment, a Job in progress, …"""
    metadata = {**child["metadata"], "generation": 1, "uid": uid_of(child)}
    seen = {"kind": child["kind"], "metadata": metadata}
    if child["kind"] == "Deployment":
        replicas = child["spec"]["replicas"]
        ready = replicas if settled else 0
        seen["spec"] = {"replicas": replicas}
        seen["status"] = {
            "observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": ready,
            **status,
        }  # fmt: skip
    elif child["kind"] == "ConfigMap":
        seen["data"] = child["data"]
    else:
        seen["status"] = status
    return seen


def uid_of(child: dict[str, Any]) -> str:
    """The uid that a child is given here."""
    return f"uid-of-{child['kind']}-{child['metadata']['name']}"


def done(job: dict[str, Any], kind: str = "Complete") -> dict[str, Any]:
    """A Job at its end."""
    return as_observed(job, conditions=[{"type": kind, "status": "True", "message": "the end"}])


def pod_of(child: dict[str, Any], *, ready: bool = True, **status: Any) -> dict[str, Any]:
    """The pod of a Deployment or Job, its container started if it is Running."""
    name = f"{child['metadata']['name']}-pod"
    told = {
        "phase": "Running", "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        "containerStatuses": [{"ready": ready, "started": status.get("phase", "Running") == "Running"}],
        **status,
    }  # fmt: skip
    annotations = child.get("spec", {}).get("template", {}).get("metadata", {}).get("annotations", {})
    metadata = {
        "name": name, "labels": child["metadata"]["labels"], "annotations": annotations,
        "ownerReferences": [{"kind": child["kind"], "name": child["metadata"]["name"], "uid": uid_of(child)}],
    }  # fmt: skip
    return {"kind": "Pod", "metadata": metadata, "status": told}
