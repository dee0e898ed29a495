"""The command lines of the control plane's programs: pure functions of where things are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from localcluster.identities import Keys
from localcluster.processes import Program

SERVICE_RANGE = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"
ISSUER = "https://kubernetes.default.svc"

# Who asked for what, for the tests that prove which rights are used. The cluster's own parts talk all the time and are
# left out, or the file would be theirs.
AUDIT_POLICY: Mapping[str, object] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {
            "level": "None",
            "users": [
                "system:apiserver",
                "system:kube-scheduler",
                "system:kube-controller-manager",
                "system:kube-proxy",
                "marketfeed:kwok",
                "marketfeed:directory-volumes",
                "marketfeed:kube-router",
            ],
        },
        {"level": "None", "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"]},
        {
            "level": "None",
            "nonResourceURLs": ["/healthz*", "/readyz*", "/livez*", "/metrics", "/openapi/*", "/version"],
        },
        {"level": "Metadata"},
    ],
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlPlaneLayout:
    """Where a control plane listens and keeps its files. `address` is an address of this machine."""

    kube: Path
    etcd: Path
    folder: Path
    address: str
    port: int
    etcd_port: int
    etcd_peer_port: int
    audit: bool = False
    # An address that pods can reach makes the `kubernetes` Service work; loopback cannot be published.
    published: bool = False
    apiserver_flags: Sequence[str] = field(default_factory=tuple)

    @property
    def server(self) -> str:
        """The API server's address."""
        return f"https://{self.address}:{self.port}"

    @property
    def keys(self) -> Keys:
        """The key folder."""
        return Keys(self.folder / "keys")

    @property
    def audit_log(self) -> Path:
        """What was asked of the API server, one JSON object a line."""
        return self.folder / "logs" / "audit.log"

    def kubeconfig_of(self, name: str) -> Path:
        """The kubeconfig of a component."""
        return self.folder / "keys" / f"{name}.kubeconfig"


def etcd(layout: ControlPlaneLayout) -> Program:
    """The store. Without fsync: a cluster of this kind never outlives a crash of the machine."""
    client = f"https://127.0.0.1:{layout.etcd_port}"
    peer = f"http://127.0.0.1:{layout.etcd_peer_port}"
    keys = layout.keys
    return Program(
        name="etcd",
        argv=(
            str(layout.etcd), "--name=local", f"--data-dir={layout.folder / 'etcd'}", "--unsafe-no-fsync",
            f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
            f"--cert-file={keys.path('etcd.crt')}", f"--key-file={keys.path('etcd.key')}",
            "--client-cert-auth", f"--trusted-ca-file={keys.path('ca.crt')}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=local={peer}",
            "--log-level=warn", "--logger=zap", "--auto-compaction-mode=revision", "--auto-compaction-retention=5000",
        ),
        stop_s=5.0,
    )  # fmt: skip


def apiserver(layout: ControlPlaneLayout) -> Program:
    """The API server."""
    keys = layout.keys
    argv = [
        str(layout.kube), "kube-apiserver",
        f"--etcd-servers=https://127.0.0.1:{layout.etcd_port}", f"--etcd-cafile={keys.path('ca.crt')}",
        f"--etcd-certfile={keys.path('etcd.crt')}", f"--etcd-keyfile={keys.path('etcd.key')}",
        f"--bind-address={layout.address}", f"--advertise-address={layout.address}", f"--secure-port={layout.port}",
        f"--tls-cert-file={keys.path('server.crt')}", f"--tls-private-key-file={keys.path('server.key')}",
        f"--client-ca-file={keys.path('ca.crt')}", f"--token-auth-file={keys.path('tokens.csv')}",
        f"--service-account-issuer={ISSUER}", f"--service-account-key-file={keys.path('service-account.pub')}",
        f"--service-account-signing-key-file={keys.path('service-account.key')}",
        "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
        f"--service-cluster-ip-range={SERVICE_RANGE}", "--service-node-port-range=30000-32767",
        f"--kubelet-client-certificate={keys.path('kubelet-client.crt')}",
        f"--kubelet-client-key={keys.path('kubelet-client.key')}",
        "--kubelet-preferred-address-types=InternalIP", "--shutdown-delay-duration=0s",
        # It waits for progress messages that the etcd of Debian 12 does not send, and asks again every three seconds.
        "--feature-gates=SizeBasedListCostEstimate=false",
        *layout.apiserver_flags,
    ]  # fmt: skip
    if not layout.published:
        argv.append("--endpoint-reconciler-type=none")
    if layout.audit:
        argv += [
            f"--audit-policy-file={keys.path('audit-policy.json')}", f"--audit-log-path={layout.audit_log}",
            "--audit-log-maxsize=500", "--audit-log-maxbackup=1",
        ]  # fmt: skip
    return Program(name="kube-apiserver", argv=tuple(argv), stop_s=10.0)


