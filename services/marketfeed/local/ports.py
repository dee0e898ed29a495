"""Ports of the local servers: asked from the operating system once, remembered, and used again while they are free.

A port that another program has taken in between is replaced by a new one; nothing but the addresses that are printed
depends on the number.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from pathlib import Path

HOST = "127.0.0.1"


def is_free(port: int, host: str = HOST) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def choose(names: Sequence[str], remembered: Path) -> dict[str, int]:
    """A free port for each name, the remembered one if that is free; the choice is written to the file `remembered`."""
    known: dict[str, int] = {}
    if remembered.exists():
        known = {str(name): int(port) for name, port in json.loads(remembered.read_text()).items()}
    chosen = {name: known[name] for name in names if name in known and is_free(known[name])}
    probes = []
    for name in names:
        if name not in chosen:
            probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            probe.bind((HOST, 0))
            probes.append(probe)  # All stay bound until the end, so that no two names get the same port.
            chosen[name] = probe.getsockname()[1]
    for probe in probes:
        probe.close()
    remembered.write_text(json.dumps({**known, **chosen}, indent=1) + "\n")
    return chosen
