"""Applies a release's MarketFeed, run by helm after an installation and each upgrade.

The MarketFeed cannot be an object of the release: helm looks up every kind before it installs anything, and this kind
comes with the same release. So it is applied by server-side apply as soon as its API is there, and owned by a ConfigMap
that is an object of the release: when that goes, the MarketFeed goes. Standard library only.
"""

from __future__ import annotations

import json
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SERVER = "https://kubernetes.default.svc"
REQUEST_TIMEOUT_S = 10.0
PAUSE_S = 1.0


class NotYet(Exception):
    """The API server does not answer, or does not know the kind yet."""


class Refused(Exception):
    """The API server's reason for a refusal."""


class Cluster:
    """The API server, as a pod's service account sees it."""

    def __init__(self, server: str = SERVER, account: Path = ACCOUNT) -> None:
        self._server = server
        self._token = (account / "token").read_text()
        self._tls = ssl.create_default_context(cafile=str(account / "ca.crt"))

    def ask(self, method: str, path: str, body: object | None = None) -> dict[str, Any] | None:
        """The answer's object, None for a 404 of an object. Raises NotYet and Refused."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/apply-patch+yaml"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._server + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S, context=self._tls) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            return _no_object(error)
        except (OSError, ValueError) as error:
            raise NotYet(str(error)) from error


def _no_object(error: urllib.error.HTTPError) -> None:
    """None if it says that an object is not there; a kind that is not known is told in plain text."""
    text = error.read().decode(errors="replace")
    try:
        status = json.loads(text)
    except ValueError:
        status = {}
    if error.code == 404 and (status.get("details") or {}).get("name"):
        return
    if error.code in (404, 409, 429) or error.code >= 500:
        raise NotYet(status.get("message", text)) from error
    raise Refused(status.get("message", text)) from error


def apply(cluster: Cluster, feed: dict[str, Any], owner: str) -> str:
    """Apply the MarketFeed once; a sentence that says so. Raises NotYet and Refused."""
    name, namespace = feed["metadata"]["name"], feed["metadata"]["namespace"]
    config_map = cluster.ask("GET", f"/api/v1/namespaces/{namespace}/configmaps/{owner}")
    if config_map is None:
        raise NotYet(f"the ConfigMap {owner} is not there")
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": config_map["metadata"]["uid"]}
    path = f"/apis/{feed['apiVersion']}/namespaces/{namespace}/marketfeeds/{name}"
    found = cluster.ask("GET", path)
    if found is not None and not _is_owned(found, owner):
        raise Refused(
            f"there is a MarketFeed {name} that this release did not make; set feed.name to another one, or delete it"
        )
    wanted = {**feed, "metadata": {**feed["metadata"], "ownerReferences": [reference]}}
    cluster.ask("PATCH", f"{path}?fieldManager=helm&force=true", wanted)
    return f"MarketFeed {name} {'applied again' if found else 'made'}"


def _is_owned(found: dict[str, Any], owner: str) -> bool:
    references = found["metadata"].get("ownerReferences", [])
    return any(one["kind"] == "ConfigMap" and one["name"] == owner for one in references)


def main(manifest: str, owner: str, wait_s: str) -> int:
    """Apply until it is done or refused or the time is over; the exit code."""
    feed = json.loads(Path(manifest).read_text())
    deadline = time.monotonic() + float(wait_s)
    said = ""
    while True:
        try:
            print(apply(Cluster(), feed, owner))  # noqa: T201 (the Job's log)
            return 0
        except Refused as error:
            print(f"refused: {error}", file=sys.stderr)  # noqa: T201
            return 2  # the Job tells this from a time that is over: another try would be refused, too
        except NotYet as error:
            if time.monotonic() > deadline:
                print(f"given up after {wait_s} s: {error}", file=sys.stderr)  # noqa: T201
                return 1
            if str(error) != said:
                said = str(error)
                print(f"waiting: {said}", flush=True)  # noqa: T201
            time.sleep(PAUSE_S)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
