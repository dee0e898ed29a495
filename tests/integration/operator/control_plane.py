"""etcd, kube-apiserver and kube-controller-manager on free ports of loopback, below one directory."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.integration.operator.plane import eventually, write_kubeconfig

from marketfeed_operator import schema
from marketfeed_operator.cluster import Cluster
from marketfeed_operator.kinds import MARKETFEED

TOKEN = "test-admin"


def binaries() -> Path | None:
    """Where the cluster's binaries are, if they were built."""
    cache = Path(os.environ.get("MARKETFEED_CACHE") or Path.home() / ".cache" / "marketfeed")
    where = cache / "cluster" / "bin"
    return where if (where / "kube").exists() else None


class ControlPlane:
    """The processes. `stop_apiserver` and `start_apiserver` restart it on the same port with the same data."""

    def __init__(self, directory: Path, where: Path) -> None:
        self.directory = directory
        self._kube = where / "kube"
        self._kwok = where / "kwok"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.port, self._etcd, self._peer, self._manager, self._scheduler = _free_ports(5)
        self.ca = directory / "ca.crt"
        self.server = f"https://127.0.0.1:{self.port}"
        self.kubeconfig = directory / "kubeconfig"
        self.token = TOKEN

    def start(self) -> None:
        """Start all and wait until the API server is ready."""
        _make_certificates(self.directory)
        (self.directory / "tokens.csv").write_text(f"{TOKEN},admin,admin,system:masters\n")
        write_kubeconfig(self.kubeconfig, self.server, str(self.ca), TOKEN)
        etcd = f"http://127.0.0.1:{self._etcd}"
        peer = f"http://127.0.0.1:{self._peer}"
        self._run(
            "etcd", "etcd", "--data-dir", "etcd", "--listen-client-urls", etcd, "--advertise-client-urls", etcd,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
        )  # fmt: skip
        self.start_apiserver()
        self._run(
            "kcm", str(self._kube), "kube-controller-manager", f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false", f"--secure-port={self._manager}", "--root-ca-file=ca.crt", "--cert-dir=kcm-certs",
            "--service-account-private-key-file=sa.key", "--kube-api-qps=500", "--kube-api-burst=1000",
        )  # fmt: skip

    def start_nodes(self) -> None:
        """A scheduler, and kwok for the kubelet of every node that there will be."""
        self._run(
            "scheduler", str(self._kube), "kube-scheduler", f"--kubeconfig={self.kubeconfig}", "--leader-elect=false",
            f"--secure-port={self._scheduler}", "--cert-dir=scheduler-certs", "--kube-api-qps=500",
            "--kube-api-burst=1000",
        )  # fmt: skip
        self._run("kwok", str(self._kwok), f"--kubeconfig={self.kubeconfig}", "--manage-all-nodes=true")

    def start_apiserver(self) -> None:
        """Start it and wait until it is ready."""
        self._run(
            "apiserver", str(self._kube), "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{self._etcd}",
            f"--secure-port={self.port}", "--bind-address=127.0.0.1", "--tls-cert-file=server.crt",
            "--tls-private-key-file=server.key", "--client-ca-file=ca.crt", "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=sa.key",
            "--service-account-signing-key-file=sa.key", "--token-auth-file=tokens.csv",
            "--service-cluster-ip-range=10.96.0.0/16", "--service-account-lookup=true",
        )  # fmt: skip
        context = ssl.create_default_context(cafile=str(self.ca))
        request = urllib.request.Request(f"{self.server}/readyz", headers={"Authorization": f"Bearer {TOKEN}"})
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(request, context=context, timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < deadline, (self.directory / "apiserver.log").read_text()[-3000:]
                time.sleep(0.1)

    def stop_apiserver(self) -> None:
        """End it at once, as a crash would."""
        process = self._processes.pop("apiserver")
        process.kill()
        process.wait()

    def stop(self) -> None:
        """End everything."""
        for process in reversed(self._processes.values()):
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    async def install_crd(self, cluster: Cluster) -> None:
        """Install the MarketFeed kind and wait until it is served."""
        crd: dict[str, Any] = schema.crd()
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
        query = [("fieldManager", "test"), ("force", "true")]
        await cluster._request("patch", path, crd, query=query, content="application/apply-patch+yaml")
        await eventually(lambda: cluster.serves(MARKETFEED))

    def _run(self, name: str, *command: str) -> None:
        with (self.directory / f"{name}.log").open("ab") as out:
            self._processes[name] = subprocess.Popen(command, cwd=self.directory, stdout=out, stderr=subprocess.STDOUT)


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _make_certificates(directory: Path) -> None:
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    ca_use = "keyUsage=critical,keyCertSign,cRLSign"
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-days", "2",
            "-subj", "/CN=test-ca", "-addext", ca_use)  # fmt: skip
    openssl("genrsa", "-out", "sa.key", "2048")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=api")
    (directory / "ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nauthorityKeyIdentifier=keyid\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", "server.crt", "-days", "2", "-extfile", "ext")  # fmt: skip
