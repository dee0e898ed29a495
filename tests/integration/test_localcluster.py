"""A control plane for tests: real etcd and a real API server, gone without a trace afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import ControlPlane, control_plane, processes
from localcluster.control_plane import free_ports
from localcluster.errors import ClusterError, CommandFailed, Missing, ProcessDied
from localcluster.places import default_places, system_program

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
READY_S_MAX = 10.0


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """Skip where the programs have not been built."""
    try:
        default_places().program("kube")
        system_program("etcd")
    except Missing as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane with an audit log and pods on a fake node."""
    begun = time.monotonic()
    with control_plane(tmp_path_factory.mktemp("plane"), audit=True, fake_nodes=1) as started:
        print(f"\ncontrol plane with a fake node: ready after {time.monotonic() - begun:.1f} s")
        yield started


def running_in(folder: Path) -> list[str]:
    """The command lines of processes, this one left out, that name the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in line and int(process.name) != os.getpid():
            found.append(line)
    return found


def death_of(plane: ControlPlane, component: str) -> ProcessDied | None:
    """What asking for a component's process says when it has ended."""
    try:
        plane.pid(component)
    except ProcessDied as error:
        return error
    return None


def test_it_starts_soon_and_leaves_nothing(tmp_path: Path) -> None:
    """It serves within 10 s on an idle machine, and no process of it is left after `stop`, called twice."""
    begun = time.monotonic()
    with control_plane(tmp_path) as alone:
        took_s = time.monotonic() - begun
        print(f"\ncontrol plane: ready after {took_s:.1f} s at load {os.getloadavg()[0]:.0f}")
        assert len(running_in(tmp_path)) == 2
        assert alone.kubectl("get", "--raw", "/readyz") == "ok"
        alone.stop()
    assert running_in(tmp_path) == []
    if os.getloadavg()[0] < 2:
        assert took_s <= READY_S_MAX


def test_its_processes_do_not_outlive_a_killed_owner(tmp_path: Path) -> None:
    """After kill -9 of the process that started it, etcd and the API server end, too."""
    code = "\n".join([
        "import sys, pathlib, localcluster",
        "localcluster.control_plane(pathlib.Path(sys.argv[1]))",
        "print('up', flush=True)",
        "sys.stdin.read()",
    ])  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        ours = processes.Processes(tmp_path / "pids", tmp_path / "logs")
        pids = [ours.pid("etcd"), ours.pid("kube-apiserver")]
        owner.kill()
    deadline = time.monotonic() + 20
    while any(processes.stat(pid)[0] not in ("", "Z") for pid in pids):
        assert time.monotonic() < deadline, running_in(tmp_path)
        time.sleep(0.05)


def test_deployments_become_pods_and_go_with_their_owner(plane: ControlPlane) -> None:
    """The controllers and kwok run: pods of a Deployment are Ready, and are collected when it is deleted."""
    plane.kubectl("create", "deployment", "web", "--image=nowhere/x", "--replicas=3")
    plane.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert plane.kubectl("get", "pods", "-l=app=web", "-o=jsonpath={.items[*].spec.nodeName}") == "kwok-0 kwok-0 kwok-0"
    plane.kubectl("delete", "deployment", "web", "--cascade=foreground", "--timeout=60s")
    plane.kubectl("wait", "--for=delete", "pods", "-l=app=web", "--timeout=60s")


def test_pod_security_is_enforced(plane: ControlPlane) -> None:
    """A namespace under `restricted` refuses a privileged pod, and says why."""
    plane.kubectl("create", "namespace", "strict")
    plane.kubectl("label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
    privileged = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bad"},
        "spec": {"containers": [{"name": "c", "image": "x", "securityContext": {"privileged": True}}]},
    }
    with pytest.raises(CommandFailed, match="violates PodSecurity"):
        plane.kubectl("-n=strict", "create", "-f", "-", input=json.dumps(privileged))


def test_the_audit_log_tells_who_asked_for_what(plane: ControlPlane) -> None:
    """A request of a service account is a line with its user, verb and resource; the cluster's own are not there."""
    plane.kubectl("create", "serviceaccount", "asker")
    with pytest.raises(CommandFailed, match="forbidden"):
        plane.kubectl("get", "secrets", "--as=system:serviceaccount:default:asker")
    assert plane.audit_log is not None
    events = [json.loads(line) for line in plane.audit_log.read_text().splitlines()]
    asked = [event for event in events if event.get("impersonatedUser", {}).get("username", "").endswith(":asker")]
    assert ("list", "secrets", 403) in [
        (event["verb"], event["objectRef"].get("resource"), event["responseStatus"]["code"]) for event in asked
    ]
    assert not [event for event in events if event["user"]["username"] == "system:kube-scheduler"]


def test_a_killed_api_server_is_named_and_starts_again(plane: ControlPlane) -> None:
    """A test may kill a component: asking for it says that it ended, and `restart` brings it back with its state."""
    plane.kubectl("create", "configmap", "kept")
    os.kill(plane.pid("kube-apiserver"), signal.SIGKILL)
    deadline = time.monotonic() + 10
    while (died := death_of(plane, "kube-apiserver")) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "kube-apiserver ended" in str(died)
    plane.restart("kube-apiserver")
    assert "kept" in plane.kubectl("get", "configmaps", "-o=name")


def test_a_failed_start_leaves_nothing(tmp_path: Path) -> None:
    """When the API server cannot start, the error quotes it and etcd is stopped."""
    blocked = tmp_path / "kubeconfig"
    blocked.mkdir()  # A folder where a file has to be written.
    with pytest.raises((ClusterError, OSError)):
        control_plane(tmp_path)
    assert running_in(tmp_path) == []


def test_free_ports_differ() -> None:
    """No two programs get the same port."""
    assert len(set(free_ports(20))) == 20
