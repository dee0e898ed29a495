"""Eyes on a running feed: a real Prometheus sees every pod, and a trace runs from ingest to the clients' turn."""

from __future__ import annotations

import json
import os
import re
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import yaml
from tests.charts.queries import exported, readings
from tests.e2e.cluster.conftest import ROOT
from tests.e2e.cluster.feeds import Feed, manifest
from tests.e2e.cluster.kube import Cluster, Object

pytestmark = [pytest.mark.level(2), pytest.mark.timeout(300)]

RELEASE = "eyes"
CHART = ROOT / "charts" / "observability"
IMAGES = {
    "prometheus.image": os.environ.get("E2E_PROMETHEUS_IMAGE", "localhost/prometheus:dev"),
    "prometheus.command": os.environ.get("E2E_PROMETHEUS_COMMAND", "/usr/local/bin/prometheus"),
    "collector.image": os.environ.get("E2E_COLLECTOR_IMAGE", "localhost/otel-collector:dev"),
    "collector.command": os.environ.get("E2E_COLLECTOR_COMMAND", "/usr/local/bin/otel-collector"),
}
# The chain of a trace, each below the one it names; the two sinks of the recorder and mds all continue ingest's span.
CHAIN = {
    ("marketfeed-recorder", "recorder.store"): "ingest.flush",
    ("marketfeed-recorder", "recorder.cache"): "ingest.flush",
    ("marketfeed-mds", "mds.apply"): "ingest.flush",
    ("marketfeed-mds", "mds.send"): "mds.apply",
}


@pytest.fixture(scope="module")
def eyes(installation: Cluster) -> Iterator[Cluster]:
    """The chart, ready, in the installation's namespace; it writes each span to the collector's log."""
    options = {**IMAGES, "prometheus.scrapeInterval": "2s", "collector.debugVerbosity": "detailed"}
    settings = [part for name, value in options.items() for part in ("--set", f"{name}={value}")]
    installation.helm("upgrade", "--install", RELEASE, str(CHART), *settings, "--wait", "--timeout", "2m")
    yield installation
    installation.helm("uninstall", RELEASE, "--wait")


@pytest.fixture(scope="module")
def feed(eyes: Cluster) -> Iterator[Feed]:
    """A slow feed that is traced: few spans, so that the collector's log can be read."""
    endpoint = f"http://{RELEASE}-otel-collector:4318"
    eyes.apply(manifest("traced", rate=20, symbols=5, observability={"otlpEndpoint": endpoint}))
    found = Feed(eyes, "traced")
    found.ready_within(90)
    yield found
    eyes.kubectl("delete", "marketfeed", found.name)


@pytest.fixture(scope="module")
def ask(eyes: Cluster, feed: Feed) -> Iterator[Callable[[str], list[Object]]]:
    """Asks Prometheus a query; the series that answer."""
    with eyes.forwarded(f"service/{RELEASE}-prometheus", 9090) as port:

        def query(text: str) -> list[Object]:
            address = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': text})}"
            answer = json.load(urllib.request.urlopen(address, timeout=10))
            assert answer["status"] == "success"
            found: list[Object] = answer["data"]["result"]
            return found

        yield query


def pods_with_metrics(cluster: Cluster) -> dict[str, Object]:
    """The running pods of marketfeed that name a port `health`."""
    return {
        pod["metadata"]["name"]: pod["metadata"]["labels"]
        for pod in cluster.pods("app.kubernetes.io/part-of=marketfeed")
        if pod["status"]["phase"] == "Running"
        and any(port.get("name") == "health" for one in pod["spec"]["containers"] for port in one.get("ports", []))
    }


def test_prometheus_sees_every_pod(eyes: Cluster, feed: Feed, ask: Callable[[str], list[Object]]) -> None:
    """Each pod with metrics is read, and its series carry the labels that rules and dashboards choose by."""

    def seen() -> dict[str, Object] | None:
        up = {one["metric"]["pod"]: one["metric"] for one in ask('up{component!=""} == 1')}
        return up if up.keys() >= pods_with_metrics(eyes).keys() else None

    series = eyes.until("every pod is up in Prometheus", seen, 60)
    pods = pods_with_metrics(eyes)
    components = {labels["app.kubernetes.io/component"] for labels in pods.values()}
    assert components >= {"ingest", "recorder", "mds", "generator", "operator", "otel-collector"}
    for name, labels in pods.items():
        assert series[name]["component"] == labels["app.kubernetes.io/component"]
        assert series[name].get("feed") == labels.get("marketfeed.dev/feed")
        assert series[name].get("shard") == labels.get("marketfeed.dev/shard")
    print(f"\n{len(pods)} pods of {sorted(components)} are scraped")


