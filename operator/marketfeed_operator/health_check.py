"""`python -m marketfeed_operator health`: asks the replica on this machine and tells the answer as an exit code.

For a container's health check: nothing but the standard library is imported, so that asking often costs little.
"""

from __future__ import annotations

import http.client
import os
import sys

PORT_VARIABLE = "MARKETFEED_OPERATOR_HTTP_PORT"
_DEFAULT_PORT = 8081
_TIMEOUT_S = 3.0
_ANSWER_BYTES_MAX = 65_536


def main() -> int:
    """Exit code 0 if /healthz answers 200, 1 if not; its answer, or why there is none, goes to stderr then."""
    text = os.environ.get(PORT_VARIABLE, "")
    port = int(text) if text.isdigit() and int(text) else _DEFAULT_PORT
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        said = answer.read(_ANSWER_BYTES_MAX).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"marketfeed_operator health: http://127.0.0.1:{port}/healthz: {error}\n")
        return 1
    finally:
        connection.close()
    if answer.status == http.client.OK:
        return 0
    sys.stderr.write(f"marketfeed_operator health: http://127.0.0.1:{port}/healthz: {answer.status} {said}\n")
    return 1
