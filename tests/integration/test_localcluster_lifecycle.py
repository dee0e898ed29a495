"""The whole local cluster comes up, survives being killed, and goes without leaving anything behind.

It runs in a network namespace and a cache folder of its own, so that neither a cluster that is up nor the machine's
network is touched; programs and images are the ones that `make cluster-build` has made.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster.errors import Missing
from localcluster.host import Host, cgroup_folders
from localcluster.places import Places, default_places, system_program

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]
READY = re.compile(r"the cluster is ready after ([0-9.]+) s")
READY_S_MAX = 30.0
SOURCES = [str(Path(__file__).parents[2] / folder) for folder in ("k8s/cluster", "services")]


class Machine:
    """The command line in a network namespace of its own, with a cache of its own."""

    def __init__(self, namespace: str, cache: Path) -> None:
        self.places = Places(cache / "cluster")
        self._enter = ["nsenter", f"--net=/run/netns/{namespace}"]
        self._env = {**os.environ, "MARKETFEED_CACHE": str(cache), "PYTHONPATH": os.pathsep.join(SOURCES)}

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command in the namespace."""
        argv = [*self._enter, *command]
        return subprocess.run(argv, capture_output=True, text=True, env=self._env, timeout=180, check=False)

    def localcluster(self, *arguments: str) -> str:
        """What `python -m localcluster` says; it must succeed."""
        done = self.run(sys.executable, "-m", "localcluster", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def kubectl(self, *arguments: str) -> str:
        """What kubectl prints; it must succeed."""
        done = self.run(str(self.places.bin / "kubectl"), f"--kubeconfig={self.places.kubeconfig}", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def pids(self) -> dict[str, int]:
        """The processes that have a pid file."""
        files = (self.places.run / "pids").iterdir()
        return {file.stem: int(json.loads(file.read_text())["pid"]) for file in files}

    def changes(self) -> list[str]:
        """What of the cluster is on the machine, seen from inside the namespace."""
        code = (
            "from localcluster.host import Host; from localcluster.places import default_places; import json;"
            "print(json.dumps(Host(default_places()).leftovers()))"
        )
        done = self.run(sys.executable, "-c", code)
        assert done.returncode == 0, done.stderr
        found: list[str] = json.loads(done.stdout)
        return found


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A namespace and a cache with links to what has been built; everything is gone afterwards."""
    built = default_places()
    try:
        for program in ("kube", "coredns"):
            built.program(program)
        for program in ("containerd", "runc", "etcd", "iptables"):
            system_program(program)
    except Missing as error:
        pytest.skip(str(error))
    if os.geteuid() != 0:
        pytest.skip("needs root")
    namespace = f"mf-test-{secrets.token_hex(3)}"
    cache = Path(tempfile.mkdtemp(prefix="mf-lc-"))
    (cache / "cluster").mkdir()
    for folder in ("bin", "images"):
        (cache / "cluster" / folder).symlink_to(built.cache / folder)
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    made = Machine(namespace, cache)
    try:
        yield made
    finally:
        made.run(sys.executable, "-m", "localcluster", "down")
        subprocess.run(["ip", "netns", "delete", namespace], check=True)
        shutil.rmtree(cache)


def test_up_killed_up_down(machine: Machine) -> None:
    """Ready in 30 s; after kill -9 of everything `up` makes a new one; `down` leaves nothing."""
    first = READY.search(machine.localcluster("up"))
    assert first is not None
    assert machine.kubectl("get", "node", "-o=name").strip() == "node/node-1"
    assert machine.changes() != []
    assert all(folder.exists() for folder in cgroup_folders(machine.places.label))
    kept = machine.pids()
    assert "is ready" in machine.localcluster("up")
    assert machine.pids() == kept

    for pid in kept.values():
        os.kill(pid, signal.SIGKILL)
    assert len(Host(machine.places).strays()) >= 1  # The shims of the pods are still there.
    said = machine.localcluster("up")
    again = READY.search(said)
    assert "clearing away what an earlier cluster has left" in said
    assert again is not None
    assert not set(machine.pids().values()) & set(kept.values())

    assert "nothing is left" in machine.localcluster("down")
    assert machine.changes() == []
    assert not machine.places.run.exists()
    assert [folder for folder in cgroup_folders(machine.places.label) if folder.exists()] == []
    rules = machine.run("iptables-save").stdout + machine.run("ip6tables-save").stdout
    assert "KUBE-" not in rules
    assert "CNI-" not in rules
    print(f"\nready after {first[1]} s, after kill -9 again after {again[1]} s, at load {os.getloadavg()[0]:.0f}")
    if os.getloadavg()[0] < 3:
        assert float(first[1]) <= READY_S_MAX


def test_one_dead_process_is_started_again(machine: Machine) -> None:
    """`up` starts only what does not run: the store and the pods stay."""
    machine.localcluster("up")
    before = machine.pids()
    machine.kubectl("create", "configmap", "kept")
    os.kill(before["kube-controller-manager"], signal.SIGKILL)
    machine.localcluster("up")
    after = machine.pids()
    assert {name for name in before if before[name] != after[name]} == {"kube-controller-manager"}
    assert "kept" in machine.kubectl("get", "configmaps", "-o=name")


def test_down_without_a_cluster_is_no_error(machine: Machine) -> None:
    """Whoever cleans up need not know whether something is there."""
    assert "nothing is left" in machine.localcluster("down")


def test_another_kubernetes_is_not_disturbed(machine: Machine) -> None:
    """Where chains of another Kubernetes are, `up` refuses and touches nothing."""
    machine.run("iptables", "-t", "nat", "-N", "KUBE-SERVICES")
    done = machine.run(sys.executable, "-m", "localcluster", "up")
    assert done.returncode == 1
    assert "another Kubernetes" in done.stderr
    assert not machine.places.run.exists()
    machine.localcluster("down")
    assert "KUBE-SERVICES" in machine.run("iptables-save").stdout
