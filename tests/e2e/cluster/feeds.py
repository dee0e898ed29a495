"""A MarketFeed as the tests use it: its manifest, and what can be seen and asked of the running feed."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.cluster.kube import GROUP, Cluster, CommandFailed, Object, condition, is_true

RELEASE = "mf"
IMAGE = "localhost/marketfeed:dev"
KAFKA = f"{RELEASE}-kafka:9092"
STORES = (KAFKA, f"{RELEASE}-redis:6379", f"{RELEASE}-postgres:5432")
HEALTH_PORT = 8081
FEED_PORT = 8090
RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_WAIT = """
import socket, sys, time
for place in sys.argv[1:]:
    host, _, port = place.rpartition(":")
    for _ in range(120):
        try:
            socket.create_connection((host, int(port)), 2).close()
            break
        except OSError:
            time.sleep(0.25)
"""
_LOST = re.compile(r"^(sent = log)\s+([\d,]+)\s+([\d,]+)\s+([\d,]+)\s+([\d,]+)\s+([\d,]+)", re.MULTILINE)


def secret_key(name: str, key: str) -> Object:
    """A reference to a key of a Secret."""
    return {"secretKeyRef": {"name": name, "key": key}}


def manifest(name: str, *, rate: float = 1000, symbols: int = 20, **spec: Any) -> Object:
    """A MarketFeed on the stores of the test's installation, fed by a generator of its own."""
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "MarketFeed",
        "metadata": {"name": name},
        "spec": {
            "source": {"generator": {"rate": rate, "symbols": symbols, "seed": 7}},
            "kafka": {"bootstrapServers": KAFKA, "partitions": 8},
            "redis": {"urlFrom": secret_key(f"{RELEASE}-redis", "url")},
            "postgres": {"urlFrom": secret_key(f"{RELEASE}-postgres", "url")},
            **spec,
        },
    }


@dataclass(frozen=True)
class Verdict:
    """What `marketfeed verify` found: its exit code, its report, and how much was compared."""

    code: int
    report: str

    @property
    def gaps(self) -> bool:
        """Whether the log marks any gap."""
        return "the log marks" in self.report

    @property
    def exact(self) -> bool:
        """Nothing missing, double or different, and nothing excused by a gap."""
        return self.code == 0 and not self.gaps

    def line(self) -> str:
        """The figures of `sent = log`, for the test's output."""
        match = _LOST.search(self.report)
        if match is None:
            return self.report
        cells, in_gaps, missing, double, different = match.groups()[1:]
        return f"{cells} cells: {in_gaps} short in gaps, {missing} missing, {double} double, {different} different"


@dataclass(frozen=True)
class Feed:
    """A MarketFeed in the cluster; `exchange` is the generator's Service that feeds it, by default its own one."""

    cluster: Cluster
    name: str
    exchange: str = ""

    @property
    def selector(self) -> str:
        """Labels of everything that belongs to it."""
        return f"marketfeed.dev/feed={self.name}"

    def component(self, component: str) -> str:
        """Labels of one of its parts."""
        return f"{self.selector},app.kubernetes.io/component={component}"

    def resource(self) -> Object:
        """The MarketFeed."""
        return self.cluster.get("marketfeed", self.name)

    def patch(self, change: Mapping[str, Any]) -> None:
        """A merge patch, as `kubectl edit` would send it."""
        self.cluster.kubectl("patch", "marketfeed", self.name, "--type=merge", "-p", json.dumps(change))

    def ready_within(self, timeout_s: float) -> float:
        """Wait as scripts do, by `kubectl wait`; seconds that it took."""
        begun = time.monotonic()
        self.cluster.kubectl(
            "wait", "--for=condition=Ready", f"marketfeed/{self.name}", f"--timeout={timeout_s:.0f}s",
            timeout_s=timeout_s + 10,
        )  # fmt: skip
        return time.monotonic() - begun

    def settled(self) -> Object | None:
        """The MarketFeed if it is Ready as now specified, and nothing is in progress."""
        resource = self.resource()
        done = is_true(resource, "Ready") and condition(resource, "Reconciling").get("status") == "False"
        return resource if done else None

    def status_of(self, pod: Object) -> Object | None:
        """/status of one of its pods by way of the API server's proxy; None while it does not answer."""
        name = pod["metadata"]["name"]
        path = f"/api/v1/namespaces/{self.cluster.namespace}/pods/{name}:{HEALTH_PORT}/proxy/status"
        try:
            found: Object = json.loads(self.cluster.kubectl("get", "--raw", path, timeout_s=10))
        except (CommandFailed, subprocess.TimeoutExpired, json.JSONDecodeError):
            return None
        return found

    def pods(self, component: str) -> list[Object]:
        """The pods of a part that are not on their way out."""
        return self.cluster.pods(self.component(component))

    def live_shards(self) -> dict[int, Object]:
        """/status of the ingest pods that publish for symbols, by shard."""
        found = {}
        for pod in self.pods("ingest"):
            status = self.status_of(pod)
            if status is not None and status["symbols"]["live"] > 0:
                found[int(pod["metadata"]["labels"]["marketfeed.dev/shard"])] = status
        return found

    @property
    def generator(self) -> str:
        """The Service of the generator that feeds it."""
        return self.exchange or f"{self.name}-generator"

    def generator_path(self, page: str) -> str:
        """Where a page of the generator is, by way of the API server's proxy."""
        return f"/api/v1/namespaces/{self.cluster.namespace}/services/{self.generator}:{FEED_PORT}/proxy/{page}"

    def told_by_generator(self) -> Object:
        """The totals of the generator's manifest, and its connections."""
        found: Object = json.loads(self.cluster.kubectl("get", "--raw", self.generator_path("manifest")))
        return found

    def stop_generator(self) -> None:
        """No more trades; the manifest is final then."""
        self.cluster.kubectl("create", "--raw", self.generator_path("stop"), "-f", "-", text="{}")

    def verify(self, *, lost_max: float = 0.0, from_s: int = 0, timeout_s: float = 180) -> Verdict:
        """Stop the generator, and compare what it sent with log and stores, by a pod in the cluster.

        `from_s`: the Unix second from which on the generator knows what was sent.
        """
        self.stop_generator()
        arguments = [
            "verify", "--feed", f"{self.cluster.namespace}.{self.name}", "--kafka", KAFKA,
            "--generator-url", f"http://{self.generator}:{FEED_PORT}", "--from-s", str(from_s),
            "--lost-max", str(lost_max), "--wait-s", "60",
        ]  # fmt: skip
        pod = tool_pod(f"{self.name}-verify-{secrets.token_hex(3)}", self.name, arguments, of_stores())
        let_in_first(pod, f"{self.generator}:{FEED_PORT}", *STORES)
        return Verdict(*ran(self.cluster, pod, timeout_s))


