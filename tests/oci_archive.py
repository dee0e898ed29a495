"""Reads an OCI archive as its user would find it: the configuration, and the files after all layers."""

from __future__ import annotations

import json
import posixpath
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

WHITEOUT = ".wh."


@dataclass(frozen=True, slots=True)
class Image:
    """`config`: User, Env, Entrypoint, Labels …; `files`: what is at each absolute path, links not followed."""

    name: str
    config: dict[str, Any]
    files: dict[str, tarfile.TarInfo]


def read_archive(path: Path) -> Image:
    """The one image of an archive."""
    with tarfile.open(path) as archive:

        def blob(digest: str) -> bytes:
            found = archive.extractfile("blobs/" + digest.replace(":", "/"))
            assert found is not None
            return found.read()

        index = archive.extractfile("index.json")
        assert index is not None
        (described,) = json.loads(index.read())["manifests"]
        manifest = json.loads(blob(described["digest"]))
        files: dict[str, tarfile.TarInfo] = {}
        for layer in manifest["layers"]:
            layer_file = archive.extractfile("blobs/" + layer["digest"].replace(":", "/"))
            assert layer_file is not None
            with tarfile.open(fileobj=layer_file) as members:
                _apply(files, members)
        config = cast("dict[str, Any]", json.loads(blob(manifest["config"]["digest"]))["config"])
    return Image(described["annotations"]["org.opencontainers.image.ref.name"], config, files)


def _apply(files: dict[str, tarfile.TarInfo], layer: tarfile.TarFile) -> None:
    """One layer on top of those before: additions, and the marks of what is gone."""
    for member in layer:
        path = posixpath.normpath("/" + member.name)
        folder, name = posixpath.split(path)
        if name.startswith(WHITEOUT):
            gone = posixpath.join(folder, name.removeprefix(WHITEOUT))
            for known in [known for known in files if known == gone or known.startswith(gone + "/")]:
                del files[known]
        else:
            files[path] = member
