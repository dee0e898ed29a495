"""A control plane of its own for a test: etcd and the API server on free ports, and on request what makes pods.

`control_plane(directory)` starts it and returns it ready; it is a context manager, too. Everything it writes is below
the directory. When the process that started it ends in whatever way, its processes end as well.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from localcluster import components
from localcluster.components import ControlPlaneLayout
from localcluster.errors import CommandFailed
from localcluster.identities import ADMIN, CONTROLLER_MANAGER, KWOK, SCHEDULER, Identity, write_private
from localcluster.places import Places, default_places, system_program
from localcluster.processes import Processes, Program, Reaper
from localcluster.readiness import api_answers, wait_until

HOST = "127.0.0.1"
READY_S = 60.0


class ControlPlane:
    """A running control plane. Leaving its context, or `stop()`, ends it."""

    def __init__(self, layout: ControlPlaneLayout, processes: Processes, watcher: Reaper) -> None:
        self.kubeconfig = layout.folder / "kubeconfig"
        self.server = layout.server
        self.audit_log = layout.audit_log if layout.audit else None
        self._layout = layout
        self._processes = processes
        self._watcher = watcher

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def pid(self, component: str) -> int:
        """The process of `etcd`, `kube-apiserver`, …: for tests that halt or kill one. Raises ProcessDied."""
        return self._processes.pid(component)

    def restart(self, component: str) -> None:
        """Start a component again that a test has killed, and wait until the API server is ready."""
        self._processes.ensure(self._programs()[component])
        self.wait_ready()

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        """What kubectl prints. Raises CommandFailed."""
        return kubectl(self._layout.kube, self.kubeconfig, *arguments, input=input)

    def wait_ready(self) -> None:
        """Until the API server serves. Raises NotReady or ProcessDied."""
        keys = self._layout.keys
        ready = api_answers(self._layout.server, Path(keys.path("ca.crt")), keys.token(ADMIN))

        def check() -> None:
            for name in ("etcd", "kube-apiserver"):
                self._processes.check(name)

        wait_until("the API server", ready, READY_S, check)

    def start(self, *names: str) -> None:
        """Start components by name."""
        programs = self._programs()
        for name in names:
            self._processes.ensure(programs[name])

    def stop(self) -> None:
        """End every process, the last started first; may be called twice."""
        for name in self._processes.names():
            program = self._programs().get(name)
            self._processes.stop(name, stop_s=program.stop_s if program else 5.0)
        self._watcher.close()

    def _programs(self) -> dict[str, Program]:
        layout = self._layout
        programs = [
            components.etcd(layout),
            components.apiserver(layout),
            components.controller_manager(layout),
            components.scheduler(layout),
            components.kwok(layout, layout.kube.parent / "kwok"),
        ]
        return {program.name: program for program in programs}


def control_plane(
    directory: Path, *, audit: bool = False, workloads: bool = False, fake_nodes: int = 0, places: Places | None = None
) -> ControlPlane:
    """Start a control plane in a directory of its own and wait until it serves (3 to 8 s).

    `audit` writes who asked for what to `ControlPlane.audit_log`. `workloads` runs the controller manager and the
    scheduler, too: owner references are collected, and Deployments become pods. `fake_nodes` is the number of nodes
    that kwok plays: pods on them become Running and Ready without running. Raises ClusterError.
    """
    layout = _layout(directory.resolve(), audit, places or default_places())
    _write_keys(layout)
    watcher = Reaper()
    plane = ControlPlane(layout, Processes(layout.folder / "pids", layout.folder / "logs", watcher), watcher)
    try:
        plane.start("etcd", "kube-apiserver")
        plane.wait_ready()
        if workloads or fake_nodes:
            plane.start("kube-controller-manager", "kube-scheduler")
        if fake_nodes:
            plane.start("kwok")
            plane.kubectl("create", "-f", "-", input=components.fake_nodes(fake_nodes))
            plane.kubectl("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=60s")
    except BaseException:
        plane.stop()
        raise
    return plane


def _layout(folder: Path, audit: bool, places: Places) -> ControlPlaneLayout:
    port, etcd_port, etcd_peer_port = free_ports(3)
    return ControlPlaneLayout(
        kube=places.program("kube"), etcd=system_program("etcd"), folder=folder, address=HOST, port=port,
        etcd_port=etcd_port, etcd_peer_port=etcd_peer_port, audit=audit,
    )  # fmt: skip


def _write_keys(layout: ControlPlaneLayout) -> None:
    write_keys(layout, (CONTROLLER_MANAGER, SCHEDULER, KWOK), (HOST, components.SERVICE_ADDRESS))


def write_keys(layout: ControlPlaneLayout, identities: tuple[Identity, ...], addresses: tuple[str, ...]) -> None:
    """Everything that the control plane's programs read: keys, tokens, kubeconfigs, the audit policy."""
    keys = layout.keys
    keys.make(addresses)
    keys.write_tokens((ADMIN, *identities))
    for identity in identities:
        keys.write_kubeconfig(identity, layout.server, layout.kubeconfig_of(identity.name))
    keys.write_kubeconfig(ADMIN, layout.server, layout.folder / "kubeconfig")
    write_private(Path(keys.path("audit-policy.json")), json.dumps(components.AUDIT_POLICY))


def free_ports(count: int, host: str = HOST) -> list[int]:
    """Ports that nobody listens on now, all different."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((host, 0))
        return [one.getsockname()[1] for one in sockets]


def kubectl(kube: Path, kubeconfig: Path, *arguments: str, input: str | None = None) -> str:
    """What kubectl prints. Raises CommandFailed."""
    command = [str(kube), "kubectl", f"--kubeconfig={kubeconfig}", *arguments]
    done = subprocess.run(command, input=input, capture_output=True, text=True)
    if done.returncode != 0:
        raise CommandFailed(f"kubectl {' '.join(arguments)}", done.returncode, done.stderr or done.stdout)
    return done.stdout
