"""The last one out: ends the children of a parent that was killed and could not do it itself.

A separate small process. The parent writes one process id a line to its standard input; when that closes, because the
parent ended in whatever way, every process named and still alive gets SIGTERM, and its whole group SIGKILL a few
seconds later. The kernel's parent-death signal (launch.py) asks children to end too, but a hung one would stay; this
one insists. Processes are held by pidfd, so a number that was used again is never hit.
"""

import os
import select
import signal
import sys
import time

GRACE_S = 8.0


def main() -> None:
    """Read process ids until the parent is gone, then end what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # A terminal's Ctrl-C is for the parent.
    held: dict[int, int] = {}
    for line in sys.stdin:
        try:
            held[int(line)] = os.pidfd_open(int(line))
        except ProcessLookupError:
            continue
        _drop_ended(held)
    _drop_ended(held)
    for fd in held.values():
        _signal(fd, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while held and time.monotonic() < deadline:
        select.select(list(held.values()), [], [], 0.2)
        _drop_ended(held)
    for pid in held:
        try:
            os.killpg(pid, signal.SIGKILL)  # Every child leads a group of its own.
        except (ProcessLookupError, PermissionError):
            continue


def _drop_ended(held: dict[int, int]) -> None:
    if not held:
        return
    ended, _, _ = select.select(list(held.values()), [], [], 0)
    for pid in [pid for pid, fd in held.items() if fd in ended]:
        os.close(held.pop(pid))


def _signal(fd: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(fd, number)
    except (ProcessLookupError, PermissionError):
        return


if __name__ == "__main__":
    main()
