"""`marketfeed health`: asks a service's health port and tells the answer as an exit code.

For a container's health check and for probes that run a command: nothing but the standard library is imported, so that
asking every few seconds costs little.
"""

from __future__ import annotations

import argparse
import http.client
import os
import sys
from collections.abc import Sequence

PORT_VARIABLE = "MARKETFEED_HTTP_PORT"
DEFAULT_PORT = 8081
ANSWER_BYTES_MAX = 65_536


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 if the service answers the path with 200, 1 if not (its answer goes to stderr), 2 bad arguments."""
    parser = argparse.ArgumentParser(
        prog="marketfeed health",
        description="Ask the health port of a service on this machine. Exit code 0: it answers 200; 1: it does not.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="where it listens (default %(default)s)")
    parser.add_argument(
        "--port", type=int, default=None, help=f"its health port (default {PORT_VARIABLE} or {DEFAULT_PORT})"
    )
    parser.add_argument("--path", default="/readyz", help="/readyz: all parts are ready; /healthz: it runs")
    parser.add_argument("--timeout-s", type=float, default=3.0, help="how long to wait (default %(default)s)")
    options = parser.parse_args(argv)
    port = options.port or _port_of(os.environ.get(PORT_VARIABLE, ""))
    answered, text = ask(options.host, port, options.path, options.timeout_s)
    if not answered:
        sys.stderr.write(f"marketfeed health: http://{options.host}:{port}{options.path}: {text}\n")
    return 0 if answered else 1


def ask(host: str, port: int, path: str, timeout_s: float) -> tuple[bool, str]:
    """Whether the answer is 200, and what was answered or why nothing was."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read(ANSWER_BYTES_MAX).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException, ValueError) as error:
        return False, str(error) or type(error).__name__
    finally:
        connection.close()
    return answer.status == http.client.OK, f"{answer.status} {text}"


def _port_of(text: str) -> int:
    """The port of the environment; one that is not a number, or 0 for any, cannot be asked."""
    return int(text) if text.isdigit() and int(text) else DEFAULT_PORT
