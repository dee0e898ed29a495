"""A real API server takes the CRD, good MarketFeeds and every child, and refuses bad ones with the field's name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.operator.feeds import FINNHUB, GENERATOR, HISTORY, done, feed_object

from localcluster import ControlPlane, control_plane
from localcluster.errors import CommandFailed, Missing
from marketfeed_operator.children import desired
from marketfeed_operator.children_jobs import prepare
from marketfeed_operator.children_parts import PodDefaults
from marketfeed_operator.observed import FeedState
from marketfeed_operator.plan import next_plan
from marketfeed_operator.schema import crd
from marketfeed_operator.spec import parse, symbols_of
from marketfeed_operator.status import build

pytestmark = pytest.mark.integration

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DEFAULTS = PodDefaults("localhost/marketfeed:dev")
WHOLE = Path(__file__).parent / "feeds" / "whole-0.1.0.yaml"
SECRET = {"secretKeyRef": {"name": "s", "key": "k"}}
KAFKA = {"bootstrapServers": "kafka:9092"}
JWT = {"issuer": "me", "algorithm": "ES256", "keyFrom": {"configMapKeyRef": {"name": "issuer", "key": "jwks.json"}}}
FILES = {"configMap": "trades", "paths": ["a.csv"]}
Change = dict[str, Any]


def finnhub(**more: Any) -> Change:
    return {"finnhub": {**FINNHUB["finnhub"], **more}}


def replay(**more: Any) -> Change:
    return {"history": {"mode": "replay", "files": FILES, **more}}


GOOD: dict[str, Change] = {
    "generator": {},
    "generator-listed": {"symbols": ["AAPL", "MSFT"], "shards": 2},
    "no-shards": {"shards": 0},
    "symbols-from": {"symbolsFrom": {"configMapKeyRef": {"name": "list", "key": "symbols"}}, "shards": 50},
    "finnhub-all-keys": {"source": FINNHUB, "symbols": ["A", "B", "C"], "shards": 2, "redundancy": 2},
    "history-import": {"source": HISTORY},
    "history-replace": {"source": {"history": {**HISTORY["history"], "replace": True}}},
    "history-replay": {"source": replay(speed="max")},
    "redis-secret": {"redis": {"urlFrom": SECRET}},
    "redis-tls": {"redis": {"url": "rediss://redis.example.com:6380/2"}},
    "prefix": {"kafka": {**KAFKA, "topicPrefix": "us.stocks-1"}},
    "most-symbols": {"source": FINNHUB, "symbols": [f"S{n:04d}{'x' * 50}" for n in range(5000)], "shards": 1},
    "most-shards": {"source": {"generator": {"symbols": 5000}}, "shards": 64, "redundancy": 2},
    "most-keys": {
        "source": {"finnhub": {"apiKeys": [{"name": "f", "key": f"k{n}"} for n in range(128)]}},
        "symbols": [f"S{n}" for n in range(64)], "shards": 64, "redundancy": 2,
    },
    "quantities": {"ingest": {"resources": {"requests": {"cpu": 1, "memory": "1.5Gi"}}}},
    "open-network": {"networkPolicies": {"enabled": False}},
    "traces": {"observability": {"otlpEndpoint": "http://otel:4318"}},
    "own-image": {"image": "example.com/marketfeed@sha256:" + "0" * 64},
    "auth-jwt": {"mds": {"auth": {"jwt": JWT}, "clientTokenFrom": SECRET}},
    "auth-open": {"mds": {"auth": {"open": True}}},
    "ports": {
        "source": finnhub(url="ws://feed.example.com:65535/stream"), "symbols": ["A"],
        "kafka": {"bootstrapServers": "a:1,b:65535"},
        "redis": {"url": "redis://[::1]:6379/0"},
        "observability": {"otlpEndpoint": "https://otel.example.com/v1/traces"},
    },
}  # fmt: skip

BAD: dict[str, tuple[Change, str]] = {
    "no-source": ({"source": {}}, "spec.source needs exactly one of finnhub, generator and history"),
    "two-sources": ({"source": {**GENERATOR, **HISTORY}}, "spec.source needs exactly one of"),
    "finnhub-without-symbols": ({"source": FINNHUB}, "spec.symbols or spec.symbolsFrom is needed"),
    "symbols-twice": (
        {"symbols": ["AAPL"], "symbolsFrom": {"configMapKeyRef": {"name": "l", "key": "k"}}},
        "spec.symbols and spec.symbolsFrom exclude each other",
    ),
    "symbols-of-history": ({"source": HISTORY, "symbols": ["A"]}, "spec.symbols and spec.symbolsFrom are not for"),
    "more-shards-than-symbols": ({"symbols": ["A", "B"], "shards": 3}, "spec.shards must not exceed the number of"),
    "more-shards-than-universe": (
        {"source": {"generator": {"symbols": 2}}, "shards": 3},
        "spec.source.generator.symbols",
    ),
    "too-few-keys": (
        {"source": FINNHUB, "symbols": ["A", "B", "C"], "shards": 3, "redundancy": 2},
        "spec.shards × spec.redundancy must not exceed the number of spec.source.finnhub.apiKeys",
    ),
    "same-key-twice": (
        {"source": finnhub(apiKeys=[{"name": "f", "key": "k"}] * 2), "symbols": ["A"]},
        "spec.source.finnhub.apiKeys: duplicate",
    ),
    "no-keys": ({"source": finnhub(apiKeys=[]), "symbols": ["A"]}, "spec.source.finnhub.apiKeys"),
    "key-in-url": (
        {"source": finnhub(url="wss://ws.finnhub.io?token=abc"), "symbols": ["A"]},
        "spec.source.finnhub.url must be",
    ),
    "url-of-http": (
        {"source": finnhub(url="https://ws.finnhub.io"), "symbols": ["A"]},
        "spec.source.finnhub.url must be",
    ),
    "sharded-history": ({"source": HISTORY, "shards": 2}, "spec.shards and spec.redundancy must be 1"),
    "redundant-history": ({"source": HISTORY, "redundancy": 2}, "spec.shards and spec.redundancy must be 1"),
    "fast-import": (
        {"source": {"history": {**HISTORY["history"], "speed": "9"}}},
        "spec.source.history.speed is for mode replay",
    ),
    "replacing-replay": ({"source": replay(replace=True)}, "spec.source.history.replace is for mode import"),
    "files-twice": (
        {"source": replay(files={**FILES, "persistentVolumeClaim": "x"})},
        "spec.source.history.files needs exactly one",
    ),
    "files-nowhere": ({"source": replay(files={"paths": ["a"]})}, "spec.source.history.files needs exactly one"),
    "file-outside": (
        {"source": replay(files={**FILES, "paths": ["../x"]})},
        "spec.source.history.files.paths are relative",
    ),
    "file-at-root": (
        {"source": replay(files={**FILES, "paths": ["/etc/passwd"]})},
        "spec.source.history.files.paths are relative",
    ),
    "redis-twice": (
        {"redis": {"url": "redis://r", "urlFrom": SECRET}},
        "spec.redis needs exactly one of url and urlFrom",
    ),
    "redis-nowhere": ({"redis": {}}, "spec.redis needs exactly one of url and urlFrom"),
    "redis-password": ({"redis": {"url": "redis://:pw@r:6379/0"}}, "spec.redis.url must not carry a user or password"),
    "no-postgres": ({"postgres": None}, "spec.postgres"),
    "no-kafka": ({"kafka": None}, "spec.kafka"),
    "kafka-without-port": ({"kafka": {"bootstrapServers": "kafka"}}, "spec.kafka.bootstrapServers"),
    "kafka-port": ({"kafka": {"bootstrapServers": "a:9092,b:99999"}}, "spec.kafka.bootstrapServers must have a number"),
    "kafka-port-0": ({"kafka": {"bootstrapServers": "a:0"}}, "spec.kafka.bootstrapServers must have a number"),
    "redis-port": ({"redis": {"url": "redis://r:abc/0"}}, "spec.redis.url must have a host, and as port"),
    "redis-no-host": ({"redis": {"url": "redis://:6379"}}, "spec.redis.url must have a host, and as port"),
    "finnhub-port": (
        {"source": finnhub(url="wss://h:99999/"), "symbols": ["A"]},
        "spec.source.finnhub.url must have a host, and as port",
    ),
    "traces-port": (
        {"observability": {"otlpEndpoint": "http://otel:0"}},
        "spec.observability.otlpEndpoint must have a host, and as port",
    ),
    "no-partitions": ({"kafka": {**KAFKA, "partitions": 0}}, "spec.kafka.partitions"),
    "bad-prefix": ({"kafka": {**KAFKA, "topicPrefix": "a/b"}}, "spec.kafka.topicPrefix"),
    "too-many-shards": ({"shards": 65}, "spec.shards"),
    "negative-shards": ({"shards": -1}, "spec.shards"),
    "redundancy-3": ({"redundancy": 3}, "spec.redundancy"),
    "symbol-twice": ({"symbols": ["AAPL", "AAPL"]}, "spec.symbols: duplicate"),
    "symbol-with-space": ({"symbols": ["BRK B"]}, "spec.symbols[0]"),
    "no-symbols": ({"symbols": []}, "spec.symbols"),
    "unknown-calendar": ({"calendar": "moon"}, "spec.calendar"),
    "unknown-storage": ({"storage": {"trades": "disk"}}, "spec.storage.trades"),
    "unknown-field": ({"shard": 3}, ".spec.shard: field not declared"),
    "bad-quantity": ({"mds": {"resources": {"limits": {"memory": "lots"}}}}, "spec.mds.resources.limits.memory"),
    "auth-of-nobody": ({"mds": {"auth": {}}}, "spec.mds.auth needs exactly one of open: true and jwt"),
    "auth-open-and-jwt": ({"mds": {"auth": {"open": True, "jwt": JWT}}}, "spec.mds.auth needs exactly one of"),
    "auth-open-and-token": (
        {"mds": {"auth": {"open": True}, "clientTokenFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}},
        "spec.mds.auth.open lets everybody in",
    ),
    "jwt-without-key": ({"mds": {"auth": {"jwt": {**JWT, "keyFrom": {}}}}}, "keyFrom needs exactly one of"),
    "jwt-public-secret": (
        {"mds": {"auth": {"jwt": {**JWT, "algorithm": "HS256"}}}},
        "must be a secretKeyRef for HS256",
    ),
    "jwt-of-none": ({"mds": {"auth": {"jwt": {**JWT, "algorithm": "none"}}}}, "spec.mds.auth.jwt.algorithm"),
    "rate-of-nothing": ({"source": {"generator": {"rate": 0}}}, "spec.source.generator.rate"),
    "Name": ({}, "metadata.name"),
    "a.b": ({}, "metadata.name must be at most 40"),
    "x" * 41: ({}, "metadata.name must be at most 40"),
}

CHANGED: list[tuple[Change, Change, str]] = [
    (
        {"kafka": {**KAFKA, "partitions": 8}},
        {"kafka": {**KAFKA, "partitions": 9}},
        "spec.kafka.partitions cannot be changed",
    ),
    ({}, {"kafka": {**KAFKA, "topicPrefix": "new"}}, "spec.kafka.topicPrefix cannot be changed"),
    ({"kafka": {**KAFKA, "topicPrefix": "a"}}, {}, "spec.kafka.topicPrefix cannot be changed"),
    ({}, {"source": HISTORY}, "the kind of spec.source cannot be changed"),
]


def manifest(name: str, change: Change) -> str:
    obj = feed_object(name, **change)
    del obj["metadata"]["uid"], obj["metadata"]["generation"]
    return json.dumps(obj)


def many(objects: list[Any]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """An API server with the CRD and a namespace under `enforce: restricted`."""
    try:
        started = control_plane(tmp_path_factory.mktemp("plane"))
    except Missing as missing:
        pytest.skip(str(missing))
    with started as running:
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
        first = [
            crd(),
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "feeds", "labels": labels}},
            # Made by the controller manager in a whole cluster; pods are not admitted without it.
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "feeds"}},
        ]
        running.kubectl("apply", "--server-side", "-f", "-", input=many(first))
        running.kubectl("wait", "--for=condition=Established", "crd/marketfeeds.marketfeed.dev", "--timeout=30s")
        yield running


def tried(plane: ControlPlane, text: str) -> str:
    return plane.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", input=text)


def test_good_feeds_are_taken(plane: ControlPlane) -> None:
    """All of them in one go; the API server's defaults and the operator's model agree on each."""
    objects = [json.loads(manifest(name, change)) for name, change in GOOD.items()]
    answer = plane.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-", input=many(objects)
    )
    stored = json.loads(answer)["items"]
    assert [its["metadata"]["name"] for its in stored] == list(GOOD)
    for sent, kept in zip(objects, stored, strict=True):
        assert parse(kept).spec == parse(sent).spec


@pytest.mark.parametrize("name", BAD)
def test_bad_feeds_are_refused_with_their_field(plane: ControlPlane, name: str) -> None:
    """The sentence that a user sees names what to change."""
    change, sentence = BAD[name]
    with pytest.raises(CommandFailed, match=re.escape(sentence)):
        tried(plane, manifest(name, change))


@pytest.mark.parametrize(("before", "after", "sentence"), CHANGED)
def test_what_never_changes_is_held(plane: ControlPlane, before: Change, after: Change, sentence: str) -> None:
    """A change that would orphan a feed's data is refused; the same again is not."""
    plane.kubectl("delete", "marketfeed", "fixed", "-n", "feeds", "--ignore-not-found")
    plane.kubectl("apply", "--server-side", "-f", "-", input=manifest("fixed", before))
    tried(plane, manifest("fixed", before))
    with pytest.raises(CommandFailed, match=re.escape(sentence)):
        tried(plane, manifest("fixed", after))


