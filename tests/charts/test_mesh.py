"""The overlays of k8s/mesh: they render, follow their namespace, and name what the operator really makes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.charts.rendering import ROOT, Object, only, program

MESHES = ROOT / "k8s" / "mesh"
# Names of the container ports and the components (the operator's children).
PORTS = {"http", "grpc", "feed", "health"}
COMPONENTS = {"mds", "generator"}


def built(folder: Path) -> list[Object]:
    done = subprocess.run(
        [program("kubectl"), "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.mark.parametrize("mesh", ["linkerd", "istio"])
def test_one_line_moves_an_overlay_to_another_namespace(tmp_path: Path, mesh: str) -> None:
    """After `namespace:` is changed the old name is nowhere left, inside of specifications neither."""
    copy = tmp_path / mesh
    shutil.copytree(MESHES / mesh, copy)
    kustomization = copy / "kustomization.yaml"
    kustomization.write_text(kustomization.read_text().replace("namespace: marketfeed\n", "namespace: elsewhere\n"))
    for one in built(copy):
        place = one["metadata"].get("namespace") or one["metadata"]["name"]
        assert place == "elsewhere"
        assert "marketfeed" not in values(one.get("spec", {}))
        assert not [value for value in values(one) if value.startswith("*.") and ".elsewhere." not in value]


def values(node: object) -> list[str]:
    """All strings in an object that are values, those of labels that name the project left out."""
    if isinstance(node, dict):
        return [found for key, value in node.items() if key != "app.kubernetes.io/part-of" for found in values(value)]
    if isinstance(node, list):
        return [found for value in node for found in values(value)]
    return [node] if isinstance(node, str) else []


def test_linkerd_covers_every_port_and_lets_only_probes_in_without_a_name() -> None:
    """Each named port has a Server that denies; every policy points at something that is there."""
    objects = built(MESHES / "linkerd")
    servers = {one["metadata"]["name"]: one["spec"] for one in objects if one["kind"] == "Server"}
    assert {server["port"] for server in servers.values()} == PORTS
    assert all(server["accessPolicy"] == "deny" for server in servers.values())
    there = {(one["kind"], one["metadata"]["name"]) for one in objects}
    open_to_all = set()
    for policy in (one for one in objects if one["kind"] == "AuthorizationPolicy"):
        target = policy["spec"]["targetRef"]
        assert (target["kind"], target["name"]) in there
        for reference in policy["spec"]["requiredAuthenticationRefs"]:
            assert (reference["kind"], reference["name"]) in there
            if reference["kind"] == "NetworkAuthentication":
                open_to_all.add(target["name"])
    assert open_to_all == {"probes"}
    probes = only(objects, "HTTPRoute", "probes")["spec"]["rules"]
    assert {match["path"]["value"] for rule in probes for match in rule["matches"]} == {"/healthz", "/readyz"}


def test_a_linkerd_sidecar_ends_with_its_job() -> None:
    """Without native sidecars the prepare Job, for which a feed waits, would never end."""
    annotations = only(built(MESHES / "linkerd"), "Namespace")["metadata"]["annotations"]
    assert annotations["linkerd.io/inject"] == "enabled"
    assert annotations["config.beta.linkerd.io/proxy-enable-native-sidecar"] == "true"
    assert {"9092", "5432", "6379"} <= set(annotations["config.linkerd.io/opaque-ports"].split(","))


def test_istio_has_a_waypoint_that_the_namespace_uses() -> None:
    """Without one, ambient mode balances gRPC by connection."""
    objects = built(MESHES / "istio")
    labels = only(objects, "Namespace")["metadata"]["labels"]
    waypoint = only(objects, "Gateway")
    assert labels["istio.io/dataplane-mode"] == "ambient"
    assert labels["istio.io/use-waypoint"] == waypoint["metadata"]["name"]
    assert waypoint["spec"]["gatewayClassName"] == "istio-waypoint"
    assert only(objects, "PeerAuthentication")["spec"]["mtls"]["mode"] == "STRICT"


def test_what_meshes_select_is_what_the_operator_labels() -> None:
    """Selectors use component labels that exist."""
    for mesh in ("linkerd", "istio"):
        for one in built(MESHES / mesh):
            spec = one.get("spec", {})
            selector = spec.get("podSelector") or spec.get("selector") or {}
            component = selector.get("matchLabels", {}).get("app.kubernetes.io/component")
            assert component is None or component in COMPONENTS