def test_the_queries_of_dashboards_find_their_series(
    eyes: Cluster, feed: Feed, ask: Callable[[str], list[Object]]
) -> None:
    """Each query is one that Prometheus answers, and each metric without labels of its own is really there."""
    boards = [
        json.loads(text) for one in eyes.objects("configmaps", "grafana_dashboard=1") for text in one["data"].values()
    ]
    queries = [target["expr"] for board in boards for panel in board["panels"] for target in panel.get("targets", [])]
    assert len(queries) > 50
    own = exported()
    for query in queries:
        for variable in ("namespace", "feed"):
            query = query.replace(f"${variable}", ".*")
        ask(query.replace("$__rate_interval", "30s"))
    unlabelled = {
        reading.metric
        for query in queries
        for reading in readings(query)
        if own.get(reading.metric) == frozenset() and not reading.metric.startswith("marketfeed_history_")
    }
    assert len(unlabelled) > 30
    eyes.until(
        "every such metric has a series",
        lambda: unlabelled <= {one["metric"]["__name__"] for one in ask('{__name__=~"marketfeed_.+"}')},
        30,
    )


def test_the_alerts_are_loaded_and_quiet(ask: Callable[[str], list[Object]]) -> None:
    """Prometheus evaluates every rule without a fault, and a healthy feed raises none that wakes somebody."""
    names = {
        rule["alert"]
        for group in yaml.safe_load((CHART / "rules" / "marketfeed.yaml").read_text())["groups"]
        for rule in group["rules"]
    }
    failures = ask("sum(prometheus_rule_evaluation_failures_total)")
    assert float(failures[0]["value"][1]) == 0
    loaded = ask("sum(prometheus_rule_group_rules)")
    assert int(loaded[0]["value"][1]) == len(names)
    assert ask('ALERTS{alertstate="firing", severity="critical"}') == []


@dataclass(frozen=True, slots=True)
class Span:
    """A span as the collector's debug exporter writes it."""

    service: str
    name: str
    trace: str
    id: str
    parent: str


_SPAN = re.compile(
    r"-> service\.name: Str\((?P<service>[^)]+)\)"
    r"|Trace ID\s+: (?P<trace>\w+)|Parent ID\s+: (?P<parent>\w*)|^\s+ID\s+: (?P<id>\w+)|^\s+Name\s+: (?P<name>\S+)",
    re.MULTILINE,
)


def spans(log: str) -> list[Span]:
    """The spans in a log of the collector; fields come in the order service, trace, parent, id, name."""
    found: list[Span] = []
    current: dict[str, str] = {}
    for match in _SPAN.finditer(log):
        current |= {key: value for key, value in match.groupdict().items() if value is not None}
        if match["name"] is not None and current.keys() >= {"service", "trace", "parent", "id"}:
            found.append(Span(current["service"], current["name"], current["trace"], current["id"], current["parent"]))
    return found


def whole_trace(eyes: Cluster) -> list[Span] | None:
    """The spans of one trace in which the chain is complete, each below the one it should be below."""
    log = eyes.kubectl("logs", f"deployment/{RELEASE}-otel-collector", "--since=30s")
    by_trace: dict[str, list[Span]] = {}
    for span in spans(log):
        by_trace.setdefault(span.trace, []).append(span)
    for members in by_trace.values():
        names = {span.id: span.name for span in members}
        below = {(span.service, span.name): names.get(span.parent) for span in members}
        if all(below.get(link) == parent for link, parent in CHAIN.items()):
            return members
    return None


def test_a_trace_runs_from_ingest_to_the_clients(eyes: Cluster, feed: Feed) -> None:
    """One flush of ingest, the commits of both sinks, and what mds applied and sent are one trace, joined by Kafka."""
    trace = eyes.until("a trace is complete", lambda: whole_trace(eyes), 60, every_s=2)
    root = next(span for span in trace if span.name == "ingest.flush")
    assert (root.service, root.parent) == ("marketfeed-ingest", "")
    print("\n" + "\n".join(sorted(f"{span.service}: {span.name}" for span in trace)))
