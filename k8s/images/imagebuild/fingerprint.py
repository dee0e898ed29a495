"""What decides an image, as one hash: the same hash, and nothing has to be built."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

# Made by running or building; never part of an image.
IGNORED = {"__pycache__", "node_modules", "dist", "tests", ".vite"}


def files_of(root: Path, sources: Iterable[str]) -> Iterator[Path]:
    """The files of these files and folders, sorted. Raises FileNotFoundError for a source that is missing."""
    for source in sources:
        path = root / source
        if not path.exists():
            raise FileNotFoundError(source)
        found = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in found:
            if file.is_file() and not IGNORED & set(file.relative_to(path).parts) and file.suffix != ".pyc":
                yield file


def fingerprint(root: Path, sources: Iterable[str], facts: Mapping[str, str]) -> str:
    """A hash of files (name, right to be run, content) and of named facts."""
    digest = hashlib.sha256()
    for name, fact in sorted(facts.items()):
        digest.update(f"{name}={fact}\0".encode())
    for file in files_of(root, sources):
        body = file.read_bytes()
        runs = bool(file.stat().st_mode & 0o100)
        digest.update(f"{file.relative_to(root).as_posix()}\0{runs}\0{len(body)}\0".encode())
        digest.update(body)
    return digest.hexdigest()[:24]
