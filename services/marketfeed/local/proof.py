"""A run of known length and its proof: load, stop, wait until everything is stored, compare, show the figures.

The comparison is `marketfeed verify`, a process of its own that reads Kafka, PostgreSQL and Redis and the generator's
manifest; its exit code is the run's. Latency is measured during the run by `marketfeed.local.probe`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from marketfeed.client.http import HttpClient
from marketfeed.domain.errors import Unavailable
from marketfeed.local.children import Child, ChildDied, Children, Program
from marketfeed.local.probe import Latency
from marketfeed.local.run_plan import RunPlan
from marketfeed.local.stack import Addresses
from marketfeed.local.status import Observer, Row
from marketfeed.local.status_table import StatusView, cpu_table, latency_table
from marketfeed.prepare.steps import delete_topics
from marketfeed.runtime.tasks import stopped_within

READY_S = 120.0
STORED_S = 120.0
VERIFY_S = 600.0
LOOK_S = 0.25
# The busiest symbols: enough connections' worth of quotes for a p99, and what people look at.
PROBED_SYMBOLS_MAX = 50


@dataclass(frozen=True, slots=True)
class Proof:
    """One proved run."""

    plan: RunPlan
    state: Path
    addresses: Addresses
    children: Children
    view: StatusView
    http: HttpClient
    observer: Observer
    stopping: asyncio.Event

    async def run(self, duration_s: float) -> int:
        """Run for the time, prove, show the tables; 0 if what was stored equals what was sent, else 1.

        Raises Unavailable if a service does not get ready, or what was sent is not stored in time.
        """
        await self._until("all services are ready", READY_S, self._not_ready)
        probe = await self._start_probe()
        before, began_s = await self.observer.rows(), time.monotonic()
        self.view.say(f"running for {duration_s:.0f} s")
        interrupted = await stopped_within(self.stopping, duration_s)
        after, wall_s = await self.observer.rows(), time.monotonic() - began_s
        latency = await self._stop_probe(probe)
        if interrupted:
            self.view.say("interrupted, so nothing is proved")
            return 1
        await self.http.post(f"{self.plan.generator_url}/stop")
        self.view.say("the generator has stopped; waiting until everything is stored")
        await self._until("everything is stored", STORED_S, self._not_stored)
        code = await self._verify(disturbed=self.plan.faulty or any(row.restarts for row in after))
        if code == 0:
            # A run that is proved is of no further use, and its log is big; one that is not stays to be looked at.
            await delete_topics(self.addresses.kafka, self.plan.feed)
        self.view.result(cpu_table(used_since(before, after), wall_s), latency_table(latency) if latency else None)
        return code

    async def _until(self, what: str, timeout_s: float, missing: Callable[[], Awaitable[str]]) -> None:
        """Look until nothing is missing. Raises Unavailable naming what still is when the time is over."""
        deadline_s = time.monotonic() + timeout_s
        while reason := await missing():
            if time.monotonic() > deadline_s:
                raise Unavailable("the end of the run", what, f"not within {timeout_s:.0f} s: {reason}")
            if await stopped_within(self.stopping, LOOK_S):
                return

    async def _statuses(self) -> dict[str, dict[str, Any] | None]:
        services = self.observer.services
        answers = await asyncio.gather(*(self.observer.status(service) for service in services))
        return {service.name: answer for service, answer in zip(services, answers, strict=True)}

    async def _not_ready(self) -> str:
        return "; ".join(name for name, answer in (await self._statuses()).items() if not (answer or {}).get("ready"))

    async def _not_stored(self) -> str:
        return not_stored(await self._statuses())

    async def _start_probe(self) -> Child:
        result = self._probe_result()
        result.unlink(missing_ok=True)
        symbols = ",".join(self.plan.symbols[:PROBED_SYMBOLS_MAX])
        argv = (sys.executable, "-m", "marketfeed.local.probe", self.plan.stream_url, symbols, str(result))
        return await self.children.start(Program(name="probe", argv=argv, log=self.state / "logs" / "probe.log"))

    async def _stop_probe(self, probe: Child) -> Latency | None:
        await probe.stop()
        return read_latency(self._probe_result())

    def _probe_result(self) -> Path:
        return self.state / "run" / "latency.json"

    async def _verify(self, *, disturbed: bool) -> int:
        """Without faults and deaths nothing may be missing, be it inside a marked gap."""
        variables: dict[str, object] = {"feed": self.plan.feed, "generator_url": self.plan.generator_url}
        if not disturbed:
            variables["lost_max"] = 0
        env = {**os.environ, **self.addresses.env()}
        env |= {f"MARKETFEED_{name.upper()}": str(value) for name, value in variables.items()}
        log = self.state / "logs" / f"verify-{self.plan.feed}.log"
        argv = (sys.executable, "-m", "marketfeed.verify")
        code = 0
        try:
            await self.children.run(Program(name="verify", argv=argv, log=log, env=env), VERIFY_S)
        except ChildDied as died:
            code = 1
            if died.code < 0:
                raise
        self.view.say(await asyncio.to_thread(log.read_text))
        return code


def used_since(before: list[Row], after: list[Row]) -> list[Row]:
    """The rows of `after` with the CPU time since `before`."""
    used = {row.name: row.usage.cpu_s for row in before}
    return [replace(row, usage=replace(row.usage, cpu_s=row.usage.cpu_s - used.get(row.name, 0.0))) for row in after]


def read_latency(path: Path) -> Latency | None:
    """What the probe wrote; None if it wrote nothing."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Latency)
    except (OSError, msgspec.DecodeError):
        return None


def not_stored(statuses: Mapping[str, Mapping[str, Any] | None]) -> str:
    """What is still on its way after the generator has stopped, in words; empty when everything is stored."""
    waiting = []
    for name, status in statuses.items():
        if status is None:
            waiting.append(f"{name} does not answer")
        elif status.get("service") == "ingest":
            waiting.extend(f"{name} {reason}" for reason in _on_its_way(status))
    return "; ".join(waiting)


def _on_its_way(status: Mapping[str, Any]) -> list[str]:
    """Why an ingest has not sent everything that it will ever receive."""
    trades, spool = status["trades"], status["spool"]
    reasons = {
        "still receives": status["rate"] > 0,
        f"is {status['phase']}": status["phase"] != "live",
        f"has {trades['unacknowledged']} trades on their way": trades["unacknowledged"] > 0,
        f"holds {trades['buffered']} trades": trades["buffered"] > 0,
        f"has {spool['records']} records in its spool": spool["records"] > 0,
    }
    return [reason for reason, holds in reasons.items() if holds]