def test_the_previous_version_s_feed_is_still_taken(plane: ControlPlane) -> None:
    """Every field of 0.1.0 is known, and means the same."""
    obj = yaml.safe_load(WHOLE.read_text())
    answer = plane.kubectl(
        "apply", "--server-side", "--validate=strict", "-n", "feeds", "-o", "json", "-f", "-", input=json.dumps(obj)
    )
    assert parse(json.loads(answer)).spec == parse(obj).spec


def test_a_feed_is_scaled_listed_and_selected(plane: ControlPlane) -> None:
    """`kubectl scale`, `kubectl get mf` with its columns, and the field selector, by a status that we build."""
    plane.kubectl("apply", "--server-side", "-f", "-", input=manifest("shown", {}))
    plane.kubectl("scale", "marketfeed/shown", "-n", "feeds", "--replicas=3")
    obj = json.loads(plane.kubectl("get", "mf", "shown", "-n", "feeds", "-o", "json"))
    its = parse(obj)
    assert its.spec.shards == 3
    planned = next_plan(its, symbols_of(its), FeedState(), NOW)
    wanted = desired(its, FeedState(), planned, DEFAULTS, NOW)
    status = build(obj, FeedState(), NOW, DEFAULTS, feed=its, planned=planned, wanted=wanted)
    body = {name: obj[name] for name in ("apiVersion", "kind")}
    told = {**body, "metadata": {"name": "shown", "namespace": "feeds"}, "status": status}
    plane.kubectl(
        "apply", "--server-side", "--subresource=status", "--validate=strict", "--field-manager=status", "-f", "-",
        input=json.dumps(told),
    )  # fmt: skip
    heads, cells = plane.kubectl("get", "mf", "-n", "feeds", "--field-selector=status.source=generator").splitlines()[
        :2
    ]
    assert heads.split() == ["NAME", "SOURCE", "SYMBOLS", "SHARDS", "READY", "RATE", "LAG", "AGE"]
    assert cells.split()[:5] == ["shown", "generator", "50", "3", "False"]
    scale = json.loads(
        plane.kubectl("get", "--raw", "/apis/marketfeed.dev/v1alpha1/namespaces/feeds/marketfeeds/shown/scale")
    )
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (3, 0)
    assert "marketfeed.dev/feed=shown" in scale["status"]["selector"]


