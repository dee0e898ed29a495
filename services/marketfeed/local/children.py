"""Child processes: started so that they cannot outlive this one, stopped in order, explained when they die.

Rules: (1) every child leads a session and process group of its own, so a terminal's Ctrl-C reaches only us and the
shutdown has an order; (2) every child asks the kernel for a signal when we die (launch.py) and is known to the reaper
(reaper.py), so that a `kill -9` of this process leaves nothing behind; (3) output goes to a log file in the state
folder, appended, so that what a dead server said last can be quoted. Children must be started from the thread that
runs the event loop, and that thread must live as long as they: the kernel watches the thread, not the process.
It does not restart anything: what a death means is for the caller to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from marketfeed.domain.errors import MarketfeedError

_LAUNCH = Path(__file__).with_name("launch.py")
_REAPER = Path(__file__).with_name("reaper.py")
_BARE_PYTHON = (sys.executable, "-I", "-S", "-u")
LOG_BYTES_MAX = 16_000_000
GIST_CHARS_MAX = 300
_TELLING = re.compile(r"fatal|error|exception|refused|cannot|can't|denied|in use|not found|no space", re.IGNORECASE)


class ChildDied(MarketfeedError):
    """A child ended that should run; the sentence holds what it said last and where its log is."""

    def __init__(self, name: str, code: int, last_words: str, log: Path) -> None:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if code == -signal.SIGKILL:
            last_words = ""  # Nobody says why it is going to be killed.
        said = f"; it said: {last_words}" if last_words else ""
        super().__init__(f"{name} {how}{said} (log: {log})")
        self.name = name
        self.code = code
        self.how = how
        self.last_words = last_words
        self.log = log


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """What to run. `user` drops root to that system user; `stop_signal` asks for an end in order, `stop_s` waits."""

    name: str
    argv: tuple[str, ...]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_s: float = 10.0
    user: str | None = None


class Child:
    """A running program."""

    def __init__(self, program: Program, process: asyncio.subprocess.Process, log_from: int = 0) -> None:
        self.program = program
        self._log_from = log_from
        self.started_s = time.monotonic()
        self._process = process

    @property
    def name(self) -> str:
        """The program's name."""
        return self.program.name

    @property
    def pid(self) -> int:
        """Process id, which is the id of its group as well."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    async def wait(self) -> ChildDied:
        """Until it ends by itself; what there is to say about that."""
        code = await self._process.wait()
        return ChildDied(self.name, code, last_words(self.program.log, self._log_from), self.program.log)

    async def stop(self) -> None:
        """Ask it to end, and kill its group if it has not in time."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(self.program.stop_signal)
            try:
                async with asyncio.timeout(self.program.stop_s):
                    await self._process.wait()
            except TimeoutError:
                self.kill()
                await self._process.wait()

    def kill(self) -> None:
        """End it and its group at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


class Children:
    """The children of this process, as an async context: leaving it stops all, the youngest first."""

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._reaper: asyncio.subprocess.Process | None = None
        self._held: tuple[int, ...] = ()

    async def __aenter__(self) -> Self:
        self._reaper = await asyncio.create_subprocess_exec(
            *_BARE_PYTHON, str(_REAPER), stdin=asyncio.subprocess.PIPE, start_new_session=True
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.shield(self.stop_all())

    def hold(self, descriptor: int) -> None:
        """Let children started from now on keep this file open, so that a lock on it lasts until the last has ended."""
        self._held = (*self._held, descriptor)

    @property
    def alive(self) -> list[Child]:
        """Those that run, oldest first."""
        return [child for child in self._children if child.alive]

    async def start(self, program: Program) -> Child:
        """Run a program; its output is appended to its log."""
        program.log.parent.mkdir(parents=True, exist_ok=True)
        if program.log.exists() and program.log.stat().st_size > LOG_BYTES_MAX:
            program.log.replace(program.log.with_suffix(program.log.suffix + ".1"))
        launch = (str(_LAUNCH), str(int(program.stop_signal)), str(os.getpid()), program.user or "-")
        with program.log.open("ab") as log:
            log_from = log.tell()
            process = await asyncio.create_subprocess_exec(
                *_BARE_PYTHON,
                *launch,
                *program.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(program.env) or None,
                cwd=program.cwd,
                start_new_session=True,
                pass_fds=self._held,
            )
        if self._reaper is not None and self._reaper.stdin is not None:
            self._reaper.stdin.write(b"%d\n" % process.pid)
        child = Child(program, process, log_from)
        self._children = [*self.alive, child]
        return child

    async def run(self, program: Program, timeout_s: float) -> None:
        """Run a program to its end. Raises ChildDied if it fails or is not done in time."""
        child = await self.start(program)
        try:
            async with asyncio.timeout(timeout_s):
                end = await child.wait()
        except TimeoutError:
            child.kill()
            end = await child.wait()
        if end.code != 0:
            raise end

    async def stop_all(self) -> None:
        """Stop every child, the last started first, then let the reaper go."""
        for child in reversed(self.alive):
            await child.stop()
        if self._reaper is not None and self._reaper.stdin is not None:
            self._reaper.stdin.close()
            await self._reaper.wait()
            self._reaper = None


def last_words(log: Path, begin: int = 0) -> str:
    """The line of a log that best tells why its writer ended: the last that sounds like trouble, else the last.

    `begin` is the byte at which that writer began: what earlier ones said explains nothing.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(begin, log.stat().st_size - 16_384))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    lines = [_sentence(line.strip()) for line in lines if line.strip()]
    telling = [line for line in lines[-40:] if _TELLING.search(line) and not line.startswith("at ")]
    chosen = telling[-1] if telling else (lines[-1] if lines else "")
    return chosen[:GIST_CHARS_MAX]


def _sentence(line: str) -> str:
    """What a service's JSON line says, for people; any other line as it is."""
    if not line.startswith("{"):
        return line
    try:
        record = json.loads(line)
    except ValueError:
        return line
    said = {name: value for name, value in record.items() if name not in ("ts", "level", "service", "logger")}
    event = str(said.pop("event", ""))
    level = "error: " if record.get("level") == "error" else ""
    return f"{level}{event} {' '.join(f'{name}={value}' for name, value in said.items())}".strip()
