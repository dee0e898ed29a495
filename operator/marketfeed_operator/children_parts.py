"""What all children of a feed share: names, labels, owner, and the shape of their pods.

Pods run under Pod Security's `restricted` profile: no root, no capability, nothing writable but mounted volumes. They
get no service account token, as no service talks to Kubernetes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from marketfeed_operator.observed import COMPONENT, FEED, TEMPLATE_HASH
from marketfeed_operator.spec import GROUP, KIND, RESTARTED_AT, VERSION, MarketFeed
from marketfeed_operator.spec_fields import KeyRef, Quantity, Workload

Child = dict[str, Any]

HEALTH_PORT = 8081
HTTP_PORT = 8080
GRPC_PORT = 50051
FEED_PORT = 8090
USER_ID = 65532
SHUTDOWN_TIMEOUT_S = 20
GRACE_S = 30
_TMP_BYTES = "64Mi"


@dataclass(frozen=True, slots=True)
class PodDefaults:
    """What the operator's settings say about pods."""

    image: str
    image_pull_policy: str = "IfNotPresent"
    progress_deadline_s: int = 300


@dataclass(frozen=True, slots=True)
class Container:
    """What differs between the components' containers; `resources` are the defaults."""

    component: str
    args: tuple[str, ...]
    env: tuple[Child, ...]
    requests: Mapping[str, str]
    limits: Mapping[str, str]
    ports: Mapping[str, int] = field(default_factory=dict)
    volumes: tuple[Child, ...] = ()
    mounts: tuple[Child, ...] = ()
    probed: bool = True


def labels_of(feed: MarketFeed, component: str, **more: str) -> dict[str, str]:
    """The labels of a child; `more` are our own (`shard`, `member`)."""
    return {
        "app.kubernetes.io/name": "marketfeed",
        "app.kubernetes.io/instance": feed.name,
        COMPONENT: component,
        "app.kubernetes.io/managed-by": "marketfeed-operator",
        "app.kubernetes.io/part-of": "marketfeed",
        FEED: feed.name,
        **{f"{GROUP}/{name}": value for name, value in more.items()},
    }


def selector_of(feed: MarketFeed, component: str, **more: str) -> dict[str, str]:
    """The labels by which the pods of a component are found; they never change."""
    return {FEED: feed.name, COMPONENT: component, **{f"{GROUP}/{name}": value for name, value in more.items()}}


def own_pods(feed: MarketFeed) -> dict[str, str]:
    """The labels of all pods that the operator makes for a feed."""
    return {FEED: feed.name, "app.kubernetes.io/managed-by": "marketfeed-operator"}


def child(feed: MarketFeed, api_version: str, kind: str, name: str, labels: Mapping[str, str], **body: Any) -> Child:
    """An object owned by the feed: it goes when the feed goes."""
    owner = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "name": feed.name,
        "uid": feed.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    metadata = {"name": name, "namespace": feed.namespace, "labels": dict(labels), "ownerReferences": [owner]}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}


def value(name: str, text: object) -> Child:
    """An environment variable."""
    if isinstance(text, bool):
        text = "true" if text else "false"
    return {"name": f"MARKETFEED_{name}", "value": f"{text:g}" if isinstance(text, float) else str(text)}


def secret(name: str, reference: KeyRef) -> Child:
    """An environment variable from a Secret, which only the kubelet reads."""
    return {
        "name": f"MARKETFEED_{name}",
        "valueFrom": {"secretKeyRef": {"name": reference.name, "key": reference.key}},
    }


def kafka_env(feed: MarketFeed) -> list[Child]:
    """Which log."""
    return [value("KAFKA", feed.spec.kafka.bootstrap_servers)]


def topic_env(feed: MarketFeed) -> list[Child]:
    """What the log's topics are made with."""
    log = feed.spec.retention.log
    return [
        *kafka_env(feed),
        value("PARTITIONS", feed.spec.kafka.partitions),
        value("RETENTION_GB", log.gigabytes),
        value("RETENTION_H", log.hours),
    ]


def postgres_env(feed: MarketFeed) -> list[Child]:
    """Which PostgreSQL."""
    return [secret("POSTGRES", feed.spec.postgres.url_from.secret_key_ref)]


def redis_env(feed: MarketFeed) -> list[Child]:
    """Which Redis."""
    redis = feed.spec.redis
    if redis.url_from is not None:
        return [secret("REDIS", redis.url_from.secret_key_ref)]
    return [value("REDIS", redis.url)]


