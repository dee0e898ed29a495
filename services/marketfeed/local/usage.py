"""CPU time and memory of processes, their own children included (PostgreSQL works in many)."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process tree uses: CPU share since the last look (1.0 = a full core), CPU time, memory."""

    cpu_share: float
    cpu_s: float
    rss_bytes: int


class Meter:
    """Adds up the CPU time of one role (a service, a server) over restarts."""

    def __init__(self) -> None:
        self._ended_s = 0.0
        self._pid = -1
        self._last_cpu_s = 0.0
        self._last_s: float | None = None

    def read(self, pid: int | None) -> Usage:
        """Look at the process `pid`; None, or a process that is gone, counts with what it had used at the last look."""
        now_s, before_s = time.monotonic(), self._ended_s + self._last_cpu_s
        if pid is not None and pid != self._pid:
            self._ended_s += self._last_cpu_s
            self._pid, self._last_cpu_s = pid, 0.0
        rss_bytes = 0
        if pid is not None:
            try:
                # A process that ended between two looks must not make the sum fall.
                cpu_s, rss_bytes = _tree(psutil.Process(pid))
                self._last_cpu_s = max(self._last_cpu_s, cpu_s)
            except psutil.Error:
                rss_bytes = 0
        total_s = self._ended_s + self._last_cpu_s
        share = 0.0 if self._last_s is None else max(0.0, total_s - before_s) / max(1e-3, now_s - self._last_s)
        self._last_s = now_s
        return Usage(share, total_s, rss_bytes)


def _tree(process: psutil.Process) -> tuple[float, int]:
    with process.oneshot():
        times = process.cpu_times()
        rss = process.memory_info().rss
    cpu_s = times.user + times.system + times.children_user + times.children_system
    for child in process.children():
        try:
            times = child.cpu_times()
            cpu_s += times.user + times.system
            memory = child.memory_info()
            rss += memory.rss - memory.shared  # what children share with their parent is counted once
        except psutil.Error:
            continue
    return cpu_s, rss
