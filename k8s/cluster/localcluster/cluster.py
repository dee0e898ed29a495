"""The whole single-node cluster: `up`, `down`, `status`, `load`.

`up` may be called at any time: it starts what does not run and waits until pods can be made. Where the store has died
(the machine was started again, somebody killed it) the cluster's state is gone, so what is left of it is cleared away
first and a new cluster is made; images stay.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from localcluster import components, node
from localcluster.components import ControlPlaneLayout
from localcluster.control_plane import free_ports, kubectl, write_keys
from localcluster.errors import ClusterError, CommandFailed, NotRoot
from localcluster.host import NODE_ADDRESS, Host, give_own_tables
from localcluster.identities import ADMIN, CONTROLLER_MANAGER, POLICIES, PROXY, SCHEDULER, VOLUMES
from localcluster.identities import kubelet as kubelet_identity
from localcluster.images import Archived, ImageStore, own_images
from localcluster.node import NODE, NodeLayout
from localcluster.places import SOURCE, Places, system_program
from localcluster.processes import Processes, Program
from localcluster.readiness import api_answers, wait_until

PORT = 6443
API_READY_S = 60.0
CONTAINERD_READY_S = 30.0
NODE_READY_S = 120.0
SOCKET_PATH_MAX = 100
MANIFESTS = SOURCE / "manifests"

Tell = Callable[[str], None]


class Leftovers(ClusterError):
    """`down` could not take everything back."""

    def __init__(self, found: Sequence[str]) -> None:
        super().__init__("down has left: " + "; ".join(found))
        self.found = tuple(found)


class Cluster:
    """The local cluster of some places."""

    def __init__(self, places: Places, tell: Tell) -> None:
        self.places = places
        self._tell = tell
        self._host = Host(places)
        self._processes = Processes(places.run / "pids", places.run / "logs")
        self._node = NodeLayout(places, places.program("kube"), system_program("containerd"))

    @property
    def running(self) -> bool:
        """Whether every process of the cluster runs."""
        return all(self._processes.alive(name) for name in _ORDER)

    def up(self) -> None:
        """Start it, or what is missing of it, and wait until it serves. Raises ClusterError."""
        began = time.monotonic()
        with self._alone():
            if not self._processes.alive("etcd") and self.places.run.exists():
                self._tell("clearing away what an earlier cluster has left")
                self._clear()
            self._host.refuse_foreign()
            self.places.run.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._host.prepare()
            layout = self._control_plane()
            self._write(layout)
            give_own_tables(self._node.tables)
            self._start(layout)
            self._wait_ready()
            self._enforce_policies()
        self._tell(f"the cluster is ready after {time.monotonic() - began:.1f} s")

    def down(self) -> None:
        """Stop it and take everything back but the images. Raises Leftovers if something could not be."""
        began = time.monotonic()
        with self._alone():
            if not self.places.run.exists():
                self._tell("no cluster is up: nothing is left of one")
                return  # Rules of another Kubernetes that may be here are not ours to take away.
            self._clear()
            found = self._host.leftovers()
        if found:
            raise Leftovers(found)
        self._tell(f"the cluster is gone after {time.monotonic() - began:.1f} s; nothing is left of it but its images")

    def status(self) -> dict[str, str]:
        """Each process and whether it runs."""
        return {name: "running" if self._processes.alive(name) else "not running" for name in _ORDER}

    def load(self, files: Sequence[Path]) -> list[tuple[Archived, bool]]:
        """Import image archives. Raises ClusterError."""
        self._processes.check("containerd")
        return ImageStore(self._node.socket).load(files)

    def _control_plane(self) -> ControlPlaneLayout:
        ports = self.places.run / "etcd-ports"
        if not ports.exists():
            ports.write_text(" ".join(str(port) for port in free_ports(2)))
        etcd_port, etcd_peer_port = (int(word) for word in ports.read_text().split())
        return ControlPlaneLayout(
            kube=self._node.kube, etcd=system_program("etcd"), folder=self.places.run, address=NODE_ADDRESS, port=PORT,
            etcd_port=etcd_port, etcd_peer_port=etcd_peer_port, audit=True, published=True,
        )  # fmt: skip

    def _write(self, layout: ControlPlaneLayout) -> None:
        """Keys and configuration, once: running programs hold the first ones."""
        if self.places.kubeconfig.exists():
            return
        identities = (CONTROLLER_MANAGER, SCHEDULER, PROXY, VOLUMES, POLICIES, kubelet_identity(NODE))
        node.write(self._node, Path("/etc/resolv.conf").read_text() if Path("/etc/resolv.conf").exists() else "")
        write_keys(layout, identities, (NODE_ADDRESS, "127.0.0.1", components.SERVICE_ADDRESS))

    def _start(self, layout: ControlPlaneLayout) -> None:
        """Start in an order in which everybody finds whom it needs; images are loaded while the API server starts."""
        self._ensure(components.etcd(layout), components.apiserver(layout), node.containerd(self._node))
        wait_until(
            "containerd", self._containerd_answers, CONTAINERD_READY_S, lambda: self._processes.check("containerd")
        )
        self.load([self.places.images / image.archive for image in own_images()])
        keys = layout.keys
        ready = api_answers(layout.server, Path(keys.path("ca.crt")), keys.token(ADMIN))
        wait_until("the API server", ready, API_READY_S, lambda: self._check("etcd", "kube-apiserver"))
        self._ensure(
            components.controller_manager(layout), components.scheduler(layout), node.kubelet(self._node),
            node.kube_proxy(self._node), node.directory_volumes(self._node),
        )  # fmt: skip
        for name in ("coredns.yaml", "storage.yaml"):
            self._kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=self._manifest(name))

    def _wait_ready(self) -> None:
        """Until the node takes pods, they have DNS, and service accounts are made."""
        asked = (
            ("node", f"node/{NODE}", "-o=jsonpath={.status.conditions[?(@.type=='Ready')].status}", "True"),
            ("DNS", "-n=kube-system", "deployment/coredns", "-o=jsonpath={.status.readyReplicas}", "1"),
            (
                "default service account",
                "-n=default",
                "serviceaccount/default",
                "-o=jsonpath={.metadata.name}",
                "default",
            ),
        )
        for what, *question, wanted in asked:

            def answer(question: Sequence[str] = question, wanted: str = wanted) -> str:
                try:
                    found = self._kubectl("get", *question)
                except CommandFailed as error:
                    return error.output.strip()
                return "" if found == wanted else f"it says {found or 'nothing'}"

            wait_until(f"the {what}", answer, NODE_READY_S, lambda: self._check(*_BASE))

    def _enforce_policies(self) -> None:
        """Start kube-router, which ends where its node is not known yet, and wait for its rules."""
        self._ensure(node.network_policies(self._node))
        wait_until("NetworkPolicies", self._host.policies_awaited, NODE_READY_S, lambda: self._check(*_ORDER))

    def _manifest(self, name: str) -> str:
        reachable = node.resolvers((self._node.folder / "resolv.conf").read_text())
        forward = (
            "forward . /etc/resolv.conf" if reachable else "# The machine has no name server that a pod can reach."
        )
        return (MANIFESTS / name).read_text().replace("@FORWARD@", forward)

    def _containerd_answers(self) -> str:
        try:
            ImageStore(self._node.socket).known()
        except CommandFailed as error:
            return error.output.strip()
        return ""

    def _clear(self) -> None:
        """Stop what has a pid file, end the containers, take back what was changed, remove the folder."""
        for name in reversed(_ORDER):
            if name == "containerd":
                self._end_containers()
            self._processes.stop(name)
        self._host.kill_containers()
        self._host.kill_strays()
        self._host.restore()
        shutil.rmtree(self.places.run, ignore_errors=True)

    def _end_containers(self) -> None:
        self._host.kill_containers()
        if self._processes.alive("containerd"):
            try:
                ImageStore(self._node.socket).remove_containers()
            except CommandFailed as error:
                self._tell(f"containerd could not be asked: {error}")  # Everything is killed below in any case.

    def _ensure(self, *programs: Program) -> None:
        for program in programs:
            self._processes.ensure(program)

    def _check(self, *names: str) -> None:
        for name in names:
            self._processes.check(name)

    def _kubectl(self, *arguments: str, input: str | None = None) -> str:
        return kubectl(self._node.kube, self.places.kubeconfig, *arguments, input=input)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Only one `up` or `down` at a time, by root, with paths that a socket's address can hold."""
        if os.geteuid() != 0:
            raise NotRoot
        if len(str(self._node.socket)) > SOCKET_PATH_MAX:
            raise ClusterError(
                f"the path {self._node.socket} is too long for a socket: set MARKETFEED_CACHE to a shorter one"
            )
        self.places.cache.mkdir(parents=True, exist_ok=True)
        with (self.places.cache / "up.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


# As they are started; they are stopped in the reverse order. The containers end before containerd, so that nothing
# starts them again.
_BASE = (
    "etcd", "kube-apiserver", "containerd", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy",
    "directory-volumes",
)  # fmt: skip
_ORDER = (*_BASE, "kube-router")
