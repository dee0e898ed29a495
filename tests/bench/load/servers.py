"""The servers that are compared: how each is started, and what the load client must speak."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.load.scenario import FEED_MS, NAMES, TRADES_PER_BEAT, quote_template

SOURCE = Path(__file__).parent / "centrifuge"


@dataclass(frozen=True)
class Server:
    """`command` begins a server with turns of so many milliseconds; raises Missing if it cannot be had here."""

    name: str
    dialect: str
    path: str
    command: Callable[[int], list[str]]


class Missing(Exception):
    """A peer that this machine cannot run, and why."""


def _python(module: str) -> Callable[[int], list[str]]:
    return lambda tick_ms: [sys.executable, "-m", f"tests.bench.load.{module}", "--tick-ms", str(tick_ms)]


def centrifuge_program() -> Path:
    """The peer in Go, built once for each state of its source, below MARKETFEED_CACHE or the user's cache folder."""
    sources = sorted(path for path in SOURCE.iterdir() if path.is_file())
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    base = os.environ.get("MARKETFEED_CACHE") or Path.home() / ".cache" / "marketfeed"
    program = Path(base) / "bench" / f"centrifuge-{digest}"
    if program.exists():
        return program
    if shutil.which("go") is None:
        raise Missing("there is no Go here")
    program.parent.mkdir(parents=True, exist_ok=True)
    build = ["go", "build", "-trimpath", "-buildvcs=false", "-o", str(program), "."]
    env = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=readonly"}
    subprocess.run(build, check=True, cwd=SOURCE, env=env, timeout=600)
    return program


def _centrifuge(*options: str) -> Callable[[int], list[str]]:
    def command(tick_ms: int) -> list[str]:
        feed = ["-feed-ms", str(FEED_MS), "-trades-per-beat", str(TRADES_PER_BEAT)]
        scenario = ["-tick-ms", str(tick_ms), *feed, "-symbols", ",".join(NAMES), "-quote", quote_template()]
        return [str(centrifuge_program()), *scenario, *options]

    return command


MARKETFEED = Server("marketfeed", "marketfeed", "/v1/stream", _python("marketfeed_server"))
WEBSOCKETS = Server("websockets", "websockets", "/", _python("websockets_server"))
CENTRIFUGE = Server("centrifuge", "centrifuge", "/connection/websocket", _centrifuge())
CENTRIFUGE_LIBRARY = Server(
    "centrifuge/latest", "centrifuge", "/connection/websocket", _centrifuge("-conflate", "library")
)
CENTRIFUGE_FRUGAL = Server("centrifuge/frugal", "centrifuge", "/connection/websocket", _centrifuge("-frugal"))
