"""Recorder, mds with its Services, and the generator."""

from __future__ import annotations

from marketfeed_operator.children_parts import (
    FEED_PORT,
    GRPC_PORT,
    HTTP_PORT,
    Child,
    Container,
    PodDefaults,
    child,
    deployment,
    kafka_env,
    labels_of,
    pod_template,
    postgres_env,
    redis_env,
    secret,
    selector_of,
    spread,
    value,
)
from marketfeed_operator.spec import MarketFeed


def recorder(feed: MarketFeed, defaults: PodDefaults) -> Child:
    """The Deployment of the recorder: one pod, as a second one would only be refused by the positions."""
    spec = feed.spec
    env = [
        *kafka_env(feed),
        *redis_env(feed),
        *postgres_env(feed),
        value("CALENDAR", spec.calendar),
        value("STORE_TRADES", spec.storage.trades),
        value("RETENTION_DAYS", spec.retention.bars_days),
        value("TRADE_RETENTION_DAYS", spec.retention.trades_days),
    ]
    container = Container(
        component="recorder",
        args=("recorder",),
        env=tuple(env),
        requests={"cpu": "25m", "memory": "256Mi"},
        limits={"cpu": "2", "memory": "2Gi"},
    )
    labels = labels_of(feed, "recorder")
    template = pod_template(feed, defaults, container, labels, spec.recorder)
    return deployment(feed, defaults, f"{feed.name}-recorder", labels, selector_of(feed, "recorder"), template)


def mds(feed: MarketFeed, defaults: PodDefaults) -> Child:
    """The Deployment of mds; a new pod is ready before an old one goes."""
    spec = feed.spec.mds
    env = [
        *kafka_env(feed),
        *redis_env(feed),
        *postgres_env(feed),
        value("CALENDAR", feed.spec.calendar),
        value("PUBLIC_HOST", "0.0.0.0"),
        value("PUBLIC_PORT", HTTP_PORT),
        value("GRPC_HOST", "0.0.0.0"),
        value("GRPC_PORT", GRPC_PORT),
        *([value("ORIGINS", ",".join(spec.origins))] if spec.origins else []),
        secret("CLIENT_TOKEN", spec.client_token_from.secret_key_ref)
        if spec.client_token_from
        else value("OPEN", "yes"),
    ]
    container = Container(
        component="mds",
        args=("mds",),
        env=tuple(env),
        requests={"cpu": "25m", "memory": "256Mi"},
        limits={"cpu": "2", "memory": "2Gi"},
        ports={"http": HTTP_PORT, "grpc": GRPC_PORT},
    )
    labels, selector = labels_of(feed, "mds"), selector_of(feed, "mds")
    template = pod_template(feed, defaults, container, labels, spec, topologySpreadConstraints=spread(selector))
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    return deployment(feed, defaults, f"{feed.name}-mds", labels, selector, template, spec.replicas, strategy)


def mds_services(feed: MarketFeed) -> list[Child]:
    """The Service of mds, and the headless one by which gRPC clients balance over its pods."""
    labels = labels_of(feed, "mds")
    spec: Child = {
        "selector": selector_of(feed, "mds"),
        "ports": [
            _port("http", HTTP_PORT, "kubernetes.io/ws"),
            _port("grpc", GRPC_PORT, "kubernetes.io/h2c"),
        ],
    }
    headless = {**spec, "clusterIP": "None", "publishNotReadyAddresses": False}
    return [
        child(feed, "v1", "Service", f"{feed.name}-mds", labels, spec={**spec, "type": "ClusterIP"}),
        child(feed, "v1", "Service", f"{feed.name}-mds-headless", labels, spec=headless),
    ]


def generator(feed: MarketFeed, defaults: PodDefaults) -> Child:
    """The Deployment of the synthetic exchange."""
    source = feed.spec.source.generator
    assert source is not None
    env = [
        value("FEED_HOST", "0.0.0.0"),
        value("FEED_PORT", FEED_PORT),
        value("RATE", source.rate),
        value("SYMBOLS", source.symbols),
        value("SEED", source.seed),
        *([value("FAULT", ",".join(source.faults))] if source.faults else []),
    ]
    container = Container(
        component="generator",
        args=("generator",),
        env=tuple(env),
        requests={"cpu": "25m", "memory": "192Mi"},
        limits={"cpu": "2", "memory": "1Gi"},
        ports={"feed": FEED_PORT},
    )
    labels = labels_of(feed, "generator")
    template = pod_template(feed, defaults, container, labels, feed.spec.generator)
    return deployment(feed, defaults, f"{feed.name}-generator", labels, selector_of(feed, "generator"), template)


def generator_service(feed: MarketFeed) -> Child:
    """Where ingest finds the synthetic exchange."""
    spec = {
        "type": "ClusterIP",
        "selector": selector_of(feed, "generator"),
        "ports": [_port("feed", FEED_PORT, "kubernetes.io/ws")],
    }
    return child(feed, "v1", "Service", f"{feed.name}-generator", labels_of(feed, "generator"), spec=spec)


def _port(name: str, port: int, protocol: str) -> Child:
    return {"name": name, "port": port, "targetPort": name, "protocol": "TCP", "appProtocol": protocol}
