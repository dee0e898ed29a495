"""A process that takes commands by lines and answers by lines of JSON, each with its `event`."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import psutil
from tests.bench.load.scenario import ROOT


class Child:
    """Started at once, on one core if that is named. Leaving the block kills it."""

    def __init__(self, command: Sequence[str], core: int | None) -> None:
        self._name = command[0] if len(command) < 3 else command[2]
        with _on_core(core):
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, bufsize=1
            )
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._watched = psutil.Process(self._process.pid)
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def say(self, *words: object) -> None:
        """Give a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()

    def hear(self, event: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """The next line, which must be of this event. Raises RuntimeError."""
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            raise RuntimeError(f"{self._name} did not say {event!r} within {timeout_s:g} s") from None
        if line is None or line["event"] != event:
            raise RuntimeError(f"{self._name} said {line!r} in place of {event!r}")
        return line

    def ask(self, *words: object, timeout_s: float = 60.0) -> dict[str, Any]:
        """Give a command and wait for its answer, which has the same name."""
        self.say(*words)
        return self.hear(str(words[0]), timeout_s)

    @property
    def cpu_s(self) -> float:
        """Processor time so far, the kernel's for it included."""
        times = self._watched.cpu_times()
        return float(times.user + times.system)

    @property
    def rss_bytes(self) -> int:
        """Resident memory: of the process, without the kernel's socket buffers."""
        return int(self._watched.memory_info().rss)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)


def tell(event: str, **facts: object) -> None:
    """The child's side: say something."""
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


@contextmanager
def _on_core(core: int | None) -> Iterator[None]:
    """A process that is started meanwhile is bound to this core, and its runtime sees one core."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
