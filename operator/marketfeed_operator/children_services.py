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
    volume_mount,
)
from marketfeed_operator.spec import MarketFeed
from marketfeed_operator.spec_fields import Jwt, Mds

_KEY_DIR = "/etc/marketfeed/jwt"


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
        *_access_env(spec),
    ]
    jwt = None if spec.auth is None else spec.auth.jwt
    container = Container(
        component="mds",
        args=("mds",),
        env=tuple(env),
        requests={"cpu": "25m", "memory": "256Mi"},
        limits={"cpu": "2", "memory": "2Gi"},
        ports={"http": HTTP_PORT, "grpc": GRPC_PORT},
        volumes=() if jwt is None else (_key_volume(jwt),),
        mounts=() if jwt is None else (volume_mount("jwt-key", _KEY_DIR, read_only=True),),
    )
    labels, selector = labels_of(feed, "mds"), selector_of(feed, "mds")
    template = pod_template(feed, defaults, container, labels, spec, topologySpreadConstraints=spread(selector))
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    return deployment(feed, defaults, f"{feed.name}-mds", labels, selector, template, spec.replicas, strategy)


def _access_env(spec: Mds) -> list[Child]:
    """Whom mds lets in. It starts open only when told so, and a feed that says nothing is open, as it always was."""
    env = []
    if spec.client_token_from:
        env.append(secret("CLIENT_TOKEN", spec.client_token_from.secret_key_ref))
    if spec.auth is not None and spec.auth.jwt is not None:
        jwt = spec.auth.jwt
        env += [
            value("JWT_ALGORITHM", jwt.algorithm),
            value("JWT_ISSUER", jwt.issuer),
            value("JWT_AUDIENCE", jwt.audience),
            value("JWT_KEY_FILE", f"{_KEY_DIR}/key"),
        ]
    return env or [value("OPEN", "yes")]


def _key_volume(jwt: Jwt) -> Child:
    """The keys as a file that the kubelet renews.

    Optional, as a pod whose volume is missing says nothing, while mds says in one sentence that the file is not there.
    """
    ref = jwt.key_from.secret_key_ref or jwt.key_from.config_map_key_ref
    assert ref is not None
    shown = {"items": [{"key": ref.key, "path": "key"}], "optional": True}
    if jwt.key_from.secret_key_ref is not None:
        return {"name": "jwt-key", "secret": {"secretName": ref.name, **shown}}
    return {"name": "jwt-key", "configMap": {"name": ref.name, **shown}}


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
