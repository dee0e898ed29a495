"""Asks the pods' own /status what they do: connections, rates, lag. Bounded in time and in number at once.

A pod that does not answer is a pod without a reading; nothing waits for it. Readings carry the time at which they were
taken, so that whoever uses them can tell how old they are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import aiohttp
import msgspec

from marketfeed_operator import metrics

# Bytes of a /status that are read; it lists at most a few hundred rates.
_ANSWER_MAX = 256 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """A pod to ask: its name and uid, and its address in the pods' network."""

    pod: str
    uid: str
    address: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a pod said. `body` is its /status, `at` the monotonic time of the answer."""

    uid: str
    at: float
    body: Mapping[str, Any]


class Poller:
    """One HTTP session for all pods. `host` is asked in place of the pods where their network cannot be reached."""

    def __init__(self, port: int, timeout_s: float, concurrency: int, host: str = "") -> None:
        self._port = port
        self._host = host
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._turns = asyncio.Semaphore(concurrency)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask_all(self, targets: Iterable[Target]) -> dict[str, Reading]:
        """The readings of the pods that answered, by pod name."""
        async with asyncio.TaskGroup() as group:
            asked = {target.pod: group.create_task(self._ask(target), name=f"poll/{target.pod}") for target in targets}
        return {pod: reading for pod, task in asked.items() if (reading := task.result()) is not None}

    async def _ask(self, target: Target) -> Reading | None:
        async with self._turns:
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
