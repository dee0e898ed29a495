"""Asks the pods' own /status what they do: connections, rates, lag. Bounded in time and in number at once.

A pod that does not answer is a pod without a reading; nothing waits for it. Readings carry the time at which they were
taken, so that whoever uses them can tell how old they are.

Feeds are asked side by side. Each has a few turns at once, all of them together some more, and turns are given in the
order in which they were asked for; so a feed of silent pods takes its own few turns and not everybody's. What is not
asked within an interval is left for the next one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import aiohttp
import msgspec

from marketfeed_operator import metrics
from marketfeed_operator.poll_order import PollOrder, Target

Key = tuple[str, str]
# Bytes of a /status that are read; it lists at most a few hundred rates.
_ANSWER_MAX = 256 * 1024


@dataclass(frozen=True, slots=True)
class Reading:
    """What a pod said. `body` is its /status, `at` the monotonic time of the answer."""

    uid: str
    at: float
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PollLimits:
    """interval_s: the longest round of a feed; timeout_s of one question; how many at once, of a feed and of all."""

    interval_s: float
    timeout_s: float
    of_feed: int
    of_all: int


class Poller:
    """One HTTP session for all pods. `host` is asked in place of the pods where their network cannot be reached."""

    def __init__(self, port: int, limits: PollLimits, host: str = "") -> None:
        self._port = port
        self._host = host
        self._limits = limits
        self._timeout = aiohttp.ClientTimeout(total=limits.timeout_s)
        # First come, first served: no feed has more than a few places in that line.
        self._turns = asyncio.Semaphore(limits.of_all)
        self._orders: dict[Key, PollOrder] = {}
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask_all(self, feed: Key, targets: Iterable[Target]) -> dict[str, Reading | None]:
        """One round of a feed, which is not asked twice at once: the readings of the pods that were asked, by name.

        None for a pod that did not answer; none at all for one whose turn did not come, or that is left in peace.
        """
        order = self._orders.setdefault(feed, PollOrder(self._limits.interval_s))
        due = order.due(targets, time.monotonic())
        over = time.monotonic() + self._limits.interval_s
        following, found = iter(due), dict[str, Reading | None]()
        async with asyncio.TaskGroup() as group:
            for number in range(min(self._limits.of_feed, len(due))):
                group.create_task(self._ask(order, following, over, found), name=f"poll/{'/'.join(feed)}/{number}")
        return found

    def forget(self, feed: Key) -> None:
        """The feed is gone."""
        self._orders.pop(feed, None)

    async def _ask(
        self, order: PollOrder, following: Iterator[Target], over: float, found: dict[str, Reading | None]
    ) -> None:
        """Ask one after another of those that no other task has taken, until the round is over."""
        for target in following:
            async with self._turns:
                if time.monotonic() >= over:
                    return
                found[target.pod] = await self._reading(target)
            order.note(target, found[target.pod] is not None, time.monotonic())

    async def _reading(self, target: Target) -> Reading | None:
        try:
            body = await self._get(target)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            metrics.POLLS.labels("failed").inc()
            return None
        metrics.POLLS.labels("answered").inc()
        return Reading(target.uid, time.monotonic(), MappingProxyType(body))

    async def _get(self, target: Target) -> dict[str, Any]:
        if self._session is None:
            # Pods come and go: connections are not kept, so that none is kept to a pod whose address is another's now.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True), trust_env=False
            )
        host = self._host or (f"[{target.address}]" if ":" in target.address else target.address)
        address = host if self._host and ":" in host else f"{host}:{self._port}"
        params = {"pod": target.pod} if self._host else {}
        async with self._session.get(f"http://{address}/status", params=params, timeout=self._timeout) as response:
            if response.status != 200:
                raise ValueError(f"/status answered {response.status}")
            return parsed(await _read(response.content))


async def _read(stream: aiohttp.StreamReader) -> bytes:
    """The whole body, as far as it is not absurdly long."""
    parts = bytearray()
    async for chunk in stream.iter_any():
        parts += chunk
        if len(parts) > _ANSWER_MAX:
            raise ValueError(f"/status is longer than {_ANSWER_MAX} bytes")
    return bytes(parts)


def parsed(text: bytes) -> dict[str, Any]:
    """The JSON object of a /status. Raises ValueError for anything else."""
    body = msgspec.json.decode(text)
    if not isinstance(body, dict):
        raise ValueError("/status is no JSON object")
    return body


def targets_of(pods: Iterable[Mapping[str, Any]], components: frozenset[str]) -> list[Target]:
    """The pods worth asking: of those components, running, with an address and not going away."""
    found = []
    for pod in pods:
        metadata, status = pod["metadata"], pod.get("status") or {}
        component = (metadata.get("labels") or {}).get("app.kubernetes.io/component")
        if component not in components or "deletionTimestamp" in metadata:
            continue
        if status.get("phase") == "Running" and status.get("podIP"):
            found.append(Target(str(metadata["name"]), str(metadata["uid"]), str(status["podIP"])))
    return found
