"""The programs that are built from the Go module proxy, each pinned to a version and a checksum.

A module's checksum covers its go.sum, and so everything it is built from. `kube` is our own small module.
"""

from __future__ import annotations

from dataclasses import dataclass

KUBERNETES = "v1.34.4"


@dataclass(frozen=True, slots=True)
class GoTool:
    """A program of somebody else's module. `checksum` is the one that the Go checksum database knows."""

    name: str
    module: str
    version: str
    checksum: str
    package: str
    ldflags: str = ""
    # Folders with YAML files of the module that the program needs, joined into <name>-stages.yaml.
    stages: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """The module at its version."""
        return f"{self.module}@{self.version}"


TOOLS = (
    GoTool(
        "helm", "helm.sh/helm/v3", "v3.22.0", "h1:n1if5iQgHYsujPAcO5oonH/KiSNUmqmUF0iGVjSF3AU=", "./cmd/helm",
        ldflags="-X helm.sh/helm/v3/internal/version.version=v3.22.0",
    ),
    GoTool(
        "kubeconform", "github.com/yannh/kubeconform", "v0.8.0",
        "h1:loDYd3a3spjIFrauqW67CDKF55Oo9R6uvC8AvpVd4ug=", "./cmd/kubeconform",
    ),
    GoTool(
        "coredns", "github.com/coredns/coredns", "v1.15.0", "h1:OBT+OEyHVdUiVxPhrNlC5XZVq3RkSxzQXfZQ76gm5ck=", ".",
    ),
    GoTool(
        "kwok", "sigs.k8s.io/kwok", "v0.8.0", "h1:OTIOTwgROqPMovcTwxICx2eYQ4AwLpSx5EpjbDKF4SQ=", "./cmd/kwok",
        ldflags="-X sigs.k8s.io/kwok/pkg/consts.Version=v0.8.0",
        stages=("kustomize/stage/node/fast", "kustomize/stage/node/heartbeat-with-lease", "kustomize/stage/pod/fast"),
    ),
    GoTool(
        "kube-router", "github.com/cloudnativelabs/kube-router/v2", "v2.1.0",
        "h1:xWsptKtmZ44L+NjwFKoFAFlVdxCz8fka9A/eYJe95Ok=", "./cmd/kube-router",
        ldflags="-X github.com/cloudnativelabs/kube-router/v2/pkg/version.Version=v2.1.0",
    ),
)  # fmt: skip

_VERSION = "k8s.io/component-base/version"
KUBE_LDFLAGS = " ".join(
    f"-X {name}={value}"
    for name, value in {
        f"{_VERSION}.gitVersion": KUBERNETES,
        f"{_VERSION}.gitMajor": KUBERNETES.removeprefix("v").split(".")[0],
        f"{_VERSION}.gitMinor": KUBERNETES.split(".")[1],
        f"{_VERSION}.gitTreeState": "clean",
        "k8s.io/client-go/pkg/version.gitVersion": KUBERNETES,
    }.items()
)
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
