"""Images in the cluster: its own two, and the loading of archives, which skips what is there already."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster.errors import ClusterError, CommandFailed
from localcluster.places import system_program

NAMESPACE = "k8s.io"
REF_NAME = "org.opencontainers.image.ref.name"


class NotAnImage(ClusterError):
    """A file is no OCI archive with a name."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(
            f"{file} is no OCI archive that carries its name ({reason}); make one with "
            "`buildah push NAME oci-archive:FILE:NAME`"
        )


@dataclass(frozen=True, slots=True)
class OwnImage:
    """An image with one static program and nothing else."""

    name: str
    program: str
    entrypoint: str

    @property
    def archive(self) -> str:
        """The archive's file name."""
        return f"{self.program}.tar"

    def dockerfile(self) -> str:
        """How it is made."""
        return f'FROM scratch\nCOPY program {self.entrypoint}\nUSER 65532:65532\nENTRYPOINT ["{self.entrypoint}"]\n'


PAUSE = OwnImage("localhost/pause:dev", "pause", "/pause")
COREDNS = OwnImage("localhost/coredns:dev", "coredns", "/coredns")


def own_images() -> tuple[OwnImage, ...]:
    """What the cluster itself needs."""
    return (PAUSE, COREDNS)


@dataclass(frozen=True, slots=True)
class Archived:
    """An image in an archive: its name and the digest of its manifest."""

    name: str
    digest: str


def read_archive(file: Path) -> Archived:
    """What an OCI archive holds. Raises NotAnImage."""
    try:
        with tarfile.open(file) as archive:
            member = archive.extractfile("index.json")
            if member is None:
                raise NotAnImage(file, "index.json is no file")
            manifest = json.load(member)["manifests"][0]
            return Archived(str(manifest["annotations"][REF_NAME]), str(manifest["digest"]))
    except (OSError, tarfile.TarError, ValueError, KeyError, IndexError) as error:
        raise NotAnImage(file, f"{type(error).__name__}: {error}") from error


def parse_listing(listing: str) -> dict[str, str]:
    """Name to digest, from what `ctr images ls` prints."""
    rows = [line.split() for line in listing.splitlines()[1:]]
    return {row[0]: row[2] for row in rows if len(row) > 2}


class ImageStore:
    """The images that the cluster's containerd has."""

    def __init__(self, socket: Path) -> None:
        self._ctr = (str(system_program("ctr")), f"--address={socket}", f"--namespace={NAMESPACE}")

    def known(self) -> dict[str, str]:
        """Name to digest."""
        return parse_listing(self._run("images", "ls"))

    def load(self, files: Sequence[Path]) -> list[tuple[Archived, bool]]:
        """Import archives; for each, what it is and whether it was imported now. Raises ClusterError."""
        known = self.known()
        loaded = []
        for file in files:
            image = read_archive(file)
            changed = known.get(image.name) != image.digest
            if changed:
                self._run("images", "import", "--snapshotter=overlayfs", str(file))
            loaded.append((image, changed))
        return loaded

    def remove_containers(self) -> None:
        """End every container and forget it."""
        running = [line for line in self._run("tasks", "ls", "-q").split() if line]
        if running:
            self._run("tasks", "rm", "--force", *running, may_fail=True)
        known = [line for line in self._run("containers", "ls", "-q").split() if line]
        if known:
            self._run("containers", "rm", *known, may_fail=True)

    def _run(self, *arguments: str, may_fail: bool = False) -> str:
        done = subprocess.run([*self._ctr, *arguments], capture_output=True, text=True)
        if done.returncode != 0 and not may_fail:
            raise CommandFailed(f"ctr {' '.join(arguments)}", done.returncode, done.stderr or done.stdout)
        return done.stdout
