"""Runs the programs that builds need; what they say is kept in a log and shown when they fail."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

TIMEOUT_S = 900.0
LAST_LINES = 15


class BuildFailed(Exception):
    """A program failed or is missing; the message is for the person who asked for the build."""


def need(program: str, package: str) -> str:
    """The path of a program. Raises BuildFailed naming the Debian package that has it."""
    found = shutil.which(program)
    if found is None:
        raise BuildFailed(f"{program} is missing; install it: apt-get install {package}")
    return found


def run(
    argv: Sequence[str | Path], log: Path, *, env: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S
) -> str:
    """Run to the end; its standard output. Both outputs go to `log`. Raises BuildFailed with the last lines."""
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            [str(part) for part in argv],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env={**os.environ, **(env or {})},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildFailed(f"{argv[0]} did not end within {timeout_s:.0f} s") from error
    log.write_text(f"{done.stdout}\n{done.stderr}")
    if done.returncode != 0:
        lines = (done.stdout + "\n" + done.stderr).strip().splitlines()[-LAST_LINES:]
        raise BuildFailed("\n".join([f"{Path(str(argv[0])).name} failed; the whole of it is in {log}:", *lines]))
    return done.stdout
