"""The chart `observability`: what it makes, and that no dashboard or alert asks for what nobody exports."""

from __future__ import annotations

import functools
import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.charts.queries import FOREIGN, TARGET_LABELS, Reading, exported, readings
from tests.charts.rendering import ROOT, Object, Refused, only, program, template
from tests.unit.operator.feeds import feed

from marketfeed_operator.children_network import network_policies

SERVICES = {"overview", "generator", "ingest", "recorder", "mds", "orders", "history", "operator"}
EVERYTHING = {
    "podMonitor": {"enabled": True},
    "rules": {"prometheusRule": "always"},
    "grafana": {"enabled": True, "adminSecretName": "grafana"},
    "collector": {"otlpEndpoint": "http://tempo:4318"},
    "prometheus": {"persistence": {"enabled": True}},
}


@functools.cache
def everything() -> list[Object]:
    return template("observability", EVERYTHING)


@functools.cache
def dashboards() -> dict[str, dict[str, Any]]:
    found = {}
    for one in template("observability"):
        if one["kind"] == "ConfigMap" and one["metadata"]["labels"].get("grafana_dashboard") == "1":
            ((_, text),) = one["data"].items()
            board = json.loads(text)
            found[board["uid"].removeprefix("marketfeed-")] = board
    return found


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    text = (ROOT / "charts" / "observability" / "rules" / "marketfeed.yaml").read_text()
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def questions() -> Iterator[tuple[str, Reading]]:
    """Everything that a panel, a variable or an alert reads, with where."""
    for name, board in dashboards().items():
        for panel in panels(board):
            for target in panel["targets"]:
                for reading in readings(target["expr"]):
                    yield f"{name}: {panel['title']}", reading
    for rule in rules():
        for reading in readings(rule["expr"]):
            yield rule["alert"], reading


def test_there_is_a_dashboard_per_service() -> None:
    """Each service has its dashboard, and one shows the whole."""
    assert dashboards().keys() == SERVICES


def test_every_metric_asked_for_is_exported() -> None:
    """A panel or alert on a name or label that no process exports fails here, not in front of Grafana."""
    ours = exported()
    known = {**ours, **FOREIGN}
    unknown = [(where, read.metric) for where, read in questions() if read.metric not in known]
    assert unknown == []
    foreign_labels = [
        (where, read.metric, missing)
        for where, read in questions()
        if (missing := read.labels - known[read.metric] - TARGET_LABELS)
    ]
    assert foreign_labels == []


def test_the_check_of_metrics_can_fail() -> None:
    """A name or a label that is wrong is seen as such."""
    ours = exported()
    (wrong,) = readings('sum by (nonsense) (rate(marketfeed_ingest_trade_recieved_total{feed="x"}[5m]))')
    assert wrong.metric not in ours
    assert wrong.labels == {"nonsense", "feed"}
    assert "marketfeed_ingest_trades_received_total" in ours
    assert ours["marketfeed_mds_snapshot_seconds_bucket"] == {"source", "le"}


def test_every_metric_of_a_service_is_on_a_dashboard() -> None:
    """What is worth exporting is worth seeing: no metric of a service is left out (the operator's details may be)."""
    shown = {read.metric for _, read in questions()}
    hidden = {
        name
        for name in exported()
        if name.startswith("marketfeed_")
        and not name.startswith("marketfeed_operator_")
        and not name.endswith(("_created", "_sum", "_count", "_bucket"))
        and not {name, f"{name}_total", f"{name}_bucket"} & shown
    }
    assert hidden == set()


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_dashboard_is_laid_out(name: str) -> None:
    """Panels have their own ids and places, a title, a unit and the chosen data source; letters name their queries."""
    board = dashboards()[name]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    for one, other in itertools.combinations([panel["gridPos"] for panel in board["panels"]], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in board["panels"])
    for panel in panels(board):
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGH"[: len(panel["targets"])])


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_dashboard_follows_its_variables(name: str) -> None:
    """Every query looks only at the namespaces, and feeds, that are chosen."""
    board = dashboards()[name]
    variables = [variable["name"] for variable in board["templating"]["list"]]
    assert variables == (["datasource", "namespace"] if name == "operator" else ["datasource", "namespace", "feed"])
    for panel in panels(board):
        for target in panel["targets"]:
            assert "SCOPE" not in target["expr"]
            for variable in variables[1:]:
                everything_chosen = f'{variable}=~"${variable}"' in target["expr"] or "ALERTS" in target["expr"]
                assert everything_chosen, target["expr"]


def test_every_pod_is_restricted() -> None:
    """No pod of the chart needs a right that the restricted profile refuses, a writable root or a service link."""
    deployments = [one["spec"]["template"]["spec"] for one in everything() if one["kind"] == "Deployment"]
    assert len(deployments) == 3
    for pod in deployments:
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"].keys() == {"requests", "limits"}