def _common_env(feed: MarketFeed) -> list[Child]:
    endpoint = feed.spec.observability.otlp_endpoint
    return [
        value("FEED", feed.feed_id),
        value("HTTP_HOST", "0.0.0.0"),
        value("HTTP_PORT", HEALTH_PORT),
        value("LOG_FORMAT", "json"),
        value("SHUTDOWN_TIMEOUT_S", SHUTDOWN_TIMEOUT_S),
        *([value("OTLP_ENDPOINT", endpoint)] if endpoint else []),
    ]


def _probes() -> Child:
    def http(path: str, **more: int) -> Child:
        return {"httpGet": {"path": path, "port": "health", "scheme": "HTTP"}, "timeoutSeconds": 3, **more}

    return {
        "startupProbe": http("/healthz", periodSeconds=1, failureThreshold=90),
        "livenessProbe": http("/healthz", periodSeconds=10, failureThreshold=6),
        "readinessProbe": http("/readyz", periodSeconds=2, failureThreshold=2),
    }


def _resources(wanted: Container, workload: Workload) -> Child:
    def merged(defaults: Mapping[str, str], given: Mapping[str, Quantity] | None) -> dict[str, str]:
        return {**defaults, **{name: str(quantity) for name, quantity in (given or {}).items()}}

    given = workload.resources
    return {"requests": merged(wanted.requests, given.requests), "limits": merged(wanted.limits, given.limits)}


def pod_template(
    feed: MarketFeed,
    defaults: PodDefaults,
    wanted: Container,
    labels: Mapping[str, str],
    workload: Workload | None = None,
    **more: Any,
) -> Child:
    """The template of a component's pods; `more` is further pod specification (`restartPolicy` of Jobs)."""
    workload = workload or Workload()
    ports = {"health": HEALTH_PORT, **wanted.ports}
    container: Child = {
        "name": wanted.component,
        "image": feed.spec.image or defaults.image,
        "imagePullPolicy": defaults.image_pull_policy,
        "args": list(wanted.args),
        "env": [*_common_env(feed), *wanted.env],
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports.items()],
        "resources": _resources(wanted, workload),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *wanted.mounts],
        **(_probes() if wanted.probed else {}),
    }
    spec: Child = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": _TMP_BYTES}}, *wanted.volumes],
        **_placement(feed, workload),
        **more,
    }
    metadata: Child = {"labels": dict(labels)}
    if feed.restarted_at:
        metadata["annotations"] = {RESTARTED_AT: feed.restarted_at}
    return {"metadata": metadata, "spec": spec}


def _placement(feed: MarketFeed, workload: Workload) -> Child:
    placed: Child = {}
    if workload.node_selector:
        placed["nodeSelector"] = dict(workload.node_selector)
    if workload.tolerations:
        placed["tolerations"] = [
            {"operator": toleration.operator, **msgspec.to_builtins(toleration)} for toleration in workload.tolerations
        ]
    if workload.priority_class_name:
        placed["priorityClassName"] = workload.priority_class_name
    if feed.spec.image_pull_secrets:
        placed["imagePullSecrets"] = [{"name": its.name} for its in feed.spec.image_pull_secrets]
    return placed


_ZONE, _NODE = "topology.kubernetes.io/zone", "kubernetes.io/hostname"


def apart(labels: Mapping[str, str]) -> Child:
    """Never two on a node, and not in a zone, if that can be had."""
    terms = [
        {"weight": weight, "podAffinityTerm": {"topologyKey": key, "labelSelector": {"matchLabels": dict(labels)}}}
        for key, weight in ((_NODE, 100), (_ZONE, 50))
    ]
    return {"preferredDuringSchedulingIgnoredDuringExecution": terms}


def spread(labels: Mapping[str, str]) -> list[Child]:
    """Over zones and nodes, as far as there are any."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": dict(labels)},
        }
        for key in (_ZONE, _NODE)
    ]


def deployment(
    feed: MarketFeed,
    defaults: PodDefaults,
    name: str,
    labels: Mapping[str, str],
    selector: Mapping[str, str],
    template: Child,
    replicas: int = 1,
    strategy: Child | None = None,
) -> Child:
    """A Deployment; with its template's hash in an annotation, so that a rollout can be told from a repair."""
    spec = {
        "replicas": replicas,
        "revisionHistoryLimit": 2,
        "progressDeadlineSeconds": defaults.progress_deadline_s,
        "strategy": strategy or {"type": "Recreate"},
        "selector": {"matchLabels": dict(selector)},
        "template": template,
    }
    made = child(feed, "apps/v1", "Deployment", name, labels, spec=spec)
    made["metadata"]["annotations"] = {TEMPLATE_HASH: hash_of(template)}
    return made


def hash_of(*facts: Any) -> str:
    """Ten characters that change with the facts; fit for names."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), default=msgspec.to_builtins)
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()


def volume_mount(name: str, path: str, *, read_only: bool = False) -> Child:
    """Where a volume is mounted."""
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}
