"""What holds for every chart, whatever values it is given: rules on what comes out of `helm template`."""

from __future__ import annotations

import functools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.charts.rendering import ROOT, Object, program, template

CHARTS = ROOT / "charts"
LOCAL = ROOT / "k8s" / "cluster" / "values-local.yaml"
WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet", "Job", "Pod"}
CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
# Values that no chart can guess.
REQUIRED: dict[str, Object] = {"routes": {"feed": "x", "ingress": {"enabled": True, "hosts": ["a.example"]}}}
EVERYTHING = {"feed": {"enabled": True}, "observability": {"enabled": True}}


def cases() -> Iterator[tuple[str, str]]:
    """Each chart with its defaults and with every file of ci/."""
    for chart in sorted(path.parent for path in CHARTS.glob("*/Chart.yaml")):
        yield chart.name, ""
        for file in sorted(chart.glob("ci/*-values.yaml")):
            yield chart.name, file.name
    yield "marketfeed", "values-local.yaml"


@functools.cache
def rendered(chart: str, file: str) -> list[Object]:
    path = LOCAL if file == LOCAL.name else CHARTS / chart / "ci" / file
    values = yaml.safe_load(path.read_text()) if file else REQUIRED.get(chart, {})
    return template(chart, {**EVERYTHING, **values} if file == LOCAL.name else values)


def pod_of(workload: Object) -> Object:
    """The pod's spec."""
    spec: Object = workload["spec"] if workload["kind"] == "Pod" else workload["spec"]["template"]["spec"]
    return spec


def workloads(objects: list[Object]) -> list[Object]:
    return [one for one in objects if one["kind"] in WORKLOADS]


def containers(workload: Object) -> list[Object]:
    spec = pod_of(workload)
    return [*spec.get("initContainers", []), *spec["containers"]]


every_case = pytest.mark.parametrize(("chart", "file"), list(cases()))


@every_case
def test_every_pod_is_restricted(chart: str, file: str) -> None:
    """What Pod Security `restricted` asks for, a read-only root file system, and no list of Services in variables."""
    for workload in workloads(rendered(chart, file)):
        spec, name = pod_of(workload), workload["metadata"]["name"]
        assert spec["enableServiceLinks"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not any(spec.get(shared) for shared in ("hostNetwork", "hostPID", "hostIPC")), name
        assert not any("hostPath" in volume for volume in spec.get("volumes", [])), name
        for container in containers(workload):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["readOnlyRootFilesystem"] is True, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name


@every_case
def test_tokens_are_mounted_only_where_the_api_server_is_asked(chart: str, file: str) -> None:
    """The operator, whoever finds pods to scrape, and the Job that applies a MarketFeed; nobody else."""
    for workload in workloads(rendered(chart, file)):
        name = workload["metadata"]["name"]
        asks = name.endswith(("marketfeed-operator", "prometheus")) or "-feed-" in name
        assert pod_of(workload)["automountServiceAccountToken"] is asks, name


@every_case
def test_every_container_has_requests_limits_and_an_image_with_a_tag(chart: str, file: str) -> None:
    """No pod of unknown size, no `latest`."""
    for workload in workloads(rendered(chart, file)):
        for container in containers(workload):
            assert set(container["resources"]) == {"requests", "limits"}, container["name"]
            assert re.fullmatch(r"[\w./-]+:[\w.-]+(@sha256:[0-9a-f]{64})?", container["image"]), container["image"]
            assert not container["image"].endswith(":latest")


@every_case
def test_every_server_is_probed(chart: str, file: str) -> None:
    """Whatever runs on has a readiness and a liveness probe, and ends itself only after a startup probe or a delay."""
    for workload in workloads(rendered(chart, file)):
        if workload["kind"] in ("Deployment", "StatefulSet"):
            for container in pod_of(workload)["containers"]:
                assert {"readinessProbe", "livenessProbe"} <= set(container), container["name"]


@every_case
def test_every_server_is_chosen_by_a_network_policy(chart: str, file: str) -> None:
    """A Deployment or StatefulSet has a NetworkPolicy for both directions whose selector its pods match."""
    objects = rendered(chart, file)
    policies = [one["spec"] for one in objects if one["kind"] == "NetworkPolicy"]
    for workload in workloads(objects):
        if workload["kind"] in ("Deployment", "StatefulSet"):
            labels = workload["spec"]["template"]["metadata"]["labels"]
            fitting = [one for one in policies if one["podSelector"]["matchLabels"].items() <= labels.items()]
            kinds = {kind for one in fitting for kind in one["policyTypes"]}
            assert kinds == {"Ingress", "Egress"}, workload["metadata"]["name"]


@every_case
def test_no_budget_blocks_every_drain(chart: str, file: str) -> None:
    """Where one replica runs there is no PodDisruptionBudget."""
    objects = rendered(chart, file)
    for budget in (one for one in objects if one["kind"] == "PodDisruptionBudget"):
        wanted = budget["spec"]["selector"]["matchLabels"].items()
        (guarded,) = (
            one for one in workloads(objects)
            if one["kind"] in ("Deployment", "StatefulSet")
            and wanted <= one["spec"]["template"]["metadata"]["labels"].items()
        )  # fmt: skip
        assert guarded["spec"]["replicas"] > 1


@every_case
def test_every_object_has_its_place_and_its_labels(chart: str, file: str) -> None:
    """A namespace where there can be one, and the labels that helm and people look for."""
    for one in rendered(chart, file):
        assert ("namespace" in one["metadata"]) is (one["kind"] not in CLUSTER_WIDE), one["metadata"]["name"]
        labels = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "marketfeed"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"


@every_case
def test_no_variable_is_set_twice(chart: str, file: str) -> None:
    """Server-side apply, which Helm 4 uses, refuses a name that a container has twice."""
    for workload in workloads(rendered(chart, file)):
        for container in containers(workload):
            names = [variable["name"] for variable in container.get("env", [])]
            assert len(names) == len(set(names)), container["name"]


def test_no_chart_has_anything_from_bitnami() -> None:
    """Their versioned images have left the public registry."""
    word = "bitnami"
    files = [path for folder in (CHARTS, ROOT / "k8s") for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 50
    assert [str(path) for path in files if word in path.read_text(errors="ignore").lower()] == []


@pytest.mark.parametrize("chart", sorted(path.parent.name for path in CHARTS.glob("*/Chart.yaml")))
def test_helm_lint_is_content(chart: str, tmp_path: Path) -> None:
    """`helm lint --strict` of the chart as it is packaged."""
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(REQUIRED.get(chart, {})))
    for command in (["package", str(CHARTS / chart), "-d", str(tmp_path)], []):
        packages = [str(path) for path in tmp_path.glob("*.tgz")]
        arguments = command or ["lint", "--strict", "-f", str(values), *packages]
        done = subprocess.run(
            [program("helm"), *arguments], capture_output=True, text=True, timeout=60, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
