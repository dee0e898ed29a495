"""Who may talk to whom, who may be evicted at once, and what Prometheus scrapes.

NetworkPolicies deny everything for the feed's pods but the pipeline's edges. Kafka, Redis and PostgreSQL may be
anywhere, so those edges are ports; mds is the way in and open to everybody, as routes and tokens decide who reaches it.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from marketfeed_operator.children_parts import (
    FEED_PORT,
    GRPC_PORT,
    HEALTH_PORT,
    HTTP_PORT,
    Child,
    child,
    labels_of,
    own_pods,
    selector_of,
)
from marketfeed_operator.observed import COMPONENT, FEED
from marketfeed_operator.spec import GROUP, MarketFeed

_DEFAULT_PORTS = {"ws": 80, "http": 80, "wss": 443, "https": 443, "redis": 6379, "rediss": 6379}


def network_policies(feed: MarketFeed) -> list[Child]:
    """Deny all, then the edges; none if they are switched off."""
    if not feed.spec.network_policies.enabled:
        return []
    deny = {"podSelector": {"matchLabels": own_pods(feed)}, "policyTypes": ["Ingress", "Egress"]}
    found = [_policy(feed, "deny", "all", deny), _policy(feed, "health", "all", _health(feed))]
    found += [_component(feed, "prepare", [*_kafka(feed), _postgres(feed)])]
    found += [_component(feed, "recorder", [*_kafka(feed), _redis(feed), _postgres(feed)])]
    found += [_component(feed, "mds", [*_kafka(feed), _redis(feed), _postgres(feed)], _anybody(HTTP_PORT, GRPC_PORT))]
    if feed.spec.source.history is not None:
        found.append(_component(feed, "history", [*_kafka(feed), _postgres(feed)]))
    if feed.spec.source.finnhub is not None:
        port = _port_of(feed.spec.source.finnhub.url)
        found.append(_component(feed, "ingest", [*_kafka(feed), port]))
    if feed.spec.source.generator is not None:
        to_generator = {"to": [{"podSelector": {"matchLabels": selector_of(feed, "generator")}}], **_ports(FEED_PORT)}
        found.append(_component(feed, "ingest", _kafka(feed), egress=[to_generator]))
        from_feed = {"from": [{"podSelector": {"matchLabels": {FEED: feed.name}}}], **_ports(FEED_PORT)}
        found.append(_component(feed, "generator", [], [from_feed]))
    return found


def disruption_budgets(feed: MarketFeed) -> list[Child]:
    """At most one pod at a time is evicted where there are several; a single one must not block a node's drain."""
    found = []
    if feed.spec.mds.replicas > 1:
        found.append(_budget(feed, f"{feed.name}-mds", "mds", selector_of(feed, "mds"), {"maxUnavailable": 1}))
    if feed.spec.redundancy > 1 and feed.spec.source.history is None:
        for shard in range(feed.spec.shards):
            selector = selector_of(feed, "ingest", shard=str(shard))
            name = f"{feed.name}-ingest-{shard}"
            # Two Deployments of one pod each: a number that has to stay can be kept over both, a share cannot.
            found.append(_budget(feed, name, "ingest", selector, {"minAvailable": feed.spec.redundancy - 1}))
    return found


def pod_monitor(feed: MarketFeed) -> Child:
    """What the Prometheus operator scrapes, with the labels that dashboards and alerts go by."""
    labels = {
        "feed": FEED,
        "component": COMPONENT,
        "shard": f"{GROUP}/shard",
        "member": f"{GROUP}/member",
    }
    relabelings = [
        {"action": "replace", "sourceLabels": [_meta_label(source)], "targetLabel": target}
        for target, source in labels.items()
    ]
    spec = {
        "selector": {"matchLabels": own_pods(feed)},
        "podMetricsEndpoints": [{"port": "health", "path": "/metrics", "relabelings": relabelings}],
    }
    return child(
        feed, "monitoring.coreos.com/v1", "PodMonitor", feed.name, labels_of(feed, "monitoring"), spec=spec
    )  # fmt: skip


def _meta_label(label: str) -> str:
    return "__meta_kubernetes_pod_label_" + "".join(char if char.isalnum() else "_" for char in label)


def _budget(feed: MarketFeed, name: str, component: str, selector: dict[str, str], bound: dict[str, int]) -> Child:
    spec = {"selector": {"matchLabels": selector}, "unhealthyPodEvictionPolicy": "AlwaysAllow", **bound}
    return child(feed, "policy/v1", "PodDisruptionBudget", name, labels_of(feed, component), spec=spec)


def _policy(feed: MarketFeed, name: str, component: str, spec: Child) -> Child:
    labels = labels_of(feed, component)
    return child(feed, "networking.k8s.io/v1", "NetworkPolicy", f"{feed.name}-{name}", labels, spec=spec)


def _health(feed: MarketFeed) -> Child:
    """The operator and Prometheus, ours or one that is named so, read health and metrics, wherever they run.

    The kubelet is let in by itself.
    """
    readers = [
        {COMPONENT: "operator", "app.kubernetes.io/part-of": "marketfeed"},
        {COMPONENT: "prometheus", "app.kubernetes.io/part-of": "marketfeed"},
        {"app.kubernetes.io/name": "prometheus"},
    ]
    peers = [{"namespaceSelector": {}, "podSelector": {"matchLabels": labels}} for labels in readers]
    return {
        "podSelector": {"matchLabels": own_pods(feed)},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": peers, **_ports(HEALTH_PORT)}],
    }


def _component(
    feed: MarketFeed,
    component: str,
    egress_ports: Iterable[int],
    ingress: list[Child] | None = None,
    egress: list[Child] | None = None,
) -> Child:
    anywhere = {*egress_ports, *feed.spec.network_policies.extra_egress_ports}
    if feed.spec.observability.otlp_endpoint:
        anywhere.add(_port_of(feed.spec.observability.otlp_endpoint))
    outward = [_dns(), *([_ports(*sorted(anywhere))] if anywhere else []), *(egress or [])]
    spec = {
        "podSelector": {"matchLabels": {**own_pods(feed), COMPONENT: component}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": ingress or [],
        "egress": outward,
    }
    return _policy(feed, component, component, spec)


def _anybody(*ports: int) -> list[Child]:
    return [_ports(*ports)]


def _ports(*ports: int) -> Child:
    return {"ports": [{"port": port, "protocol": "TCP"} for port in ports]}


def _dns() -> Child:
    return {"ports": [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]}


def _kafka(feed: MarketFeed) -> list[int]:
    servers = feed.spec.kafka.bootstrap_servers.split(",")
    return sorted({int(server.rpartition(":")[2]) for server in servers})


def _redis(feed: MarketFeed) -> int:
    url = feed.spec.redis.url
    return feed.spec.network_policies.redis_port if url is None else _port_of(url)


def _postgres(feed: MarketFeed) -> int:
    return feed.spec.network_policies.postgres_port


def _port_of(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or _DEFAULT_PORTS[parts.scheme]