def controller_manager(layout: ControlPlaneLayout) -> Program:
    """Deployments to pods, garbage collection, service-account tokens and the rest."""
    config = layout.kubeconfig_of("kube-controller-manager")
    keys = layout.keys
    return Program(
        name="kube-controller-manager",
        argv=(
            str(layout.kube), "kube-controller-manager", "--secure-port=0", "--leader-elect=false",
            f"--kubeconfig={config}", f"--authentication-kubeconfig={config}", f"--authorization-kubeconfig={config}",
            "--use-service-account-credentials", f"--root-ca-file={keys.path('ca.crt')}",
            f"--service-account-private-key-file={keys.path('service-account.key')}",
            f"--cluster-signing-cert-file={keys.path('ca.crt')}", f"--cluster-signing-key-file={keys.path('ca.key')}",
            "--concurrent-deployment-syncs=10", "--concurrent-replicaset-syncs=10",
            "--kube-api-qps=200", "--kube-api-burst=400",
            # Of a test's own control plane the nodes are fake: on a busy machine their signs of life come late, and
            # every pod of a node that is held for dead would be unready from then on.
            *(() if layout.published else ("--node-monitor-grace-period=10m",)),
        ),
        stop_s=3.0,
    )  # fmt: skip


def scheduler(layout: ControlPlaneLayout) -> Program:
    """Pods to nodes."""
    config = layout.kubeconfig_of("kube-scheduler")
    return Program(
        name="kube-scheduler",
        argv=(
            str(layout.kube), "kube-scheduler", "--secure-port=0", "--leader-elect=false",
            f"--kubeconfig={config}", f"--authentication-kubeconfig={config}", f"--authorization-kubeconfig={config}",
            "--kube-api-qps=200", "--kube-api-burst=400",
        ),
        stop_s=3.0,
    )  # fmt: skip


def kwok(layout: ControlPlaneLayout, program: Path) -> Program:
    """Fake nodes: pods bound to them are said to run, and nothing runs."""
    return Program(
        name="kwok",
        argv=(
            str(program), f"--kubeconfig={layout.kubeconfig_of('kwok')}", "--server-address=",
            f"--config={program.parent / 'kwok-stages.yaml'}",
            "--manage-all-nodes=false", "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            "--node-lease-duration-seconds=40",
        ),
        # Its own configuration folder would be made in the user's home.
        env={"KWOK_WORKDIR": str(layout.folder / "kwok")},
        stop_s=3.0,
    )  # fmt: skip


def fake_nodes(count: int) -> str:
    """The Node objects that kwok makes ready, as JSON."""
    nodes = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": f"kwok-{number}",
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {
                    "type": "kwok",
                    "kubernetes.io/hostname": f"kwok-{number}",
                    "kubernetes.io/os": "linux",
                    "kubernetes.io/arch": "amd64",
                },
            },
            "status": {
                name: {"cpu": "1000", "memory": "4Ti", "pods": "100000"} for name in ("allocatable", "capacity")
            },
        }
        for number in range(count)
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes})
