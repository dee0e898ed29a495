"""kubectl and helm as the tests use them: a cluster that `KUBECONFIG` names, whatever made it.

Everything goes through the two command line clients that a platform engineer uses, so a test's steps can be repeated
by hand. Each call has a timeout; a failed one shows what the client said.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Object = dict[str, Any]

GROUP = "marketfeed.dev"
_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


class CommandFailed(AssertionError):
    """A client ended with an error; `said` is what it wrote to stderr."""

    def __init__(self, command: Sequence[str], code: int, said: str) -> None:
        super().__init__(f"{' '.join(command)}: exit {code}: {said}")
        self.code = code
        self.said = said


@dataclass(frozen=True)
class Cluster:
    """A cluster, and a namespace in it that unqualified names are looked up in."""

    kubeconfig: Path
    namespace: str = "default"
    tools: Path | None = None

    def within(self, namespace: str) -> Cluster:
        """The same cluster, seen from another namespace."""
        return Cluster(self.kubeconfig, namespace, self.tools)

    def kubectl(self, *arguments: str, text: str | None = None, timeout_s: float = 60) -> str:
        """What kubectl printed. Raises CommandFailed."""
        return self._run([self._tool("kubectl"), "-n", self.namespace, *arguments], text, timeout_s)

    def helm(self, *arguments: str, timeout_s: float = 300) -> str:
        """What helm printed. Raises CommandFailed."""
        return self._run([self._tool("helm"), "-n", self.namespace, *arguments], None, timeout_s)

    def get(self, kind: str, name: str) -> Object:
        """One object. Raises CommandFailed if it is not there."""
        found: Object = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return found

    def find(self, kind: str, name: str) -> Object | None:
        """One object, None if it is not there."""
        printed = self.kubectl("get", kind, name, "-o", "json", "--ignore-not-found")
        return json.loads(printed) if printed.strip() else None

    def objects(self, kind: str, selector: str = "") -> list[Object]:
        """The objects of a kind, by label selector."""
        chosen = ("-l", selector) if selector else ()
        items: list[Object] = json.loads(self.kubectl("get", kind, *chosen, "-o", "json"))["items"]
        return items

    def apply(self, *objects: Mapping[str, Any]) -> str:
        """Server-side apply, as users are told to do it."""
        bundle = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        return self.kubectl("apply", "--server-side", "-f", "-", text=bundle)

    def pods(self, selector: str) -> list[Object]:
        """Pods that are not on their way out."""
        return [pod for pod in self.objects("pods", selector) if "deletionTimestamp" not in pod["metadata"]]

    def until(self, what: str, condition: Callable[[], T | None], timeout_s: float, every_s: float = 0.5) -> T:
        """Wait until `condition` gives something true; an API that does not answer counts as no."""
        deadline = time.monotonic() + timeout_s
        last = ""
        while True:
            try:
                if found := condition():
                    return found
            except (CommandFailed, subprocess.TimeoutExpired) as error:
                last = f" ({error})"
            assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}{last}\n{self.picture()}"
            time.sleep(every_s)

    def picture(self) -> str:
        """What a person would look at first: feeds, pods, the newest events."""
        parts = []
        for arguments in (
            ("get", "marketfeeds,pods", "-o", "wide"),
            ("get", "events", "--sort-by=.lastTimestamp"),
        ):
            try:
                parts.append("\n".join(self.kubectl(*arguments).splitlines()[-40:]))
            except (CommandFailed, subprocess.TimeoutExpired) as error:
                parts.append(str(error))
        return "\n".join(parts)

    @contextlib.contextmanager
    def forwarded(self, target: str, port: int) -> Iterator[int]:
        """A local port that leads to `port` of a pod or Service, as for a client outside of the cluster."""
        command = [self._tool("kubectl"), "-n", self.namespace, "port-forward", target, f":{port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self._env()) as process:
            assert process.stdout is not None
            try:
                said = process.stdout.readline().decode()
                match = _FORWARDING.search(said)
                assert match is not None, f"kubectl port-forward {target}: {said}"
                yield int(match[1])
            finally:
                process.terminate()

    def _run(self, command: list[str], text: str | None, timeout_s: float) -> str:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=timeout_s, env=self._env(), check=False
        )
        if done.returncode != 0:
            raise CommandFailed([Path(command[0]).name, *command[1:]], done.returncode, done.stderr.strip())
        return done.stdout

    def _tool(self, name: str) -> str:
        """The tool that was built for the local cluster, else the one on the PATH."""
        if self.tools is not None and (built := self.tools / name).exists():
            return str(built)
        found = shutil.which(name)
        assert found is not None, f"{name} is neither on the PATH nor built; `make cluster` builds it"
        return found

    def _env(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}


def kill_without_notice(cluster: Cluster, pods: Sequence[Object]) -> None:
    """SIGKILL to every process of the pods, where they are processes of this machine; else deletion without grace.

    A deletion without grace still lets kubelet send SIGTERM first, and a process uses even that moment to say goodbye.
    """
    for pod in pods:
        found = _processes_of(pod["metadata"]["uid"])
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if not found:
            cluster.kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force", "--wait=false")


def _processes_of(pod_uid: str) -> list[int]:
    """Processes of this machine in a pod's control groups, but for pause, which holds the namespaces."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cgroup"):
        with contextlib.suppress(OSError):
            if pod_uid in place.read_text() and place.with_name("comm").read_text().strip() != "pause":
                found.append(int(place.parent.name))
    return found


def condition(resource: Object | None, kind: str) -> Object:
    """The condition of a kind in an object's status, {} if there is none."""
    conditions = (resource or {}).get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == kind), {})


def is_true(resource: Object | None, kind: str) -> bool:
    """Whether a condition holds for the object as it is specified now."""
    found = condition(resource, kind)
    generation = (resource or {}).get("metadata", {}).get("generation")
    return found.get("status") == "True" and found.get("observedGeneration", generation) == generation
