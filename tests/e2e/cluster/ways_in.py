"""A real controller in the cluster that reads Ingress and Gateway API objects, and clients that go through it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from tests.e2e.cluster.kube import Cluster, Object

GATEWAY_API = "sigs.k8s.io/gateway-api@v1.6.1"
IMAGE = os.environ.get("E2E_TRAEFIK_IMAGE", "localhost/traefik:dev")
WEB_PORT, SECURE_PORT = 8000, 8443
MANIFEST = Path(__file__).with_name("traefik.yaml")


def module_folder(module: str) -> Path:
    """The folder of a Go module at a version, fetched into Go's cache if it is not there."""
    done = subprocess.run(
        ["go", "mod", "download", "-json", module], capture_output=True, text=True, timeout=120, check=True
    )
    return Path(json.loads(done.stdout)["Dir"])


@contextmanager
def gateway_api(cluster: Cluster) -> Iterator[None]:
    """The Gateway API's definitions, for as long as a test needs them; those that were there already stay."""
    if cluster.find("crd", "gateways.gateway.networking.k8s.io"):
        yield
        return
    folder = str(module_folder(GATEWAY_API) / "config" / "crd" / "standard")
    cluster.kubectl("apply", "--server-side", "-f", folder, timeout_s=120)
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s", timeout_s=70)
    try:
        yield
    finally:
        cluster.kubectl("delete", "-f", folder, "--timeout=120s", timeout_s=130)


@contextmanager
def traefik(cluster: Cluster) -> Iterator[Cluster]:
    """Traefik, ready; the cluster seen from its namespace."""
    inside = cluster.within("traefik")
    objects: list[Object] = list(yaml.safe_load_all(MANIFEST.read_text()))
    for one in objects:
        if one["kind"] == "Deployment":
            one["spec"]["template"]["spec"]["containers"][0]["image"] = IMAGE
    inside.apply(*objects)
    try:
        inside.kubectl("rollout", "status", "deployment/traefik", "--timeout=90s", timeout_s=100)
        yield inside
    finally:
        bundle = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        inside.kubectl("delete", "--ignore-not-found", "-f", "-", text=bundle, timeout_s=120)


@dataclass(frozen=True)
class Door:
    """An address of the controller, and the host that a client says it wants there."""

    host: str
    port: int
    secure: bool = False

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A WebSocket to /v1/stream. The certificate is of the test's own making, so only its name is looked at."""
        url = f"{'wss' if self.secure else 'ws'}://127.0.0.1:{self.port}/v1/stream"
        options: dict[str, Any] = {"ssl": False, "server_hostname": self.host} if self.secure else {}
        options |= {"headers": {"Host": self.host}, "timeout": aiohttp.ClientWSTimeout(ws_close=2)}
        async with aiohttp.ClientSession() as session, session.ws_connect(url, **options) as socket:
            try:
                yield socket
            finally:
                # It waits until the connection is gone. A WebSocket that was closed before would end its TLS in the
                # background, which outlives the test's loop.
                await session.close()


def self_signed(folder: Path, *hosts: str) -> tuple[str, str]:
    """(certificate, key) for these hosts, in PEM, good for a day."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    names = ",".join(f"DNS:{host}" for host in hosts)
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "1", "-subj", f"/CN={hosts[0]}", "-addext", f"subjectAltName={names}",
            "-keyout", str(key), "-out", str(certificate),
        ],
        capture_output=True, timeout=30, check=True,
    )  # fmt: skip
    return certificate.read_text(), key.read_text()
