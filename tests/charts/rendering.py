"""Runs `helm template` on the charts of this tree and reads what comes out."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("MARKETFEED_CACHE", Path.home() / ".cache" / "marketfeed"))

Object = dict[str, Any]


class Refused(Exception):
    """The chart does not take these values; the message is helm's."""


def program(name: str) -> str:
    """The path of a program, on PATH or where `make cluster` and `make images-extra` put it; else the test fails."""
    places = [CACHE / "cluster" / "bin", *sorted((CACHE / "programs").glob("*"))]
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, places)))
    assert found, f"{name} is missing; `make cluster` builds helm and kubectl, Debian's package prometheus has promtool"
    return found


def template(chart: str, values: Object | None = None, *options: str, release: str = "r") -> list[Object]:
    """The objects that the chart makes of the values, in the namespace md. Raises Refused."""
    done = subprocess.run(
        [program("helm"), "template", release, str(ROOT / "charts" / chart), "--namespace", "md", "-f", "-", *options],
        input=yaml.safe_dump(values or {}), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Refused(done.stderr)
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def only(objects: list[Object], kind: str, name_ends: str = "") -> Object:
    """The one object of that kind whose name ends so."""
    (found,) = (one for one in objects if one["kind"] == kind and one["metadata"]["name"].endswith(name_ends))
    return found
