"""The local cluster is a Kubernetes: pods run, are found by name, reached, read, entered; volumes; Pod Security."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.cluster.conftest import delete_namespace, make_namespace
from tests.e2e.cluster.kube import Cluster, CommandFailed, Object

from localcluster.cluster import Cluster as LocalCluster
from localcluster.errors import Missing
from localcluster.places import default_places

IMAGE = "localhost/valkey:dev"
ARCHIVE = default_places().cache.parent / "images" / "archives" / "valkey.tar"
USER = 999


@pytest.fixture(scope="module")
def local(cluster: Cluster) -> LocalCluster:
    """The cluster that `make cluster` started; skips on any other."""
    places = default_places()
    if cluster.kubeconfig.resolve() != places.kubeconfig.resolve():
        pytest.skip(f"{cluster.kubeconfig} is not of the cluster that `make cluster` starts")
    try:
        found = LocalCluster(places, print)
    except Missing as error:
        pytest.skip(str(error))
    assert found.running, found.status()
    return found


@pytest.fixture(scope="module")
def inside(cluster: Cluster, local: LocalCluster) -> Iterator[Cluster]:
    """A restricted namespace with the image loaded."""
    local.load([ARCHIVE])
    namespace = make_namespace(cluster, f"mf-smoke-{secrets.token_hex(3)}")
    yield namespace
    delete_namespace(namespace)


def pod(name: str, *command: str, **more: object) -> Object:
    """A restricted pod."""
    security = {
        "runAsNonRoot": True, "runAsUser": USER, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    container = {
        "name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": list(command),
        "securityContext": security,
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }  # fmt: skip
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container],
            "volumes": [{"name": "data", "emptyDir": {}}], **more}  # fmt: skip
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def service(name: str, **more: object) -> Object:
    """A Service of the pod with that name."""
    spec = {"selector": {"app": name}, "ports": [{"port": 6379, "targetPort": 6379}], **more}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def ready(cluster: Cluster, name: str) -> None:
    """Wait for a pod."""
    cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s", timeout_s=70)


def test_a_pod_is_found_by_name_and_reached_through_its_service(inside: Cluster) -> None:
    """DNS gives the Service's address and kube-proxy leads to the pod, from pods, this machine and a node port."""
    server = pod("server", "valkey-server", "--protected-mode", "no", "--dir", "/data")
    inside.apply(server, service("server", type="NodePort"))
    ready(inside, "server")
    name = f"server.{inside.namespace}.svc.cluster.local"
    inside.apply(pod("client", "bash", "-c", f"getent hosts {name} && valkey-cli -h server ping"))
    inside.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/client", "--timeout=60s", timeout_s=70)
    address, answer = inside.kubectl("logs", "client").split("\n")[:2]
    found = inside.get("service", "server")["spec"]
    assert address.split() == [found["clusterIP"], name]
    assert answer == "PONG"
    node = inside.kubectl("get", "node", "-o=jsonpath={.items[0].status.addresses[0].address}")
    for host, port in ((found["clusterIP"], 6379), (node, found["ports"][0]["nodePort"])):
        assert _ping(host, port) == "+PONG"


def _ping(host: str, port: int) -> str:
    script = f"exec 3<>/dev/tcp/{host}/{port} && printf 'PING\\r\\n' >&3 && head -n1 <&3"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def test_a_pod_reaches_itself_through_its_service(inside: Cluster) -> None:
    """Hairpin: Kafka and others speak to their own Service."""
    assert inside.kubectl("exec", "server", "--", "valkey-cli", "-h", "server", "ping").strip() == "PONG"


def test_a_pod_is_entered_and_read(inside: Cluster) -> None:
    """`kubectl exec` runs a command in it, `kubectl logs` shows what it wrote, `port-forward` leads to it."""
    assert inside.kubectl("exec", "server", "--", "id", "-u").strip() == str(USER)
    assert "Ready to accept connections" in inside.kubectl("logs", "server")
    with inside.forwarded("pod/server", 6379) as port:
        assert _ping("127.0.0.1", port) == "+PONG"


def test_a_claim_gets_a_volume_that_its_pod_can_write(inside: Cluster, local: LocalCluster) -> None:
    """The default storage class makes a directory, fsGroup owns it, and it goes with the claim."""
    claim: Object = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "kept"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }  # fmt: skip
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "kept"}}]
    writer = pod("writer", "bash", "-c", "echo kept > /data/file && stat -c %g /data && sleep 600",
                 volumes=volumes, securityContext={"fsGroup": 4242})  # fmt: skip
    inside.apply(claim, writer)
    ready(inside, "writer")
    assert inside.until("its log", lambda: inside.kubectl("logs", "writer").strip(), 10) == "4242"
    folder = local.places.run / "volumes"
    made = [path for path in folder.iterdir() if path.name.startswith(f"{inside.namespace}_kept_")]
    assert [(path / "file").read_text() for path in made] == ["kept\n"]
    inside.kubectl("delete", "pod/writer", "pvc/kept")
    inside.until("the directory is removed", lambda: not made[0].exists(), 30)


def test_a_privileged_pod_is_refused(inside: Cluster) -> None:
    """Pod Security holds in a namespace under `restricted`."""
    bad = pod("bad", "true")
    bad["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    with pytest.raises(CommandFailed, match="violates PodSecurity"):
        inside.apply(bad)
    assert inside.find("pod", "bad") is None


def test_a_second_load_of_an_image_is_skipped(local: LocalCluster) -> None:
    """By the digest of its manifest."""
    assert [changed for _, changed in local.load([ARCHIVE])] == [False]


def test_a_second_up_changes_nothing(local: LocalCluster) -> None:
    """`up` on a running cluster starts no process."""
    pids = {file.name: json.loads(file.read_text())["pid"] for file in (local.places.run / "pids").iterdir()}
    LocalCluster(default_places(), print).up()
    again = {file.name: json.loads(file.read_text())["pid"] for file in (local.places.run / "pids").iterdir()}
    assert again == pids


def test_the_audit_log_is_where_the_rights_test_reads_it(cluster: Cluster, local: LocalCluster) -> None:
    """A request of this user is in it."""
    cluster.kubectl("get", "configmaps", "-n=default")
    log = Path(local.places.run / "logs" / "audit.log")
    assert os.stat(log).st_size > 0
    assert '"resource":"configmaps"' in log.read_text()
