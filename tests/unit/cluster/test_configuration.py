"""Command lines and configuration files of the cluster's programs, as pure functions of where things are."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from localcluster import components, go_tools, node, places
from localcluster.components import ControlPlaneLayout
from localcluster.node import NodeLayout

LAYOUT = ControlPlaneLayout(
    kube=Path("/c/bin/kube"), etcd=Path("/usr/bin/etcd"), folder=Path("/tmp"), address="127.0.0.1", port=1234,
    etcd_port=2, etcd_peer_port=3,
)  # fmt: skip
NODE = NodeLayout(places.Places(Path("/c")), Path("/c/bin/kube"), Path("/usr/bin/containerd"))


def test_the_api_server_is_only_where_it_was_told(tmp_path: Path) -> None:
    """It binds one address, and asks etcd with a certificate."""
    layout = replace(LAYOUT, folder=tmp_path)
    argv = components.apiserver(layout).argv
    assert "--bind-address=127.0.0.1" in argv
    assert "--secure-port=1234" in argv
    assert "--etcd-servers=https://127.0.0.1:2" in argv
    assert "--client-cert-auth" in components.etcd(layout).argv
    assert layout.server == "https://127.0.0.1:1234"


def test_an_audit_log_only_on_request(tmp_path: Path) -> None:
    """Without `audit` no flag of it; with it, the policy leaves the cluster's own parts out and records users."""
    layout = replace(LAYOUT, folder=tmp_path)
    assert not [flag for flag in components.apiserver(layout).argv if flag.startswith("--audit")]
    assert f"--audit-log-path={tmp_path}/logs/audit.log" in components.apiserver(replace(layout, audit=True)).argv
    rules = components.AUDIT_POLICY["rules"]
    assert isinstance(rules, list)
    assert rules[-1] == {"level": "Metadata"}


def test_loopback_is_not_published(tmp_path: Path) -> None:
    """An address that pods cannot reach does not become the `kubernetes` Service's endpoint."""
    layout = replace(LAYOUT, folder=tmp_path)
    assert "--endpoint-reconciler-type=none" in components.apiserver(layout).argv
    assert "--endpoint-reconciler-type=none" not in components.apiserver(replace(layout, published=True)).argv


def test_controllers_open_no_port(tmp_path: Path) -> None:
    """Several control planes run beside each other: controller manager, scheduler and kwok listen nowhere."""
    layout = replace(LAYOUT, folder=tmp_path)
    assert "--secure-port=0" in components.controller_manager(layout).argv
    assert "--secure-port=0" in components.scheduler(layout).argv
    assert "--server-address=" in components.kwok(layout, Path("/c/bin/kwok")).argv


def test_fake_nodes_are_kwoks() -> None:
    """Each carries the annotation that kwok selects by, and room for thousands of pods."""
    items = json.loads(components.fake_nodes(3))["items"]
    assert [item["metadata"]["name"] for item in items] == ["kwok-0", "kwok-1", "kwok-2"]
    assert all(item["metadata"]["annotations"] == {"kwok.x-k8s.io/node": "fake"} for item in items)
    assert all(int(item["status"]["allocatable"]["pods"]) > 10_000 for item in items)


def test_containerd_stays_in_our_folders() -> None:
    """Content, state, socket, runc's state: nothing at the system's containerd's places."""
    config = tomllib.loads(node.containerd_config(NODE))
    assert config["version"] == 2
    assert config["root"] == "/c/containerd"
    assert config["state"] == "/c/run/node/containerd"
    assert config["grpc"]["address"] == "/c/run/containerd.sock"
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["sandbox_image"] == "localhost/pause:dev"
    assert cri["containerd"]["runtimes"]["runc"]["options"]["Root"].startswith("/c/run/")


def test_kubelet_and_network_agree() -> None:
    """Socket, control group and name are the same on both sides; pods' logs stay in our folders."""
    config = node.kubelet_config(NODE)
    assert config["containerRuntimeEndpoint"] == "unix:///c/run/containerd.sock"
    assert config["cgroupRoot"] == f"/{NODE.places.label}"
    assert str(config["podLogsDir"]).startswith("/c/run/")
    network = node.cni_config(NODE)
    assert network["name"] == NODE.places.label
    assert "--root-dir=/c/run/node/kubelet" in node.kubelet(NODE).argv
    assert "--proxy-mode=iptables" in node.kube_proxy(NODE).argv
    assert "--root=/c/run/volumes" in node.directory_volumes(NODE).argv
    policies = node.network_policies(NODE)
    assert {"--run-firewall=true", "--run-router=false", "--run-service-proxy=false"} <= set(policies.argv)
    assert policies.env["PATH"].startswith("/c/run/node/tables:"), "its iptables are not kube-proxy's"
    assert node.containerd(NODE).argv[0] == "/usr/bin/containerd"


def test_name_servers_on_loopback_are_not_passed_on() -> None:
    """CoreDNS would ask itself; a machine without others gets a DNS that knows only the cluster."""
    assert node.resolvers("search x\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 10.0.0.2\n") == ["10.0.0.2"]
    assert node.resolvers("nameserver 127.0.0.1") == []


def test_node_files_are_written(tmp_path: Path) -> None:
    """Every file that a command line names is there."""
    layout = NodeLayout(places.Places(tmp_path), Path("/kube"), Path("/containerd"))
    node.write(layout, "nameserver 127.0.0.1\nnameserver 192.0.2.1\n")
    assert (layout.folder / "resolv.conf").read_text() == "nameserver 192.0.2.1\n"
    assert json.loads((layout.folder / "cni" / "10-marketfeed.conflist").read_text())["plugins"][0]["type"] == "bridge"
    assert tomllib.loads((layout.folder / "containerd.toml").read_text())["version"] == 2
    assert json.loads((layout.folder / "kubelet.json").read_text())["kind"] == "KubeletConfiguration"


def test_the_manifests_fit_the_node() -> None:
    """DNS is where pods look for it, and the storage class is the provisioner's and the default."""
    folder = places.SOURCE / "manifests"
    objects = [*yaml.safe_load_all((folder / "coredns.yaml").read_text().replace("@FORWARD@", "#"))]
    services = [one for one in objects if one["kind"] == "Service"]
    assert services[0]["spec"]["clusterIP"] == node.DNS_ADDRESS
    # A NetworkPolicy that lets pods ask for names is about the port of DNS' own pods.
    assert {port["targetPort"] for port in services[0]["spec"]["ports"]} == {53}
    storage = yaml.safe_load((folder / "storage.yaml").read_text())
    assert storage["provisioner"] == node.PROVISIONER
    assert storage["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true"


def test_the_cache_moves_with_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """$MARKETFEED_CACHE is where programs and the running cluster are."""
    monkeypatch.setenv("MARKETFEED_CACHE", "/somewhere")
    found = places.default_places()
    assert found.bin == Path("/somewhere/cluster/bin")
    assert found.kubeconfig == Path("/somewhere/cluster/run/kubeconfig")


def test_one_kubernetes_version_everywhere() -> None:
    """go.mod, the version that the programs tell, and the replace lines are of one release."""
    text = (places.SOURCE / "kube" / "go.mod").read_text()
    published = go_tools.KUBERNETES.replace("v1.", "v0.")
    replaced = [line.split() for line in text.splitlines() if "=>" in line]
    assert f"k8s.io/kubernetes {go_tools.KUBERNETES}" in text
    assert len(replaced) == 31
    assert all(words[0] == words[2] and words[3] == published for words in replaced)
    assert f"gitVersion={go_tools.KUBERNETES}" in go_tools.KUBE_LDFLAGS