def test_only_prometheus_may_ask_the_api_and_only_for_pods() -> None:
    """Its rights: see the pods of the namespaces watched, each by a Role of its own."""
    made = template("observability", {"namespaces": ["md", "other"]})
    roles = [one for one in made if one["kind"] == "Role"]
    assert [one["metadata"]["namespace"] for one in roles] == ["md", "other"]
    assert all(
        one["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}] for one in roles
    )
    with_token = [
        one["metadata"]["name"]
        for one in everything()
        if one["kind"] == "Deployment" and one["spec"]["template"]["spec"]["automountServiceAccountToken"]
    ]
    assert with_token == ["r-prometheus"]


def test_a_pod_monitor_labels_series_like_our_own_prometheus() -> None:
    """Both ways of scraping give a series the same labels, or rules would see only one of them."""
    monitor = only(everything(), "PodMonitor")["spec"]["podMetricsEndpoints"][0]
    (job,) = (
        job
        for job in yaml.safe_load(only(everything(), "ConfigMap", "r-prometheus")["data"]["prometheus.yaml"])[
            "scrape_configs"
        ]
        if job["job_name"] == "marketfeed"
    )
    ours = {rule["target_label"]: rule["source_labels"] for rule in job["relabel_configs"] if "target_label" in rule}
    theirs = {rule["targetLabel"]: rule["sourceLabels"] for rule in monitor["relabelings"]}
    # The Prometheus Operator adds namespace and pod by itself.
    assert {**theirs, "namespace": ["__meta_kubernetes_namespace"], "pod": ["__meta_kubernetes_pod_name"]} == ours
    assert ours.keys() <= TARGET_LABELS


def test_the_prometheus_operator_gets_its_rules_where_it_is() -> None:
    """auto: a PrometheusRule with the same groups where the API exists, none where it does not."""
    rule_kinds = [one["kind"] for one in template("observability")]
    assert "PrometheusRule" not in rule_kinds
    found = only(template("observability", {}, "--api-versions", "monitoring.coreos.com/v1"), "PrometheusRule")
    text = (ROOT / "charts" / "observability" / "rules" / "marketfeed.yaml").read_text()
    assert found["spec"] == yaml.safe_load(text)


def test_the_collector_limits_memory_first_and_batches_last() -> None:
    """The order of the processors decides whether an overload is refused or kills the collector."""
    config = yaml.safe_load(only(everything(), "ConfigMap", "otel-collector")["data"]["config.yaml"])
    assert config["service"]["pipelines"]["traces"]["processors"] == ["memory_limiter", "batch"]
    assert config["service"]["pipelines"]["traces"]["exporters"] == ["otlp_http", "debug"]
    with pytest.raises(Refused, match="traces go nowhere"):
        template("observability", {"collector": {"debugVerbosity": "none"}})


@pytest.mark.parametrize("interval", ["2s", "15s", "1m"])
def test_prometheus_takes_its_configuration(tmp_path: Path, interval: str) -> None:
    """promtool reads it, whatever the interval; its time-out must not be longer.

    Debian's promtool knows no Kubernetes, so that one part is looked at here: by role, namespaces and label.
    """
    values = {"prometheus": {"scrapeInterval": interval, "alertmanagers": ["alertmanager:9093"]}}
    made = only(template("observability", values), "ConfigMap", "r-prometheus")["data"]["prometheus.yaml"]
    config = yaml.safe_load(made)
    assert config["scrape_configs"][1].pop("kubernetes_sd_configs") == [
        {
            "role": "pod",
            "namespaces": {"names": ["md"]},
            "selectors": [{"role": "pod", "label": "app.kubernetes.io/part-of=marketfeed"}],
        }
    ]
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [program("promtool"), "check", "config", "--syntax-only", str(tmp_path / "prometheus.yaml")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_pod_has_its_edges_drawn() -> None:
    """Who may reach a pod, and whom it may reach; what a policy selects is a pod that is there."""
    made = everything()
    policies = {one["metadata"]["name"]: one["spec"] for one in made if one["kind"] == "NetworkPolicy"}
    deployments = {one["metadata"]["name"]: one["spec"]["template"] for one in made if one["kind"] == "Deployment"}
    assert policies.keys() == deployments.keys()
    for name, policy in policies.items():
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        assert policy["podSelector"]["matchLabels"].items() <= deployments[name]["metadata"]["labels"].items()
        named = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
        assert named <= {port["name"] for one in deployments[name]["spec"]["containers"] for port in one["ports"]}


@pytest.mark.parametrize(("chart", "name"), [("observability", "r-prometheus"), ("marketfeed-operator", "")])
def test_a_feeds_policies_let_in_who_reads_its_pods(chart: str, name: str) -> None:
    """Prometheus of this chart and the operator carry labels that the NetworkPolicy of a feed's health port knows."""
    made = [one for one in template(chart) if one["kind"] == "Deployment"]
    (reader,) = [one for one in made if not name or one["metadata"]["name"] == name]
    labels = reader["spec"]["template"]["metadata"]["labels"]
    policies = {one["metadata"]["name"]: one["spec"] for one in network_policies(feed())}
    peers = policies["demo-health"]["ingress"][0]["from"]
    assert any(peer["podSelector"]["matchLabels"].items() <= labels.items() for peer in peers)
