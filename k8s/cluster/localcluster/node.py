"""The node's programs and their configuration files: containerd, the CNI network, kubelet, kube-proxy, volumes.

Pure but for `write`, which writes the files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localcluster.components import SERVICE_RANGE
from localcluster.host import BRIDGE, NODE_ADDRESS, POD_RANGE
from localcluster.images import PAUSE
from localcluster.places import SYSTEM_PATHS, Places
from localcluster.processes import Program

NODE = "node-1"
DNS_ADDRESS = "10.96.0.10"
CNI_PLUGINS = "/usr/lib/cni"
PROVISIONER = "marketfeed.dev/directory"


@dataclass(frozen=True, slots=True)
class NodeLayout:
    """Where the node keeps its files."""

    places: Places
    kube: Path
    containerd: Path

    @property
    def folder(self) -> Path:
        """Everything of the node but containerd's content."""
        return self.places.run / "node"

    @property
    def socket(self) -> Path:
        """Where containerd listens."""
        return self.places.run / "containerd.sock"

    @property
    def volumes(self) -> Path:
        """The directories of the default storage class."""
        return self.places.run / "volumes"

    @property
    def tables(self) -> Path:
        """The iptables programs of whoever enforces NetworkPolicies."""
        return self.folder / "tables"

    def kubeconfig_of(self, name: str) -> Path:
        """The kubeconfig of a component."""
        return self.places.run / "keys" / f"{name}.kubeconfig"


def containerd_config(layout: NodeLayout) -> str:
    """containerd's configuration: everything in our folders, runc, no AppArmor, its network namespaces, too."""
    state = layout.folder / "containerd"
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""version = 2
root = "{layout.places.containerd}"
state = "{state}"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt"]
[grpc]
  address = "{layout.socket}"
[{cri}]
  sandbox_image = "{PAUSE.name}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
[{cri}.containerd]
  snapshotter = "overlayfs"
[{cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[{cri}.containerd.runtimes.runc.options]
  SystemdCgroup = false
  Root = "{state}/runc"
[{cri}.cni]
  bin_dir = "{CNI_PLUGINS}"
  conf_dir = "{layout.folder}/cni"
"""


def cni_config(layout: NodeLayout) -> Mapping[str, object]:
    """The pods' network: a bridge, addresses from one range, host ports."""
    address = {
        "type": "host-local",
        "dataDir": str(layout.folder / "addresses"),
        "ranges": [[{"subnet": POD_RANGE, "gateway": NODE_ADDRESS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": address,
    }
    return {
        "cniVersion": "0.4.0",
        "name": layout.places.label,
        "plugins": [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}],
    }


def kubelet_config(layout: NodeLayout) -> Mapping[str, object]:
    """kubelet's configuration; what differs from the defaults is there for a machine that is not a server."""
    keys = layout.places.run / "keys"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(keys / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": str(layout.folder / "resolv.conf"),
        "containerRuntimeEndpoint": f"unix://{layout.socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.places.label}",
        "failSwapOn": False,
        "failCgroupV1": False,
        "oomScoreAdj": 0,
        # Inside a container or a small virtual machine some rights over the kernel are missing; kubelet goes on.
        "featureGates": {"KubeletInUserNamespace": True},
        "localStorageCapacityIsolation": False,
        "podLogsDir": str(layout.folder / "pod-logs"),
        "volumePluginDir": str(layout.folder / "volume-plugins"),
        "containerLogMaxSize": "20Mi",
        "maxPods": 240,
        # Nothing can be pulled again, so images are never thrown away for room.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "serializeImagePulls": False,
        "maxParallelImagePulls": 3,
        "enableControllerAttachDetach": True,
    }


def resolvers(resolv_conf: str) -> list[str]:
    """The name servers that a pod can ask, too: none on loopback, where CoreDNS would ask itself."""
    words = [line.split() for line in resolv_conf.splitlines()]
    found = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
    return [address for address in found if not address.startswith("127.") and address != "::1"]


def write(layout: NodeLayout, resolv_conf: str) -> None:
    """Write the node's configuration files."""
    (layout.folder / "cni").mkdir(parents=True, exist_ok=True)
    layout.volumes.mkdir(exist_ok=True)
    (layout.folder / "containerd.toml").write_text(containerd_config(layout))
    (layout.folder / "cni" / "10-marketfeed.conflist").write_text(json.dumps(cni_config(layout), indent=1))
    (layout.folder / "kubelet.json").write_text(json.dumps(kubelet_config(layout), indent=1))
    lines = [f"nameserver {address}\n" for address in resolvers(resolv_conf)]
    (layout.folder / "resolv.conf").write_text("".join(lines))


def _system_env() -> Mapping[str, str]:
    return {"PATH": SYSTEM_PATHS}


def containerd(layout: NodeLayout) -> Program:
    """The container runtime."""
    return Program(
        name="containerd",
        argv=(str(layout.containerd), f"--config={layout.folder / 'containerd.toml'}", "--log-level=warn"),
        env=_system_env(),
        stop_s=10.0,
    )


def kubelet(layout: NodeLayout) -> Program:
    """The node's agent."""
    return Program(
        name="kubelet",
        argv=(
            str(layout.kube), "kubelet", f"--config={layout.folder / 'kubelet.json'}",
            f"--kubeconfig={layout.kubeconfig_of('kubelet')}", f"--root-dir={layout.folder / 'kubelet'}",
            f"--cert-dir={layout.folder / 'kubelet-keys'}", f"--hostname-override={NODE}", f"--node-ip={NODE_ADDRESS}",
        ),
        env=_system_env(),
        stop_s=5.0,
    )  # fmt: skip


def kube_proxy(layout: NodeLayout) -> Program:
    """Services' addresses. The zeros leave the machine's connection tracking as it is."""
    return Program(
        name="kube-proxy",
        argv=(
            str(layout.kube), "kube-proxy", f"--kubeconfig={layout.kubeconfig_of('kube-proxy')}",
            f"--hostname-override={NODE}", "--proxy-mode=iptables", f"--cluster-cidr={POD_RANGE}",
            "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0", "--iptables-localhost-nodeports=false",
            f"--nodeport-addresses={NODE_ADDRESS}/32", f"--healthz-bind-address={NODE_ADDRESS}:10256",
            f"--metrics-bind-address={NODE_ADDRESS}:10249",
        ),
        env=_system_env(),
        stop_s=5.0,
    )  # fmt: skip


def directory_volumes(layout: NodeLayout) -> Program:
    """The default storage class's provisioner."""
    return Program(
        name="directory-volumes",
        argv=(
            str(layout.kube), "directory-volumes", f"--kubeconfig={layout.kubeconfig_of('directory-volumes')}",
            f"--provisioner={PROVISIONER}", f"--root={layout.volumes}", f"--node={NODE}",
        ),
        stop_s=3.0,
    )  # fmt: skip


def network_policies(layout: NodeLayout) -> Program:
    """NetworkPolicies, by kube-router's firewall alone: routes and Services are others' business here."""
    return Program(
        name="kube-router",
        argv=(
            str(layout.places.bin / "kube-router"), "--run-firewall=true", "--run-router=false",
            "--run-service-proxy=false", f"--kubeconfig={layout.kubeconfig_of('kube-router')}",
            f"--hostname-override={NODE}", f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--health-port=0", "--metrics-port=0",
        ),
        env={"PATH": f"{layout.tables}:{SYSTEM_PATHS}"},
        stop_s=5.0,
    )  # fmt: skip
