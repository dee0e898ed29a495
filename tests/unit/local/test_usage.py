"""CPU and memory of processes over restarts."""

import os
import subprocess
import sys

from marketfeed.local.usage import Meter


def burn() -> None:
    """A little CPU time."""
    sum(range(2_000_000))


def test_cpu_time_adds_up_over_restarts() -> None:
    """A role's CPU time never falls: what an ended process used stays in the sum."""
    meter = Meter()
    burn()
    first = meter.read(os.getpid())
    assert first.cpu_s > 0
    assert first.rss_bytes > 1_000_000
    gone = subprocess.Popen((sys.executable, "-I", "-S", "-c", ""))
    gone.wait()
    second = meter.read(gone.pid)
    assert second.cpu_s == first.cpu_s
    assert second.rss_bytes == 0
    assert meter.read(None).cpu_s == first.cpu_s
