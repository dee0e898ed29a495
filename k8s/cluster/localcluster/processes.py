"""Processes with a pid file each, so that only what was started here is ever stopped.

A pid file holds the process's number with its start time and the machine's boot, so that a number that was used again,
or a machine that was started again, is never mistaken for ours. Two kinds of owner: the full cluster lets its
processes outlive the command that started them; a control plane of a test hands them to the reaper, a small process
that ends them when the test's process is gone in whatever way.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from localcluster.errors import ProcessDied
from marketfeed.local import reaper

LAST_WORDS_CHARS_MAX = 400
POLL_S = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """What to run. `stop_s` is how long it may take to end in order before it is killed."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    stop_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Known:
    """A process by number, start time (clock ticks since the boot) and boot."""

    pid: int
    started: int
    boot: str

    @property
    def alive(self) -> bool:
        """Whether exactly this process runs (one that ended and waits for its parent does not)."""
        state, started = stat(self.pid)
        return self.boot == boot_id() and started == self.started and state not in ("Z", "X", "")


def stat(pid: int) -> tuple[str, int]:
    """State letter and start time of a process, ("", 0) if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    fields = text[text.rindex(")") + 2 :].split()  # The name before it may hold spaces.
    return fields[0], int(fields[19])


def boot_id() -> str:
    """The boot that the machine is in."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Reaper:
    """Ends the processes told to it when this process has gone (marketfeed.local.reaper)."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-u", reaper.__file__], stdin=subprocess.PIPE, start_new_session=True
        )

    def watch(self, pid: int) -> None:
        """End this process, too."""
        if self._process.stdin is not None:
            self._process.stdin.write(b"%d\n" % pid)
            self._process.stdin.flush()

    def close(self) -> None:
        """Let it end what is left, and wait for that."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


class Processes:
    """The processes of one cluster; pid files in `pids`, output in `logs`."""

    def __init__(self, pids: Path, logs: Path, watcher: Reaper | None = None) -> None:
        self.pids = pids
        self.logs = logs
        self._watcher = watcher
        self._own: dict[str, subprocess.Popen[bytes]] = {}

    def known(self, name: str) -> Known | None:
        """What the pid file of a process says."""
        try:
            return Known(**json.loads((self.pids / f"{name}.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def names(self) -> list[str]:
        """All that have a pid file, the last started first."""
        files = sorted(self.pids.glob("*.json"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
        return [file.stem for file in files]

    def alive(self, name: str) -> bool:
        """Whether a process runs."""
        if name in self._own:
            return self._own[name].poll() is None  # Collects it if it has ended, its last thread included.
        known = self.known(name)
        return known is not None and known.alive

    def pid(self, name: str) -> int:
        """The number of a running process. Raises ProcessDied if it does not run."""
        self.check(name)
        known = self.known(name)
        return known.pid if known else 0

    def check(self, name: str) -> None:
        """Raises ProcessDied if a process does not run."""
        if not self.alive(name):
            raise ProcessDied(name, self.log(name), last_words(self.log(name)))

    def log(self, name: str) -> Path:
        """Where a process's output goes."""
        return self.logs / f"{name}.log"

    def ensure(self, program: Program) -> bool:
        """Start a program unless it runs; whether it was started."""
        if self.alive(program.name):
            return False
        for folder in (self.pids, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        with self.log(program.name).open("ab") as log:
            process = subprocess.Popen(
                program.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **program.env}, start_new_session=True, cwd="/",
            )  # fmt: skip
        if self._watcher is not None:
            self._watcher.watch(process.pid)
        self._own[program.name] = process
        known = Known(process.pid, stat(process.pid)[1], boot_id())
        text = json.dumps({"pid": known.pid, "started": known.started, "boot": known.boot})
        (self.pids / f"{program.name}.json").write_text(text)
        return True

    def stop(self, name: str, stop_signal: signal.Signals = signal.SIGTERM, stop_s: float = 10.0) -> None:
        """Ask a process to end, kill it and its group if it has not in time, and drop its pid file."""
        known = self.known(name)
        if known is not None and self.alive(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(known.pid, stop_signal)
            if not self._ends_within(name, stop_s):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(known.pid, signal.SIGKILL)
                self._ends_within(name, stop_s)
        self._own.pop(name, None)
        (self.pids / f"{name}.json").unlink(missing_ok=True)

    def _ends_within(self, name: str, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.alive(name):
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True


def last_words(log: Path) -> str:
    """The last line of a log that is not empty."""
    try:
        text = log.read_bytes()[-8192:].decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:LAST_WORDS_CHARS_MAX] if lines else ""
