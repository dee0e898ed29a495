"""The operator's own pages: /healthz (should this process be restarted), /readyz (could it work), /metrics, /status.

A replica is ready while the API server answers it about the Lease, whether it leads or waits, and not healthy when that
has failed for long: one that waits in vain would be missed only when it is needed. The one that works is not healthy
when a watch is silent for longer than bookmarks allow, when a namespace has not been seen whole for long, when the
queue is stuck, or when it holds a Lease that it has not renewed: each of them is a freeze that no error shows.
A namespace that may not be read is told by metric and log; it fails the probe only when there is no other.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import REGISTRY, generate_latest

from marketfeed_operator import metrics
from marketfeed_operator.cluster_errors import OperatorSettingError

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Vital:
    """What health is judged by. Ages are seconds; a replica that does not lead has no watches and no queue.

    `reached`: the API server answered about the Lease at least once; `contact_age_s`: the time since it last did.
    `blind_s`: for each namespace the time since it was last seen whole; `unreadable`: which may not be read, and why.
    """

    leading: bool = False
    reached: bool = True
    contact_age_s: float = 0.0
    renewal_age_s: float = 0.0
    watch_ages_s: Mapping[str, float] = field(default_factory=dict)
    queue_oldest_s: float = 0.0
    blind_s: Mapping[str, float] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """Beyond these a process is not healthy, beyond `contact_ready_s` not ready."""

    contact_ready_s: float
    contact_dead_s: float
    renewal_s: float
    watch_s: float
    queue_s: float
    blind_s: float


def troubles(vital: Vital, limits: Limits) -> list[str]:
    """Sentences that say why the process should be restarted; none if it is healthy. Pure."""
    found = [] if vital.contact_age_s <= limits.contact_dead_s else [_no_contact(vital)]
    if not vital.leading:
        return found
    found += [
        f"the watch of {kind} has said nothing for {age_s:.0f} s"
        for kind, age_s in sorted(vital.watch_ages_s.items())
        if age_s > limits.watch_s
    ]
    found += [
        f"{namespace} has not been watched whole for {age_s:.0f} s" + _because(vital.unreadable.get(namespace))
        for namespace, age_s in sorted(vital.blind_s.items())
        if age_s > limits.blind_s
    ]
    if vital.queue_oldest_s > limits.queue_s:
        found.append(f"a MarketFeed has waited for a worker for {vital.queue_oldest_s:.0f} s")
    if vital.renewal_age_s > limits.renewal_s:
        found.append(f"the Lease was not renewed for {vital.renewal_age_s:.0f} s but is treated as held")
    return found


def lacks(vital: Vital, limits: Limits) -> list[str]:
    """Sentences that say why the process is not ready to work; none if it is. Pure."""
    return [_no_contact(vital)] if not vital.reached or vital.contact_age_s > limits.contact_ready_s else []


def _no_contact(vital: Vital) -> str:
    return f"the API server has not answered about the Lease for {vital.contact_age_s:.0f} s"


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""


class HealthServer:
    """Serves the pages. `vital` is asked at each request; `open` is whether the process takes on work at all."""

    def __init__(self, vital: Callable[[], Vital], limits: Limits, status: Callable[[], Mapping[str, object]]) -> None:
        self._vital = vital
        self._limits = limits
        self._status = status
        self.open = False
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises OperatorSettingError if it is taken."""
        app = web.Application()
        pages: dict[str, Answer] = {
            "/healthz": self._healthz, "/readyz": self._readyz, "/metrics": self._metrics, "/status": self._state,
        }  # fmt: skip
        app.add_routes([web.get(path, answer) for path, answer in pages.items()])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            raise OperatorSettingError(
                "MARKETFEED_OPERATOR_HTTP_PORT", f"cannot be used: {host}:{port}: {error.strerror}; choose another"
            ) from error
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _healthz(self, _: web.Request) -> web.Response:
        found = troubles(self._vital(), self._limits)
        return _json(503 if found else 200, {"ok": not found, "troubles": found})

    async def _readyz(self, _: web.Request) -> web.Response:
        found = lacks(self._vital(), self._limits)
        ready = self.open and not found
        return _json(200 if ready else 503, {"ready": ready, "troubles": found})

    async def _metrics(self, _: web.Request) -> web.Response:
        vital = self._vital()
        metrics.QUEUE_OLDEST_S.set(vital.queue_oldest_s)
        metrics.WATCH_AGE_S.clear()  # a replica that does not lead any more watches nothing
        for kind, age_s in vital.watch_ages_s.items():
            metrics.WATCH_AGE_S.labels(kind).set(age_s)
        metrics.NAMESPACES_UNREADABLE.set(len(vital.unreadable))
        return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def _state(self, _: web.Request) -> web.Response:
        return _json(200, dict(self._status()))


def _json(status: int, body: object) -> web.Response:
    return web.Response(status=status, text=json.dumps(body, default=str), content_type="application/json")
