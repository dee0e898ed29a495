"""Builds everything the cluster consists of, once: what was built from the same sources is not built again.

Each product has a key beside it, a hash of what decides it (sources, versions, flags, the Go compiler); a product
whose key is the wanted one is left alone. A product appears whole under its name or not at all.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from localcluster import packages
from localcluster.errors import ClusterError, CommandFailed
from localcluster.go_tools import COMPONENTS, KUBE_LDFLAGS, TOOLS, GoTool
from localcluster.images import own_images
from localcluster.places import SOURCE, Places, system_program

Tell = Callable[[str], None]


class WrongChecksum(ClusterError):
    """A module is not the one that was chosen."""

    def __init__(self, module: str, found: str, wanted: str) -> None:
        super().__init__(f"{module} has the checksum {found}, not {wanted}: do not use it; ask who replaced it")


def key_of(facts: Mapping[str, str], files: Iterable[Path] = ()) -> str:
    """One hash of named facts and files' names and contents."""
    digest = hashlib.sha256()
    for name, fact in sorted(facts.items()):
        digest.update(f"{name}={fact}\0".encode())
    for file in sorted(files):
        body = file.read_bytes()
        digest.update(f"{file.name}\0{len(body)}\0".encode())
        digest.update(body)
    return digest.hexdigest()[:24]


class Build:
    """One run of the build."""

    def __init__(self, places: Places, tell: Tell) -> None:
        self.places = places
        self._tell = tell
        self._go_version = ""

    def all(self) -> None:
        """Packages, programs, images. Raises ClusterError."""
        began = time.monotonic()
        self.places.cache.mkdir(parents=True, exist_ok=True)
        with (self.places.cache / "build.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # A second build waits, and then finds everything done.
            packages.install(self._tell)
            self.kube()
            for tool in TOOLS:
                self.tool(tool)
            self.pause()
            self.images()
        self._tell(f"everything is there after {time.monotonic() - began:.0f} s")

    def kube(self) -> None:
        """The one binary of all Kubernetes programs, and their names."""
        source = SOURCE / "kube"
        files = [*source.glob("*.go"), source / "go.mod", source / "go.sum"]
        key = key_of({"go": self._go(), "flags": KUBE_LDFLAGS}, files)
        self._product("kube", key, lambda out: self._compile(source, ".", out, KUBE_LDFLAGS, {}))
        for name in COMPONENTS:
            link = self.places.bin / name
            if not link.is_symlink():
                link.unlink(missing_ok=True)
                link.symlink_to("kube")

    def tool(self, tool: GoTool) -> None:
        """A program of somebody else's module, compiled where the module cache has it, by its own go.sum."""
        key = key_of({"go": self._go(), "tool": repr(tool)})

        def make(out: Path) -> None:
            source = self._module(tool)
            self._compile(source, tool.package, out, tool.ldflags, {"CGO_ENABLED": "0"})
            if tool.stages:
                texts = [
                    file.read_text() for folder in tool.stages for file in sorted((source / folder).glob("*.yaml"))
                ]
                stages = "\n---\n".join(text for text in texts if "kind: Stage" in text)
                (self.places.bin / f"{tool.name}-stages.yaml").write_text(stages)

        self._product(tool.name, key, make)

    def pause(self) -> None:
        """The first process of every pod."""
        source = SOURCE / "pause"
        key = key_of({"go": self._go()}, [source / "main.go", source / "go.mod"])
        self._product("pause", key, lambda out: self._compile(source, ".", out, "", {"CGO_ENABLED": "0"}))

    def images(self) -> None:
        """The cluster's own images as OCI archives."""
        self.places.images.mkdir(parents=True, exist_ok=True)
        for image in own_images():
            program = self.places.program(image.program)
            key = key_of({"name": image.name, "program": program.with_name(f".{image.program}.key").read_text(),
                          "dockerfile": image.dockerfile()})  # fmt: skip

            def make(
                out: Path, dockerfile: str = image.dockerfile(), name: str = image.name, at: Path = program
            ) -> None:
                _bake(out, dockerfile, name, at)

            self._product(image.archive, key, make, self.places.images)

    def _go(self) -> str:
        if not self._go_version:
            self._go_version = _run([str(system_program("go")), "env", "GOVERSION"]).strip()
        return self._go_version

    def _module(self, tool: GoTool) -> Path:
        env = {"GOFLAGS": "-mod=mod"}
        answer = json.loads(
            _run([str(system_program("go")), "mod", "download", "-json", tool.reference], env=env, cwd="/")
        )
        if answer["Sum"] != tool.checksum:
            raise WrongChecksum(tool.reference, answer["Sum"], tool.checksum)
        return Path(answer["Dir"])

    def _compile(self, source: Path, package: str, out: Path, ldflags: str, env: Mapping[str, str]) -> None:
        command = ["nice", "-n", "5", str(system_program("go")), "build", "-mod=readonly", "-trimpath",
                   "-buildvcs=false", "-ldflags", f"-s -w {ldflags}".strip(), "-o", str(out), package]  # fmt: skip
        _run(command, env={**env, "GOFLAGS": "", "GOWORK": "off"}, cwd=str(source))

    def _product(self, name: str, key: str, make: Callable[[Path], None], folder: Path | None = None) -> None:
        target = (folder or self.places.bin) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        kept = target.with_name(f".{name}.key")
        if target.exists() and kept.exists() and kept.read_text() == key:
            self._tell(f"{name}: unchanged")
            return
        self._tell(f"{name}: building")
        began = time.monotonic()
        draft = target.with_name(f".{name}.new")
        draft.unlink(missing_ok=True)
        make(draft)
        kept.unlink(missing_ok=True)
        draft.replace(target)
        kept.write_text(key)
        self._tell(f"{name}: built in {time.monotonic() - began:.0f} s, {target.stat().st_size / 1e6:.0f} MB")


def _bake(out: Path, dockerfile: str, name: str, program: Path) -> None:
    """An image of one program, by buildah with a store of its own that is thrown away."""
    buildah = str(system_program("buildah"))
    with tempfile.TemporaryDirectory(prefix="marketfeed-image-") as folder:
        context = Path(folder) / "context"
        context.mkdir()
        shutil.copy2(program, context / "program")
        (context / "Dockerfile").write_text(dockerfile)
        store = [buildah, "--storage-driver=vfs", f"--root={folder}/store", f"--runroot={folder}/run"]
        _run([*store, "bud", "--isolation=chroot", "--timestamp=0", "--tag", name, str(context)])
        _run([*store, "push", name, f"oci-archive:{out}:{name}"])


def _run(command: list[str], env: Mapping[str, str] | None = None, cwd: str | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(env or {})}, cwd=cwd)
    if done.returncode != 0:
        raise CommandFailed(" ".join(command), done.returncode, done.stderr or done.stdout)
    return done.stdout
