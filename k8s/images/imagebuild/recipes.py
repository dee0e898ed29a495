"""What each image is made of. Pure: names, paths and arguments; `ingredients` knows how to come by the parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

REGISTRY = "localhost"
TAG = "dev"
BASE = "marketfeed-base"
TOOLCHAIN = "marketfeed-toolchain"
POSTGRES_MAJOR = "18"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One image.

    dockerfile  its path in the repository
    sources     files and folders of the repository that are in it; none: the Dockerfile's own folder
    parts       where in the build's context an ingredient goes; with parts, or without sources, the context is a
                folder of its own, else it is the repository
    bases       build argument: image that it is made from
    arguments   further build arguments
    mounts      folder in the build: ingredient, for what builds read and leave out of the image
    internal    only other images are made from it: no archive
    """

    name: str
    dockerfile: str
    sources: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)
    bases: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
    mounts: Mapping[str, str] = field(default_factory=dict)
    internal: bool = False


_PYTHON = {"PYTHON_IMAGE": BASE, "BUILD_IMAGE": TOOLCHAIN}
_DOWNLOADS = {"/etc/uv": "uv-settings", "/var/cache/uv": "uv-cache", "/etc/ssl/certs": "certificates"}
_CA = "/etc/ssl/certs/ca-certificates.crt"
_UV = "--system-certs --cache-dir /var/cache/uv --link-mode copy"

RECIPES: tuple[Recipe, ...] = (
    Recipe(name=BASE, dockerfile="k8s/images/base/Dockerfile", parts={"rootfs.tar": "rootfs"}, internal=True),
    Recipe(
        name=TOOLCHAIN,
        dockerfile="k8s/images/toolchain/Dockerfile",
        parts={"uv": "uv", "node": "node"},
        bases={"BASE": BASE},
        internal=True,
    ),
    Recipe(
        name="marketfeed",
        dockerfile="services/Dockerfile",
        sources=(
            ".dockerignore", "LICENSE", "README.md", "pyproject.toml", "requirements/bootstrap.txt",
            "requirements/build.txt", "requirements/services.txt", "services/marketfeed", "services/ui",
        ),
        bases={**_PYTHON, "NODE_IMAGE": TOOLCHAIN},
        arguments={"UV_OPTIONS": _UV, "NPM_OPTIONS": f"--cafile {_CA} --cache /var/cache/npm --prefer-offline"},
        mounts={**_DOWNLOADS, "/var/cache/npm": "npm-cache", "/opt/node/etc": "npm-settings"},
    ),
    Recipe(
        name="marketfeed-operator",
        dockerfile="operator/Dockerfile",
        sources=(
            ".dockerignore", "requirements/bootstrap.txt", "requirements/operator.txt",
            "operator/marketfeed_operator", "services/marketfeed/__init__.py", "services/marketfeed/domain",
        ),
        bases=_PYTHON,
        arguments={"UV_OPTIONS": _UV},
        mounts=_DOWNLOADS,
    ),
    Recipe(
        name="kafka",
        dockerfile="k8s/images/kafka/Dockerfile",
        parts={"java": "java", "libs": "kafka-jars"},
        bases={"BASE": BASE},
    ),
    Recipe(
        name="valkey",
        dockerfile="k8s/images/valkey/Dockerfile",
        parts={"valkey-server": "valkey-server", "tools": "debian:redis-tools"},
        bases={"BASE": BASE},
    ),
    Recipe(
        name="postgres",
        dockerfile="k8s/images/postgres/Dockerfile",
        parts={"pginstall": "postgres", "libs": "postgres-libs"},
        bases={"BASE": BASE},
        arguments={"MAJOR": POSTGRES_MAJOR},
    ),
)  # fmt: skip


def reference(name: str) -> str:
    """The name that pods use."""
    return f"{REGISTRY}/{name}:{TAG}"


def binary(name: str) -> Recipe:
    """An image that holds one static program, given as the ingredients `program` and `files`."""
    return Recipe(
        name=name,
        dockerfile="k8s/images/binary/Dockerfile",
        parts={"program": "program", "files": "files"},
        arguments={"NAME": name},
    )


def wanted(names: Sequence[str], recipes: Sequence[Recipe] = RECIPES) -> list[Recipe]:
    """The recipes of these images (none: all) and of what they are made from, in the order to build them.

    Raises KeyError with a name that there is no recipe of.
    """
    by_name = {recipe.name: recipe for recipe in recipes}
    chosen: dict[str, Recipe] = {}

    def add(name: str) -> None:
        recipe = by_name[name]
        for base in recipe.bases.values():
            add(base)
        chosen.setdefault(name, recipe)

    for name in names or by_name:
        add(name)
    return list(chosen.values())
