"""The chart `kafka`: how durable it is with one node and with three, and what it refuses."""

from __future__ import annotations

import re
import socket
import subprocess
from pathlib import Path

import pytest
from tests.charts.rendering import ROOT, Object, Refused, only, template


def properties(values: Object | None = None) -> dict[str, str]:
    """server.properties as the chart writes it."""
    config = only(template("kafka", values), "ConfigMap")
    return dict(line.split("=", 1) for line in config["data"]["server.properties"].splitlines() if line)


def statefulset(values: Object | None = None) -> Object:
    return only(template("kafka", values), "StatefulSet")


def test_three_nodes_keep_everything_three_times() -> None:
    """Replication 3 and two in sync by the broker's defaults, so for the control topic, too; no unclean election."""
    found = properties({"replicas": 3})
    copies = [value for name, value in found.items() if name.endswith("replication.factor")]
    assert copies == ["3"] * 4
    assert {value for name, value in found.items() if name.endswith(("min.isr", "min.insync.replicas"))} == {"2"}
    assert found["unclean.leader.election.enable"] == "false"
    assert found["auto.create.topics.enable"] == "false"


def test_one_node_asks_for_one_copy() -> None:
    """With less than it asks for, a single node would refuse every topic."""
    found = properties()
    assert {value for name, value in found.items() if name.endswith(("replication.factor", "isr"))} == {"1"}


def test_voters_are_static_and_named_by_full_domain_names() -> None:
    """Each node is a voter under the name that the kubelet writes into its own hosts file."""
    voters = properties({"replicas": 3})["controller.quorum.voters"].split(",")
    assert voters == [f"{i}@r-kafka-{i}.r-kafka-nodes.md.svc.cluster.local:9093" for i in range(3)]


def test_the_nodes_find_each_other_before_they_are_ready() -> None:
    """Else none would ever become ready: the headless Service gives unready addresses, the clients' one does not."""
    objects = template("kafka", {"replicas": 3})
    nodes = only(objects, "Service", "nodes")["spec"]
    assert nodes["publishNotReadyAddresses"] is True
    assert nodes["clusterIP"] == "None"
    assert "publishNotReadyAddresses" not in only(objects, "Service", "kafka")["spec"]
    assert statefulset({"replicas": 3})["spec"]["podManagementPolicy"] == "Parallel"


def test_the_cluster_id_is_its_own_and_stays() -> None:
    """22 characters of base64url for 16 bytes, the same at each rendering, another for another release."""

    def cluster_id(release: str, values: Object | None = None) -> str:
        pod = only(template("kafka", values, release=release), "StatefulSet")["spec"]["template"]["spec"]
        (found,) = (one["value"] for one in pod["initContainers"][0]["env"] if one["name"] == "CLUSTER_ID")
        return str(found)

    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{20}[AQgw]", cluster_id("a"))
    assert cluster_id("a") == cluster_id("a") != cluster_id("b")
    assert cluster_id("a", {"clusterId": "MkU3OEVBNTcwNTJENDM2Qg"}) == "MkU3OEVBNTcwNTJENDM2Qg"


def test_settings_win_and_keep_their_numbers() -> None:
    """A large number is no power of ten, a fraction stays one, and what is given replaces the chart's own."""
    found = properties({"settings": {"message.max.bytes": 10485760, "a.ratio": 0.5, "num.partitions": 3, "b": True}})
    assert found["message.max.bytes"] == "10485760"
    assert found["a.ratio"] == "0.5"
    assert found["num.partitions"] == "3"
    assert found["b"] == "true"


def test_three_nodes_have_a_budget_and_are_spread() -> None:
    """One node at a time goes on purpose, and they try to be on different machines."""
    objects = template("kafka", {"replicas": 3})
    assert only(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    spread = only(objects, "StatefulSet")["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert spread[0]["topologyKey"] == "kubernetes.io/hostname"


def test_without_persistence_the_log_is_in_the_pod() -> None:
    """A claim, or an emptyDir bounded by the same size."""
    assert "volumeClaimTemplates" in statefulset()["spec"]
    spec = statefulset({"persistence": {"enabled": False, "size": "3Gi"}})["spec"]
    assert "volumeClaimTemplates" not in spec
    assert {"name": "data", "emptyDir": {"sizeLimit": "3Gi"}} in spec["template"]["spec"]["volumes"]


def test_a_digest_decides() -> None:
    """The image is named by tag and digest."""
    digest = "sha256:" + "a" * 64
    pod = statefulset({"image": {"digest": digest}})["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == f"apache/kafka:4.1.2@{digest}"


def test_the_global_pull_policy_holds_unless_the_image_has_one() -> None:
    """For both containers."""
    for values, policy in (
        ({}, "IfNotPresent"),
        ({"global": {"imagePullPolicy": "Always"}}, "Always"),
        ({"global": {"imagePullPolicy": "Always"}, "image": {"pullPolicy": "Never"}}, "Never"),
    ):
        pod = statefulset(values)["spec"]["template"]["spec"]
        assert {one["imagePullPolicy"] for one in pod["initContainers"] + pod["containers"]} == {policy}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"replicas": 2}, "at '/replicas': value must be one of 1, 3"),
        ({"replcas": 1}, "additional properties 'replcas' not allowed"),
        ({"heap": "lots"}, "at '/heap': 'lots' does not match pattern"),
        ({"image": {"digest": "latest"}}, "at '/image/digest'"),
        ({"persistence": {"enabled": "yes"}}, "at '/persistence/enabled': got string, want boolean"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values: Object, sentence: str) -> None:
    """Helm names the value and what it should be, before anything is rendered."""
    with pytest.raises(Refused) as refused:
        template("kafka", values)
    assert sentence in str(refused.value)


def ask(tmp_path: Path, question: str, port: int) -> subprocess.CompletedProcess[str]:
    """The chart's probe, with another port than Kafka's."""
    text = (ROOT / "charts" / "kafka" / "files" / "start.sh").read_text()
    assert text.count("/127.0.0.1/9092 ") == 1
    script = tmp_path / "start.sh"
    script.write_text(text.replace("/127.0.0.1/9092 ", f"/127.0.0.1/{port} "))
    return subprocess.run(["bash", str(script), question], capture_output=True, text=True, timeout=10, check=False)


@pytest.mark.parametrize("question", ["live", "ready"])
def test_a_probe_is_not_content_with_a_socket(question: str, tmp_path: Path) -> None:
    """A server that takes the connection and is silent, as a hung broker, fails; so does nobody at all."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        hung = ask(tmp_path, question, port)
    nobody = ask(tmp_path, question, port)
    assert hung.returncode == nobody.returncode == 1
    assert "got no answer" in hung.stderr
    assert "Connection refused" in nobody.stderr
