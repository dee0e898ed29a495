"""An API server judges our objects of other projects' kinds: every field known, every rule of the kind kept."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml
from tests.charts.rendering import ROOT, template
from tests.e2e.cluster.definitions import linkerd, published
from tests.e2e.cluster.kube import Cluster, CommandFailed, Object

pytestmark = [pytest.mark.level(2), pytest.mark.timeout(300)]

ROUTES = {
    "feed": "x",
    "ingress": {"enabled": True, "hosts": ["a.example"], "controller": "haproxytech", "tls": {"secretName": "cert"}},
    "gateway": {"create": True, "className": "any", "tls": {"secretName": "cert"}},
    "httpRoute": {"enabled": True, "hostnames": ["a.example"]},
    "grpcRoute": {"enabled": True, "hostnames": ["g.example"], "services": ["marketfeed.v1.MarketData"]},
}
EYES = {
    "podMonitor": {"enabled": True},
    "rules": {"prometheusRule": "always"},
    "grafana": {"enabled": True, "adminSecretName": "grafana"},
    "prometheus": {"persistence": {"enabled": True}},
}


@pytest.fixture(scope="module")
def judge(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with all definitions and with the namespaces that the objects are in."""
    places = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in ("md", "marketfeed")]
    missing = [place for place in places if not cluster.find("namespace", place["metadata"]["name"])]
    files = [part for path in published() for part in ("-f", str(path))]
    ours = linkerd()
    cluster.apply(*ours, *missing)
    cluster.kubectl("apply", "--server-side", *files, timeout_s=120)
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s", timeout_s=70)
    yield cluster
    bundle = json.dumps({"apiVersion": "v1", "kind": "List", "items": [*ours, *missing]})
    cluster.kubectl("delete", "-f", "-", "--ignore-not-found", text=bundle, timeout_s=120)
    cluster.kubectl("delete", *files, "--ignore-not-found", timeout_s=120)


def refused(judge: Cluster, objects: list[Object]) -> str:
    """What the API server has against these objects; an object is judged and not kept."""
    by_place: dict[str, list[Object]] = {}
    for one in objects:
        by_place.setdefault(one["metadata"].get("namespace", "default"), []).append(one)
    said = []
    for place, inside in by_place.items():
        bundle = json.dumps({"apiVersion": "v1", "kind": "List", "items": inside})
        arguments = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
        try:
            judge.within(place).kubectl(*arguments, text=bundle)
        except CommandFailed as error:
            said.append(error.said)
    return "\n".join(said)


def overlay(judge: Cluster, mesh: str) -> list[Object]:
    return list(yaml.safe_load_all(judge.kubectl("kustomize", str(ROOT / "k8s" / "mesh" / mesh))))


@pytest.mark.parametrize(("chart", "values"), [("routes", ROUTES), ("observability", EYES)])
def test_a_chart_with_everything_in_it_is_taken(judge: Cluster, chart: str, values: Object) -> None:
    """Gateway API, PodMonitor and PrometheusRule objects beside Kubernetes' own."""
    assert refused(judge, template(chart, values)) == ""


@pytest.mark.parametrize("mesh", ["linkerd", "istio"])
def test_an_overlay_is_taken(judge: Cluster, mesh: str) -> None:
    """All its objects, by the schemas of the mesh's kinds."""
    assert refused(judge, overlay(judge, mesh)) == ""


@pytest.mark.parametrize(
    ("mesh", "kind", "field"),
    [
        ("linkerd", "Server", "proxyProtocal"),
        ("istio", "DestinationRule", "trafficPolice"),
        ("istio", "Gateway", "listener"),
    ],
)
def test_a_misspelt_field_would_be_refused(judge: Cluster, mesh: str, kind: str, field: str) -> None:
    """The judgement can fail: an unknown field is named."""
    objects = [one for one in overlay(judge, mesh) if one["kind"] == kind]
    objects[0]["spec"][field] = {}
    assert field in refused(judge, objects)