def of_stores() -> list[Object]:
    """Where the stores are, as environment of a pod that runs our tools."""
    return [
        {"name": "MARKETFEED_REDIS", "valueFrom": secret_key(f"{RELEASE}-redis", "url")},
        {"name": "MARKETFEED_POSTGRES", "valueFrom": secret_key(f"{RELEASE}-postgres", "url")},
    ]


def ran(cluster: Cluster, pod: Object, timeout_s: float = 90) -> tuple[int, str]:
    """Exit code and output of a pod's only container; the pod is gone afterwards."""
    name = pod["metadata"]["name"]
    cluster.apply(pod)
    ended = cluster.until(f"pod {name} ends", lambda: exit_code(cluster, name), timeout_s)
    said = cluster.kubectl("logs", name)
    cluster.kubectl("delete", "pod", name, "--wait=false")
    return ended[0], said


def program_pod(
    name: str, feed: str, program: Path, *arguments: str, environment: list[Object] | None = None
) -> Object:
    """A pod that runs a Python program of this folder with the packages of the product's image."""
    pod = tool_pod(f"{name}-{secrets.token_hex(3)}", feed, [], environment)
    pod["spec"]["containers"][0]["command"] = ["python3", "-c", program.read_text(), *arguments]
    return pod


def tool_pod(name: str, feed: str, arguments: list[str], environment: list[Object] | None = None) -> Object:
    """A pod that runs one command of the product's image under the restricted profile, as a part of the feed.

    It carries the feed's label, so the feed's NetworkPolicies let it in.
    """
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"marketfeed.dev/feed": feed, "app.kubernetes.io/component": "tool"}},
        "spec": {
            "restartPolicy": "Never",
            "enableServiceLinks": False,
            "automountServiceAccountToken": False,
            "securityContext": RESTRICTED,
            "containers": [
                {
                    "name": "tool",
                    "image": IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "args": arguments,
                    "env": environment or [],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


def let_in_first(pod: Object, *places: str) -> None:
    """Let a pod's container begin when all places host:port take connections from the pod.

    Who carries out NetworkPolicies may hear of a new pod after its first words, and our services try again anyway.
    """
    (container,) = pod["spec"]["containers"]
    waits = {**container, "name": "wait", "args": [], "command": ["python3", "-c", _WAIT, *places], "env": []}
    pod["spec"]["initContainers"] = [waits]


def exit_code(cluster: Cluster, pod: str) -> tuple[int] | None:
    """The exit code of a pod's only container, in a tuple so that 0 is something; None while it runs."""
    statuses = cluster.get("pod", pod)["status"].get("containerStatuses", [])
    terminated = statuses[0]["state"].get("terminated") if statuses else None
    return (int(terminated["exitCode"]),) if terminated else None


@dataclass
class Watcher:
    """A client pod that follows symbols through the feed's Service for the length of a test."""

    feed: Feed
    name: str

    @classmethod
    def start(cls, feed: Feed, symbols: list[str], channels: str = "quotes,bars_1s") -> Watcher:
        """Begin to watch."""
        name = f"{feed.name}-watch-{secrets.token_hex(3)}"
        url = f"ws://{feed.name}-mds:8080/v1/stream"
        arguments = ["watch", "--url", url, "--symbols", ",".join(symbols), "--channels", channels, "--format", "json"]
        feed.cluster.apply(tool_pod(name, feed.name, arguments))
        watcher = cls(feed, name)
        feed.cluster.until("the client sees a price", watcher.sees_a_price, 60)
        return watcher

    def messages(self) -> list[Object]:
        """What has come so far."""
        printed = self.feed.cluster.kubectl("logs", self.name)
        return [json.loads(line) for line in printed.splitlines() if line.startswith("{") and line.endswith("}")]

    def sees_a_price(self) -> bool:
        """Whether any price has come."""
        return any(message["type"] in ("quote", "snapshot") for message in self.messages())

    def stop(self) -> tuple[list[Object], Object]:
        """End it; all messages, and the summary."""
        self.feed.cluster.kubectl("exec", self.name, "--", "python3", "-c", "import os; os.kill(1, 15)")
        self.feed.cluster.until("the client ends", lambda: exit_code(self.feed.cluster, self.name), 30)
        messages = self.messages()
        self.feed.cluster.kubectl("delete", "pod", self.name, "--wait=false")
        return messages[:-1], messages[-1]
