"""Keeps the services of the demo running: one that dies is started again, with back-off, and that is said once.

A service that ends with exit code 2 says that a setting is wrong; starting it again would not help, so the demo ends
with its sentence. Everything else is taken for bad luck: it is tried again for as long as the demo runs, after a pause
that doubles up to ten seconds and falls back to the shortest once the service has run for a while.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from marketfeed.domain.errors import SettingError
from marketfeed.local.children import Child, ChildDied, Children, Program
from marketfeed.local.kafka_jars import Say
from marketfeed.runtime.settings import PORT_FILE
from marketfeed.runtime.tasks import backoff_s

WRONG_SETTING = 2
PAUSE_S_MIN = 0.2
PAUSE_S_MAX = 10.0
STEADY_S = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceProgram:
    """One service process: `python -m marketfeed.<module>` with its settings as `MARKETFEED_*` variables."""

    name: str
    module: str
    env: Mapping[str, str]
    stop_s: float = 25.0


class Supervised:
    """A service that is kept running."""

    def __init__(self, children: Children, program: ServiceProgram, state: Path, say: Say) -> None:
        self.name = program.name
        self.module = program.module
        self.restarts = 0
        self.child: Child | None = None
        self._children = children
        self._env = program.env
        self._stop_s = program.stop_s
        self._log = state / "logs" / f"{program.name}.log"
        self._port_file = state / "run" / f"{program.name}.port"
        self._say = say
        self._stopping = False

    @property
    def http_port(self) -> int | None:
        """Port of its /status, None until it listens."""
        try:
            return int(self._port_file.read_text())
        except (OSError, ValueError):
            return None

    async def keep_running(self) -> None:
        """Start it, and again whenever it dies, until `stop`. Raises SettingError if it calls a setting wrong."""
        jitter, failures, said = random.Random(), 0, ""
        while not self._stopping:
            self._port_file.parent.mkdir(parents=True, exist_ok=True)
            self._port_file.unlink(missing_ok=True)
            self.child = await self._children.start(self._program())
            started_s = time.monotonic()
            end = await self.child.wait()
            if self._stopping:
                return
            if end.code == WRONG_SETTING:
                raise _wrong_setting(self.module, end)
            if steady := time.monotonic() - started_s > STEADY_S:
                said = ""
            failures = 0 if steady else failures + 1
            if end.how != said:
                said = end.how
                self._say(f"{end}; starting it again")
            self.restarts += 1
            await asyncio.sleep(backoff_s(failures, PAUSE_S_MIN, PAUSE_S_MAX, jitter))

    async def stop(self) -> ChildDied | None:
        """Ask it to end in order; how it ended, None if it did not run."""
        self._stopping = True
        if self.child is None:
            return None
        await self.child.stop()
        return await self.child.wait()

    def _program(self) -> Program:
        return Program(
            name=self.name,
            argv=(sys.executable, "-m", f"marketfeed.{self.module}"),
            log=self._log,
            env={**self._env, PORT_FILE: str(self._port_file)},
            stop_s=self._stop_s,
        )


def _wrong_setting(module: str, end: ChildDied) -> SettingError:
    """The service's own sentence: `marketfeed generator: --rate: is 0, …`."""
    own = end.last_words.removeprefix(f"marketfeed {module}: ")
    name, colon, problem = own.partition(": ")
    if own == end.last_words or not colon:
        return SettingError(module, str(end))
    return SettingError(f"{module} {name}", problem)
