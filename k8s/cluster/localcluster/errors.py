"""What can go wrong with the local cluster, as sentences that say what to do."""

from __future__ import annotations

from pathlib import Path


class ClusterError(Exception):
    """Root of this package's errors; the message is for people."""


class Missing(ClusterError):
    """A program that is needed is not on this machine."""

    def __init__(self, program: str, remedy: str) -> None:
        super().__init__(f"{program} is missing: {remedy}")
        self.program = program


class ProcessDied(ClusterError):
    """A process of the cluster ended that should run."""

    def __init__(self, name: str, log: Path, last_words: str) -> None:
        said = f"; it said: {last_words}" if last_words else ""
        super().__init__(f"{name} ended{said} (log: {log})")
        self.name = name
        self.log = log


class NotReady(ClusterError):
    """Something did not become ready in time."""

    def __init__(self, what: str, timeout_s: float, reason: str) -> None:
        super().__init__(f"{what} was not ready within {timeout_s:.0f} s: {reason}")
        self.what = what


class CommandFailed(ClusterError):
    """A command ended with an error."""

    def __init__(self, command: str, code: int, output: str) -> None:
        super().__init__(f"`{command}` ended with exit code {code}: {output.strip()[-2000:]}")
        self.code = code
        self.output = output


class ForeignCluster(ClusterError):
    """Rules of another Kubernetes are on this machine; ours would fight with them."""

    def __init__(self, signs: str) -> None:
        super().__init__(
            f"another Kubernetes seems to run on this machine ({signs}): stop it first, "
            "or set KUBECONFIG and use that one"
        )


class NotRoot(ClusterError):
    """Containers, interfaces and rules need root."""

    def __init__(self) -> None:
        super().__init__("the local cluster needs root (use sudo), or kind: make cluster KIND=1")
