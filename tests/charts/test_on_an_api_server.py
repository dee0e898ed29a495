"""Every rendering before a real API server: its own schemas, its validation, its Pod Security admission.

`KUBECONFIG` names the server; without it a control plane is started for the test, without nodes. Nothing is installed:
all is a dry run but for a namespace, which is deleted again.
"""

from __future__ import annotations

import copy
import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.charts.openapi import file_name, write_schemas
from tests.charts.rendering import Object, program
from tests.charts.test_every_chart import cases, rendered

# APIs of other projects: a server has them only where those are installed.
FOREIGN = ("monitoring.coreos.com/", "gateway.networking.k8s.io/")


@dataclass(frozen=True)
class Server:
    """An API server, a namespace there that refuses what is not restricted, and the schemas of what it knows."""

    kubeconfig: str
    namespace: str
    schemas: Path

    def kubectl(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program("kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments],
            input=text, capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip

    def dry_run(self, objects: list[Object]) -> subprocess.CompletedProcess[str]:
        """Server-side apply as Helm 4 does it, told to change nothing; a warning counts as an error."""
        bundle = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        flags = ("--server-side", "--dry-run=server", "--warnings-as-errors", "--field-manager=helm")
        return self.kubectl("apply", *flags, "-f", "-", text=bundle)

    def conform(self, objects: list[Object]) -> subprocess.CompletedProcess[str]:
        """kubeconform, strict, by the server's own schemas."""
        location = str(self.schemas / "{{.ResourceKind}}-{{.Group}}-{{.ResourceAPIVersion}}.json")
        bundle = "\n---\n".join(map(json.dumps, objects))
        return subprocess.run(
            [program("kubeconform"), "-strict", "-schema-location", location, "-"],
            input=bundle, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def here(self, objects: list[Object]) -> list[Object]:
        """What this server can judge, moved into its namespace."""
        moved = copy.deepcopy([one for one in objects if not one["apiVersion"].startswith(FOREIGN)])
        for one in moved:
            if "namespace" in one["metadata"]:
                one["metadata"]["namespace"] = self.namespace
        return moved


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Server]:
    namespace = f"charts-{secrets.token_hex(3)}"
    schemas = tmp_path_factory.mktemp("schemas")
    kubeconfig = os.environ.get("KUBECONFIG") or str(request.getfixturevalue("plane").kubeconfig)
    found = Server(kubeconfig, namespace, schemas)
    assert write_schemas(json.loads(found.kubectl("get", "--raw", "/openapi/v2").stdout), schemas) > 150
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
    # Where no controller manager runs nobody makes the account that pods have by default.
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}}
    for one in (made, account):
        assert found.kubectl("apply", "--server-side", "-f", "-", text=json.dumps(one)).returncode == 0
    yield found
    found.kubectl("delete", "namespace", namespace, "--wait=false")


every_case = pytest.mark.parametrize(("chart", "file"), list(cases()))


@every_case
def test_every_object_conforms_to_the_servers_schema(server: Server, chart: str, file: str) -> None:
    """kubeconform -strict: no unknown field, no wrong type."""
    done = server.conform(server.here(rendered(chart, file)))
    assert done.returncode == 0, done.stdout + done.stderr


@every_case
def test_the_server_would_take_every_object(server: Server, chart: str, file: str) -> None:
    """Server-side apply, dry run, without an error and without a warning, Pod Security's included."""
    done = server.dry_run(server.here(rendered(chart, file)))
    assert done.returncode == 0, done.stderr


def kafka(server: Server) -> tuple[list[Object], Object]:
    """The objects of the chart kafka, and its container among them."""
    objects = server.here(rendered("kafka", ""))
    (workload,) = (one for one in objects if one["kind"] == "StatefulSet")
    return objects, workload["spec"]["template"]["spec"]["containers"][0]


def test_a_pod_that_is_not_restricted_is_noticed(server: Server) -> None:
    """The check above can fail: one capability kept is a warning, which is an error."""
    objects, container = kafka(server)
    container["securityContext"]["capabilities"] = {"add": ["NET_ADMIN"], "drop": ["ALL"]}
    done = server.dry_run(objects)
    assert done.returncode != 0
    assert 'would violate PodSecurity "restricted' in done.stderr


def test_a_name_that_is_set_twice_is_noticed(server: Server) -> None:
    """As Helm 4 would, the server refuses a container with the same variable twice."""
    objects, container = kafka(server)
    container["env"] += [{"name": "JAVA", "value": "again"}]
    done = server.dry_run(objects)
    assert done.returncode != 0
    assert "duplicate entries for key" in done.stderr


def test_a_misspelt_field_is_noticed(server: Server) -> None:
    """By kubeconform with the field's name."""
    objects, container = kafka(server)
    container["readynessProbe"] = container.pop("readinessProbe")
    done = server.conform(objects)
    assert done.returncode != 0
    assert "readynessProbe" in done.stdout


def test_the_marketfeed_of_the_installation_is_valid(server: Server) -> None:
    """What the Job would apply is what the chart's own API takes."""
    (text,) = (
        one["data"]["marketfeed.json"]
        for one in rendered("marketfeed", "values-local.yaml")
        if "marketfeed.json" in one.get("data", {})
    )
    (crd,) = (one for one in rendered("marketfeed-operator", "") if one["kind"] == "CustomResourceDefinition")
    schemas = {version["name"]: version["schema"]["openAPIV3Schema"] for version in crd["spec"]["versions"]}
    (server.schemas / file_name("marketfeed.dev", "v1alpha1", "MarketFeed")).write_text(json.dumps(schemas["v1alpha1"]))
    done = server.conform([json.loads(text)])
    assert done.returncode == 0, done.stdout
    wrong = json.loads(text)
    wrong["spec"]["shards"] = "three"
    assert server.conform([wrong]).returncode == 1
