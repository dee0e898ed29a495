"""Waiting: a condition is asked again and again, and whoever must live meanwhile is watched."""

from __future__ import annotations

import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from localcluster.errors import NotReady

PAUSE_S = 0.1
ATTEMPT_S = 2.0


def wait_until(what: str, ready: Callable[[], str], timeout_s: float, check: Callable[[], None]) -> None:
    """Until `ready` returns nothing; what it returns is the reason why not. Raises NotReady, or what `check` raises."""
    deadline = time.monotonic() + timeout_s
    while reason := ready():
        check()
        if time.monotonic() > deadline:
            raise NotReady(what, timeout_s, reason)
        time.sleep(PAUSE_S)


def api_answers(server: str, authority: Path, token: str) -> Callable[[], str]:
    """Asks the API server whether it is ready to serve everything."""
    context = ssl.create_default_context(cafile=str(authority))
    request = urllib.request.Request(f"{server}/readyz", headers={"Authorization": f"Bearer {token}"})

    def attempt() -> str:
        try:
            with urllib.request.urlopen(request, timeout=ATTEMPT_S, context=context) as answer:
                return "" if answer.status == 200 else f"HTTP {answer.status}"
        except (OSError, urllib.error.URLError) as error:
            return str(error)

    return attempt