CHILDREN: dict[str, Change] = {
    "generator": {"mds": {"replicas": 2}, "redundancy": 2, "shards": 2},
    "finnhub": {"source": FINNHUB, "symbols": ["AAPL", "MSFT"], "shards": 2, "redundancy": 2},
    "import": {"source": HISTORY},
    "replay": {"source": replay(files={"persistentVolumeClaim": "data", "paths": ["a.csv"]})},
    "whole": {},
}


@pytest.mark.parametrize("name", CHILDREN)
def test_every_child_and_every_pod_is_admitted(plane: ControlPlane, name: str) -> None:
    """All children by a strict server-side apply, and a pod of each template under `enforce: restricted`."""
    obj = yaml.safe_load(WHOLE.read_text()) if name == "whole" else feed_object(name, **CHILDREN[name])
    obj["metadata"] |= {"uid": "11111111-2222-3333-4444-555555555555", "namespace": "feeds"}
    its = parse(obj)
    before = next_plan(its, symbols_of(its), FeedState(), NOW)
    state = FeedState((done(prepare(its, DEFAULTS)),))
    made = [*desired(its, FeedState(), before, DEFAULTS, NOW).apply, *desired(its, state, before, DEFAULTS, NOW).apply]
    unique = list({(child["kind"], child["metadata"]["name"]): child for child in made}.values())
    assert len(unique) >= 10
    answer = tried(plane, many(unique))
    assert answer.count("serverside-applied") == len(unique)
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**template["metadata"], "name": f"{child['metadata']['name']}-pod", "namespace": "feeds"},
            "spec": template["spec"],
        }
        for child in unique
        if child["kind"] in ("Deployment", "Job") and (template := child["spec"]["template"])
    ]
    for pod in pods:
        # PriorityClasses are the cluster's; whether one is there is not the question here.
        pod["spec"] = {field: value for field, value in pod["spec"].items() if field != "priorityClassName"}
    assert tried(plane, many(pods)).count("serverside-applied") == len(pods)


def test_a_pod_that_is_not_restricted_is_refused(plane: ControlPlane) -> None:
    """The namespace really judges pods: the admission above is not for nothing."""
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root", "namespace": "feeds"},
        "spec": {"containers": [{"name": "c", "image": "i", "securityContext": {"privileged": True}}]},
    }  # fmt: skip
    with pytest.raises(CommandFailed, match="violates PodSecurity"):
        tried(plane, json.dumps(pod))
