"""What the cluster changes on the machine beside starting processes, and how each of it is taken back.

A bridge with the node's address, kernel settings, a control group, mounts below our folders, iptables rules, and a few
folders outside that kubelet and the CNI plugins insist on. What was there before `up` is written down first.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from localcluster import rules
from localcluster.components import SERVICE_RANGE
from localcluster.errors import CommandFailed, ForeignCluster, Missing
from localcluster.identities import write_private
from localcluster.places import Places, system_program

BRIDGE = "mfcluster0"
POD_RANGE = "10.244.0.0/24"
# The node's address is the bridge's: it is there whatever networks the machine is in, and nobody outside reaches it.
NODE_ADDRESS = "10.244.0.1"
CGROUPS = Path("/sys/fs/cgroup")
SYSCTLS = (
    "net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet", "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables", "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic",
    "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
)  # fmt: skip
# Made by kubelet, the CNI library and containerd's shims at paths that cannot be chosen.
OUTSIDE = ("/var/lib/kubelet", "/var/lib/cni", "/var/log/containers", "/run/containerd", "/etc/cni", "/opt/containerd")
# Those of kube-proxy, kubelet and the CNI plugins, and the older ones that kube-router gets for its own.
TABLE_TOOLS = ("iptables", "ip6tables", "iptables-legacy")
POLICY_CHAIN = "KUBE-ROUTER-FORWARD"
SETS = ("KUBE-SRC-", "KUBE-DST-")


class Host:
    """The machine, seen by the cluster of these places."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._before = places.run / "before.json"

    def refuse_foreign(self) -> None:
        """Raises ForeignCluster if another Kubernetes has its rules here."""
        if self._before.exists():
            return
        chains = rules.kubernetes_chains(_save("iptables"))
        if chains:
            raise ForeignCluster(f"iptables has {len(chains)} chains like {chains[0]}")

    def prepare(self) -> None:
        """Remember what is, then make the bridge, the settings and the control group. May be called again."""
        if not self._before.exists():
            absent = [path for path in OUTSIDE if not Path(path).exists()]
            write_private(self._before, json.dumps({"sysctls": _read_sysctls(), "absent": absent}))
        if not _link_exists(BRIDGE):
            _ip("link", "add", BRIDGE, "type", "bridge")
            _ip("address", "add", f"{NODE_ADDRESS}/24", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        _ip("link", "set", "lo", "up")
        # Without a route of its own a Service's address is unreachable from a machine that is in no network; which
        # interface it names does not matter, kube-proxy's rules choose a pod before a packet leaves.
        _ip("route", "replace", SERVICE_RANGE, "dev", BRIDGE)
        if not Path("/proc/sys/net/bridge").exists():
            subprocess.run(["modprobe", "br_netfilter"], capture_output=True, check=False)
        for name in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"):
            _write_sysctl(name, "1")
        for folder in cgroup_folders(self._places.label):
            _make_cgroup(folder)

    def kill_containers(self) -> None:
        """End every process in our control group: the containers, whoever still knows of them."""
        deadline = time.monotonic() + 10.0
        while (found := self.contained()) and time.monotonic() < deadline:
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def kill_strays(self) -> None:
        """End what still runs with our folders in its command line: shims whose containerd has gone."""
        for pid in self.strays():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 5.0
        while self.strays() and time.monotonic() < deadline:
            time.sleep(0.05)

    def contained(self) -> list[int]:
        """The processes in our control group."""
        found: set[int] = set()
        for folder in cgroup_folders(self._places.label):
            for inner in folders_below(folder):
                with contextlib.suppress(OSError):
                    found.update(int(line) for line in (inner / "cgroup.procs").read_text().split())
        return sorted(found - {0})

    def strays(self) -> list[int]:
        """Processes whose program or arguments lie in the running cluster's folder."""
        marks = (f"{self._places.run}/".encode(), str(self._places.containerd).encode())
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and int(folder.name) != os.getpid():
                with contextlib.suppress(OSError):
                    line = (folder / "cmdline").read_bytes()
                    is_ours = b"containerd-shim" in line or str(self._places.bin).encode() in line
                    if is_ours and any(mark in line for mark in marks):
                        found.append(int(folder.name))
        return found

    def restore(self) -> None:
        """Take everything back. Works on whatever an unclean end has left."""
        for mount in self.mounts():
            subprocess.run(["umount", mount], capture_output=True, check=False)
            if mount in self.mounts():
                subprocess.run(["umount", "-l", mount], capture_output=True, check=False)
        for tool in TABLE_TOOLS:
            script = rules.removal(_save(tool), self._places.label)
            if script:
                _restore(tool, script)
        for name in _sets():
            subprocess.run([str(system_program("ipset")), "destroy", name], capture_output=True, check=False)
        if _link_exists(BRIDGE):
            for link in _ports_of(BRIDGE):
                _ip("link", "delete", link)
            _ip("link", "delete", BRIDGE)
        for folder in cgroup_folders(self._places.label):
            _remove_cgroup(folder)
        self._restore_outside()

    def _restore_outside(self) -> None:
        for result in Path("/var/lib/cni/results").glob(f"{self._places.label}-*"):
            result.unlink(missing_ok=True)
        for link in Path("/var/log/containers").glob("*"):
            if link.is_symlink() and str(link.readlink()).startswith(str(self._places.run)):
                link.unlink()
        if not self._before.exists():
            return
        before = json.loads(self._before.read_text())
        for name, value in before["sysctls"].items():
            if _read_sysctl(name) != value:
                _write_sysctl(name, value)
        for path in before["absent"]:
            shutil.rmtree(path, ignore_errors=True)

    def mounts(self) -> list[str]:
        """Mount points below our folders, the innermost first."""
        points = []
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            point = line.split()[4].encode().decode("unicode_escape")
            if any(Path(point).is_relative_to(folder) for folder in (self._places.run, self._places.containerd)):
                points.append(point)
        return sorted(points, key=len, reverse=True)

    def policies_awaited(self) -> str:
        """What is missing until NetworkPolicies are enforced, empty for nothing."""
        there = any(f":{POLICY_CHAIN} " in _save(tool) for tool in TABLE_TOOLS)
        return "" if there else f"no chain {POLICY_CHAIN}"

    def leftovers(self) -> list[str]:
        """What is still there, a line each; nothing after a clean `down`."""
        found = [f"process {pid}" for pid in [*self.contained(), *self.strays()]]
        found += [f"mount {point}" for point in self.mounts()]
        found += [f"interface {BRIDGE}"] if _link_exists(BRIDGE) else []
        found += [f"control group {folder}" for folder in cgroup_folders(self._places.label) if folder.exists()]
        for tool in TABLE_TOOLS:
            found += [f"{tool} {what}" for what in rules.leftovers(_save(tool), self._places.label)]
        return found + [f"set {name}" for name in _sets()]


def give_own_tables(folder: Path) -> None:
    """Put the older iptables into `folder` under the usual names, where the kernel has them.

    kube-router writes the whole filter table back, so in a common one it would undo what kube-proxy changed at that
    moment. The older tables are others: a packet passes through both.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for tool in ("iptables", "iptables-save", "iptables-restore"):
        older = system_program(tool).with_name(tool.replace("iptables", "iptables-legacy"))
        (folder / tool).unlink(missing_ok=True)
        if _works("iptables-legacy") and older.exists():
            (folder / tool).symlink_to(older)


def _works(tool: str) -> bool:
    try:
        return subprocess.run([str(system_program(tool)), "-S"], capture_output=True, check=False).returncode == 0
    except Missing:
        return False


def _sets() -> list[str]:
    """The sets of addresses that NetworkPolicies were made into."""
    done = subprocess.run([str(system_program("ipset")), "list", "-n"], capture_output=True, text=True, check=False)
    return [name for name in done.stdout.split() if name.startswith(SETS)]


def _read_sysctls() -> dict[str, str]:
    values = {name: _read_sysctl(name) for name in SYSCTLS}
    return {name: value for name, value in values.items() if value}


def _read_sysctl(name: str) -> str:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return ""


def _write_sysctl(name: str, value: str) -> None:
    try:
        Path("/proc/sys", name).write_text(value)
    except OSError as error:
        raise CommandFailed(f"sysctl {name}={value}", 1, str(error)) from error


def cgroup_folders(name: str) -> Iterator[Path]:
    """Our control group in each hierarchy: one for cgroup v2, one a controller for v1."""
    if (CGROUPS / "cgroup.controllers").exists():
        yield CGROUPS / name
        return
    for folder in sorted(CGROUPS.iterdir()):
        if (folder / "cgroup.procs").exists() and not folder.is_symlink() and folder.name != "unified":
            yield folder / name


def folders_below(folder: Path) -> Iterator[Path]:
    """The folder and all folders in it, as far as they do not go while one looks: containers end when they like."""
    for name, _, _ in os.walk(folder):
        yield Path(name)


def _make_cgroup(folder: Path) -> None:
    parent = folder.parent
    folder.mkdir(exist_ok=True)
    for name in ("cpuset.cpus", "cpuset.mems"):  # Version 1 leaves both empty, and then no process can enter.
        file = folder / name
        if (parent / "cgroup.procs").exists() and file.exists() and not file.read_text().strip():
            with contextlib.suppress(OSError):
                file.write_text((parent / name).read_text())
    controllers = parent / "cgroup.controllers"
    if controllers.exists():  # Version 2: children get what the parent hands down.
        for controller in controllers.read_text().split():
            for level in (parent, folder):
                with contextlib.suppress(OSError):
                    (level / "cgroup.subtree_control").write_text(f"+{controller}")


def _remove_cgroup(folder: Path) -> None:
    if not folder.exists():
        return
    for inner in sorted(folders_below(folder), key=lambda path: -len(path.parts)):
        with contextlib.suppress(OSError):
            inner.rmdir()


def _link_exists(name: str) -> bool:
    # Asked of `ip`, not of /sys: in a network namespace of its own /sys may still show the machine's interfaces.
    done = subprocess.run([str(system_program("ip")), "link", "show", name], capture_output=True, check=False)
    return done.returncode == 0


def _ports_of(bridge: str) -> list[str]:
    listing = _ip("-o", "link", "show", "master", bridge)
    return [line.split(": ")[1].split("@")[0] for line in listing.splitlines() if ": " in line]


def _ip(*arguments: str) -> str:
    done = subprocess.run([str(system_program("ip")), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CommandFailed(f"ip {' '.join(arguments)}", done.returncode, done.stderr)
    return done.stdout


def _save(tool: str) -> str:
    if tool.endswith("-legacy") and not _works(tool):
        return ""
    done = subprocess.run([str(system_program(f"{tool}-save"))], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def _restore(tool: str, script: str) -> None:
    command = [str(system_program(f"{tool}-restore")), "--noflush"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CommandFailed(" ".join(command), done.returncode, done.stderr)
