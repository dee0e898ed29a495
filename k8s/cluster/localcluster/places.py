"""Where the local cluster keeps things: programs and images in the cache, everything that runs below `run`."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from localcluster.errors import Missing

SOURCE = Path(__file__).resolve().parents[1]
SYSTEM_PATHS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BUILD_FIRST = "run `make cluster-build` (or `python -m localcluster build`)"


def cache() -> Path:
    """The cache folder of the cluster; $MARKETFEED_CACHE moves it."""
    base = os.environ.get("MARKETFEED_CACHE") or Path.home() / ".cache" / "marketfeed"
    return Path(base).resolve() / "cluster"


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of one cluster. `run` holds pid files, logs, keys and the kubeconfig; `down` removes it."""

    cache: Path

    @property
    def label(self) -> str:
        """A name that is this cluster's alone on the machine: of its control group and its pods' network."""
        return f"marketfeed-{hashlib.sha256(str(self.cache).encode()).hexdigest()[:8]}"

    @property
    def bin(self) -> Path:
        """Programs built by `build`."""
        return self.cache / "bin"

    @property
    def run(self) -> Path:
        """Everything of the running cluster."""
        return self.cache / "run"

    @property
    def images(self) -> Path:
        """OCI archives of the cluster's own images."""
        return self.cache / "images"

    @property
    def containerd(self) -> Path:
        """containerd's content: outlives `down`, so that images need not be imported again."""
        return self.cache / "containerd"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.run / "kubeconfig"

    def program(self, name: str) -> Path:
        """A program that `build` made. Raises Missing if it is not there."""
        path = self.bin / name
        if not path.exists():
            raise Missing(name, BUILD_FIRST)
        return path


def system_program(name: str) -> Path:
    """A program of the operating system, looked for in the system folders too. Raises Missing if it is not there."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATHS}")
    if found is None:
        raise Missing(name, BUILD_FIRST)
    return Path(found)


def default_places() -> Places:
    """The places that `make cluster` uses."""
    return Places(cache())
