"""Builds images with buildah, without an engine or a registry, and keeps each as an OCI archive in the cache.

An image is built again only when what decides it has changed: its Dockerfile, its sources, its ingredients, or an image
that it is made from. Layers are shared and cached by buildah in a store of its own below the cache.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from imagebuild.fingerprint import fingerprint
from imagebuild.ingredients import Pantry
from imagebuild.programs import BuildFailed, need, run
from imagebuild.recipes import Recipe, reference, wanted


@dataclass(frozen=True, slots=True)
class Built:
    """An image in the cache: its archive, what decided it, its size on disk and the time that the build took."""

    name: str
    archive: str
    key: str
    bytes: int
    seconds: float
    changed: bool = False


class Builder:
    """Builds the images of the repository at `root`; `say` gets a sentence for what takes time."""

    def __init__(self, root: Path, cache: Path, say: Callable[[str], None], pantry: Pantry | None = None) -> None:
        self._root = root
        self._cache = cache
        self._say = say
        self._pantry = pantry or Pantry(root, cache)
        self._keys: dict[str, str] = {}

    def build(self, recipes: list[Recipe]) -> list[Built]:
        """Build what changed, in this order; two builders of one cache wait for each other.

        Raises BuildFailed; KeyError when a base comes after its image.
        """
        self._cache.mkdir(parents=True, exist_ok=True)
        with (self._cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return [self._build(recipe) for recipe in recipes]

    def storage(self) -> list[str]:
        """buildah's options for a store that is ours alone."""
        return ["--root", str(self._cache / "store"), "--runroot", str(self._cache / "store-run")]

    def _build(self, recipe: Recipe) -> Built:
        key = self._keys[recipe.name] = self._key(recipe)
        record = self._cache / "archives" / f"{recipe.name}.json"
        archive = record.with_suffix(".tar")
        if record.exists() and (recipe.internal or archive.exists()):
            before = Built(**{**json.loads(record.read_text()), "changed": False})
            if before.key == key:
                return before
        begun_s = time.monotonic()
        self._say(f"building {recipe.name}")
        record.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._bud(recipe)
        except BuildFailed:
            # What a failed build worked in stays mounted; nobody else has containers in this store.
            run([need("buildah", "buildah"), *self.storage(), "rm", "--all"], self._cache / "logs" / "clean-up.log")
            raise
        if not recipe.internal:
            self._push(recipe.name, archive)
        size = archive.stat().st_size if archive.exists() else 0
        built = Built(recipe.name, str(archive), key, size, round(time.monotonic() - begun_s, 1), True)
        record.write_text(json.dumps(asdict(built)))
        return built

    def _key(self, recipe: Recipe) -> str:
        facts = {f"part {where}": self._pantry.key(name) for where, name in recipe.parts.items()}
        facts |= {f"base {argument}": self._keys[name] for argument, name in recipe.bases.items()}
        facts |= {f"argument {name}": value for name, value in recipe.arguments.items()}
        sources = recipe.sources or (str(Path(recipe.dockerfile).parent),)
        return fingerprint(self._root, (recipe.dockerfile, *sources), facts)

    def _bud(self, recipe: Recipe) -> None:
        command: list[str | Path] = [need("buildah", "buildah"), *self.storage(), "bud", "--isolation", "chroot"]
        command += ["--format", "docker", "--layers", "--pull-never", "-t", reference(recipe.name)]
        arguments = {name: reference(base) for name, base in recipe.bases.items()} | dict(recipe.arguments)
        if recipe.sources:
            arguments |= {"REVISION": revision(self._root), "VERSION": version(self._root)}
        for name, value in arguments.items():
            command += ["--build-arg", f"{name}={value}"]
        for where, name in recipe.mounts.items():
            mode = "rw" if name.endswith("-cache") else "ro"
            command += ["--volume", f"{self._pantry.get(name)}:{where}:{mode}"]
        context = self._root if recipe.sources else self._assemble(recipe)
        run([*command, "-f", self._root / recipe.dockerfile, context], self._cache / "logs" / f"{recipe.name}.log")

    def _assemble(self, recipe: Recipe) -> Path:
        """A context of the Dockerfile's own folder and the parts."""
        context = self._cache / "contexts" / recipe.name
        shutil.rmtree(context, ignore_errors=True)
        shutil.copytree((self._root / recipe.dockerfile).parent, context)
        for where, name in recipe.parts.items():
            _link(self._pantry.get(name), context / where)
        return context

    def _push(self, name: str, archive: Path) -> None:
        """The image as one file. Uncompressed: it is read once, on this machine."""
        fresh = archive.with_suffix(".next")
        fresh.unlink(missing_ok=True)
        target = f"oci-archive:{fresh}:{reference(name)}"
        command = [need("buildah", "buildah"), *self.storage(), "push", "--disable-compression"]
        run([*command, reference(name), target], self._cache / "logs" / f"{name}-archive.log")
        fresh.replace(archive)


def _link(source: Path, target: Path) -> None:
    """A file or tree by hard links where the file system can, else a copy."""
    if source.is_file():
        _link_file(str(source), str(target))
    else:
        shutil.copytree(source, target, symlinks=True, copy_function=_link_file)


def _link_file(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def revision(root: Path) -> str:
    """The commit that is built, marked when the tree differs from it; `unknown` outside a clone."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def version(root: Path) -> str:
    """The version that pyproject.toml says."""
    lines = (root / "pyproject.toml").read_text().splitlines()
    return next(line.split('"')[1] for line in lines if line.startswith("version = "))


def default_cache() -> Path:
    """Where images are kept: below MARKETFEED_CACHE, or the user's cache folder."""
    home = os.environ.get("MARKETFEED_CACHE") or Path.home() / ".cache" / "marketfeed"
    return Path(home) / "images"


def buildable(root: Path) -> list[Recipe]:
    """The recipes whose sources are all there."""
    return [r for r in wanted(()) if all((root / source).exists() for source in r.sources)]
