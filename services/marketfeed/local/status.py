"""What the demo knows of its processes: their /status, CPU and memory, gathered into rows for people."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from marketfeed.client.http import HttpClient
from marketfeed.domain.errors import Unavailable
from marketfeed.local.children import Child
from marketfeed.local.ports import HOST
from marketfeed.local.supervision import Supervised
from marketfeed.local.usage import Meter, Usage


@dataclass(frozen=True, slots=True)
class Row:
    """One process of the demo. `rate` is trades (for mds messages) per second; absent values are None."""

    name: str
    state: str
    rate: float | None
    lag_s: float | None
    facts: Mapping[str, float]
    usage: Usage
    restarts: int


@dataclass(slots=True)
class Observer:
    """Looks at services and servers; keeps the CPU time of each over restarts."""

    services: list[Supervised]
    servers: list[Child]
    http: HttpClient
    _meters: dict[str, Meter] = field(default_factory=dict)

    async def rows(self) -> list[Row]:
        """One row for each process, services first."""
        answers = await asyncio.gather(*(self.status(service) for service in self.services))
        rows = [self._service_row(service, answer) for service, answer in zip(self.services, answers, strict=True)]
        return rows + [self._server_row(server) for server in self.servers]

    async def status(self, service: Supervised) -> dict[str, Any] | None:
        """The service's /status, None while it does not answer."""
        if (port := service.http_port) is None:
            return None
        try:
            answer = await self.http.get(f"http://{HOST}:{port}/status")
        except Unavailable:
            return None
        return answer if isinstance(answer, dict) else None

    def _service_row(self, service: Supervised, answer: dict[str, Any] | None) -> Row:
        child = service.child
        alive = child is not None and child.alive
        usage = self._meter(service.name).read(child.pid if child is not None and alive else None)
        return Row(
            name=service.name,
            state=_state(alive, service.http_port is not None, answer),
            rate=_number(answer, "rate"),
            lag_s=_number(answer, "lag_s"),
            facts={name: value for name in FACTS if (value := _number(answer, name)) is not None},
            usage=usage,
            restarts=service.restarts,
        )

    def _server_row(self, server: Child) -> Row:
        usage = self._meter(server.name).read(server.pid if server.alive else None)
        return Row(server.name, "running" if server.alive else "dead", None, None, {}, usage, 0)

    def _meter(self, name: str) -> Meter:
        return self._meters.setdefault(name, Meter())


# Numbers of /status that a person wants to see, beside rate and lag.
FACTS = ("bars_per_s", "clients", "dropped", "spool_bytes", "gaps", "quarantined", "working", "suspended")


def _state(alive: bool, listening: bool, answer: dict[str, Any] | None) -> str:
    if not alive:
        return "restarting"
    if answer is None:
        return "busy, no answer" if listening else "starting"
    if answer.get("ready"):
        return "ready"
    waiting = answer.get("waiting_for") or {}
    return "waits: " + "; ".join(f"{part} {why}".strip() for part, why in waiting.items()) if waiting else "starting"


def _number(answer: dict[str, Any] | None, name: str) -> float | None:
    value = (answer or {}).get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
