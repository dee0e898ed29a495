"""The control plane of `localcluster` as the operator's tests need it: addresses, keys, the CRD, a killable server."""

from __future__ import annotations

import base64
import json
import os
import signal
from pathlib import Path
from typing import Any

from tests.integration.operator.plane import eventually

import localcluster
from localcluster.errors import Missing
from marketfeed_operator import schema
from marketfeed_operator.cluster import Cluster
from marketfeed_operator.kinds import MARKETFEED


class ControlPlane:
    """API server, etcd, controllers, and on request fake nodes. Raises Missing if its programs are not built."""

    def __init__(self, directory: Path, fake_nodes: int = 0) -> None:
        self._inner = localcluster.control_plane(directory, workloads=True, fake_nodes=fake_nodes)
        self.kubeconfig = self._inner.kubeconfig
        self.server = self._inner.server
        self.port = int(self.server.rpartition(":")[2])
        written: dict[str, Any] = json.loads(self.kubeconfig.read_text())
        self.token = str(written["users"][0]["user"]["token"])
        self.ca = directory / "authority.crt"
        self.ca.write_bytes(base64.b64decode(written["clusters"][0]["cluster"]["certificate-authority-data"]))

    def stop_apiserver(self) -> None:
        """End it at once, as a crash would."""
        os.kill(self._inner.pid("kube-apiserver"), signal.SIGKILL)

    def start_apiserver(self) -> None:
        """Start it again, on the same port with the same data, and wait until it is ready."""
        self._inner.restart("kube-apiserver")

    def stop(self) -> None:
        """End everything."""
        self._inner.stop()

    async def install_crd(self, cluster: Cluster) -> None:
        """Install the MarketFeed kind and wait until it is served."""
        crd: dict[str, Any] = schema.crd()
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
        query = [("fieldManager", "test"), ("force", "true")]
        await cluster._request("patch", path, crd, query=query, content="application/apply-patch+yaml")
        await eventually(lambda: cluster.serves(MARKETFEED))


__all__ = ["ControlPlane", "Missing"]
