"""Debian packages that the cluster and the images need, installed without starting a service.

Some of them would start one at once (etcd, containerd); the cluster runs its own, in its own folders.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from localcluster.errors import CommandFailed, Missing
from localcluster.places import SYSTEM_PATHS

# A file that the package brings, or a program on the path: the package.
PACKAGES: Mapping[str, str] = {
    "etcd": "etcd-server",
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ipset": "ipset",
    "ip": "iproute2",
    "mount": "mount",
    "openssl": "openssl",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "newuidmap": "uidmap",
    # Only for the tests of alert rules.
    "promtool": "prometheus",
}
POLICY = Path("/usr/sbin/policy-rc.d")


def missing() -> list[str]:
    """The packages that are not installed, by what they bring."""
    return sorted({package for brings, package in PACKAGES.items() if not _is_there(brings)})


def _is_there(brings: str) -> bool:
    if brings.startswith("/"):
        return Path(brings).exists()
    return shutil.which(brings, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATHS}") is not None


def install(tell: Callable[[str], None]) -> None:
    """Install what is missing. Raises Missing where there is no apt or no right to use it, CommandFailed otherwise."""
    wanted = missing()
    if not wanted:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise Missing(
            ", ".join(wanted), "install these packages (names of Debian and Ubuntu), or run this as root there"
        )
    tell(f"installing {', '.join(wanted)}")
    with _no_service_starts(POLICY):
        _apt("update", "-q")
        _apt("install", "-q", "-y", "--no-install-recommends", *wanted)


@contextlib.contextmanager
def _no_service_starts(policy: Path) -> Iterator[None]:
    """Debian's way to say that no service may be started; a policy that is there stays as it is."""
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def _apt(*arguments: str) -> None:
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=300", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    )
    if done.returncode != 0:
        raise CommandFailed(" ".join(command), done.returncode, done.stdout + done.stderr)
