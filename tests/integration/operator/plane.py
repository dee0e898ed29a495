"""What the operator's tests need of a cluster: an administrator, pods that come up, replicas of the operator."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import yaml
from prometheus_client.parser import text_string_to_metric_families

from marketfeed_operator.cluster import Cluster
from marketfeed_operator.cluster_errors import ClusterError
from marketfeed_operator.kinds import BY_NAME, MARKETFEED, Kind
from marketfeed_operator.settings import OperatorSettings

T = TypeVar("T")
Object = dict[str, Any]
ROOT = Path(__file__).parents[3]
NAMESPACE = Kind("Namespace", "v1", "namespaces")
SECRET = Kind("Secret", "v1", "secrets")
JOB = BY_NAME["Job"]
DEPLOYMENT = BY_NAME["Deployment"]
READY = [{"type": kind, "status": "True"} for kind in ("Initialized", "Ready", "ContainersReady", "PodScheduled")]

UNREADY = [
    {**one, "status": "False", "message": "containers with unready status"} if "Ready" in one["type"] else one
    for one in READY
]


def feed(name: str, namespace: str, **spec: Any) -> Object:
    """A MarketFeed with a generator of 20 symbols; `spec` overrules."""
    whole = {
        "source": {"generator": {"rate": 1000, "symbols": 20}},
        "shards": 1,
        "kafka": {"bootstrapServers": "kafka.example:9092"},
        "redis": {"url": "redis://redis.example:6379"},
        "postgres": {"urlFrom": {"secretKeyRef": {"name": "postgres", "key": "url"}}},
        **spec,
    }
    return {
        "apiVersion": MARKETFEED.group_version,
        "kind": MARKETFEED.name,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {part: value for part, value in whole.items() if value is not None},
    }


async def eventually(what: Callable[[], Awaitable[T]], within_s: float = 15.0, pause_s: float = 0.1) -> T:
    """The first result that is true; fails with the last one after `within_s`."""
    deadline = time.monotonic() + within_s
    while True:
        result = await what()
        if result:
            return result
        assert time.monotonic() < deadline, f"not within {within_s} s, last seen: {result!r}"
        await asyncio.sleep(pause_s)


@dataclass
class Admin:
    """An administrator's hands in one namespace."""

    cluster: Cluster
    namespace: str

    async def apply(self, wanted: Object) -> Object:
        """Apply as a user would."""
        return await self.cluster.apply(wanted, "test")

    async def get(self, kind: Kind, name: str) -> Object | None:
        """One object."""
        return await self.cluster.get(kind, self.namespace, name)

    async def merge(self, kind: Kind, name: str, change: Object) -> Object:
        """Merge a change into an object."""
        return await self.cluster.merge(kind, self.namespace, name, change, "test")

    async def delete(self, kind: Kind, name: str) -> None:
        """Delete an object that exists."""
        found = await self.get(kind, name)
        assert found is not None
        await self.cluster.delete(kind, self.namespace, name, found["metadata"]["uid"])

    async def names(self, kind: Kind) -> set[str]:
        """Names of all objects of a kind that the operator made here and that are not going."""
        listed = await self.cluster.list_metadata(
            kind, self.namespace, "app.kubernetes.io/managed-by=marketfeed-operator"
        )
        return {one["metadata"]["name"] for one in listed if "deletionTimestamp" not in one["metadata"]}

    async def condition(self, name: str, kind: str) -> Object:
        """A condition of a MarketFeed; empty if there is none yet."""
        found = await self.get(MARKETFEED, name)
        conditions = ((found or {}).get("status") or {}).get("conditions") or []
        return next((one for one in conditions if one["type"] == kind), {})

    async def is_condition(self, name: str, kind: str, status: str) -> bool:
        """Whether a condition has a status."""
        return (await self.condition(name, kind)).get("status") == status


class FakeKubelet:
    """Makes the pods of a namespace succeed (Jobs) or run and be ready, as a kubelet would after a moment.

    `hold(component)` keeps pods of a component waiting with a reason, as kubelet does for a missing secret;
    `fail(component)` ends them with an exit code, `unready(component)` lets them run and not be ready. A pod that has
    ended stays as it is.
    """

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._held: dict[str, str] = {}
        self._failing: dict[str, tuple[int, str]] = {}
        self._unready: set[str] = set()

    def hold(self, component: str, reason: str) -> None:
        """From now on new pods of the component wait for `reason`."""
        self._held[component] = reason

    def release(self, component: str) -> None:
        """Let them come up."""
        self._held.pop(component, None)
        self._failing.pop(component, None)
        self._unready.discard(component)

    def fail(self, component: str, code: int, last_words: str) -> None:
        """From now on pods of the component end like this."""
        self._failing[component] = code, last_words

    def unready(self, component: str) -> None:
        """From now on pods of the component run, and are not ready."""
        self._unready.add(component)

    async def run(self) -> None:
        """For ever."""
        while True:
            # The API server may be away on purpose; the next look mends it.
            with contextlib.suppress(ClusterError):
                await self._look()
            await asyncio.sleep(0.2)

    async def _look(self) -> None:
        pods = BY_NAME["Pod"]
        selector = "app.kubernetes.io/managed-by=marketfeed-operator"
        for listed in await self._admin.cluster.list_metadata(pods, self._admin.namespace, selector):
            metadata = listed["metadata"]
            found = await self._admin.get(pods, metadata["name"])
            if found is not None and "deletionTimestamp" not in metadata:
                wanted = self._status(found)
                shown = found.get("status") or {}
                if shown.get("phase") not in ("Succeeded", "Failed") and not _shows(shown, wanted):
                    await self._write(pods, metadata["name"], wanted)

    def _status(self, pod: Object) -> Object:
        component = pod["metadata"]["labels"].get("app.kubernetes.io/component", "")
        names = [container["name"] for container in pod["spec"]["containers"]]
        if component in self._held:
            waiting = {"waiting": {"reason": self._held[component], "message": "secret is not there"}}
            return {"phase": "Pending", "containerStatuses": [_state(name, False, waiting) for name in names]}
        if component in self._failing:
            code, words = self._failing[component]
            ended = {"terminated": {"exitCode": code, "reason": "Error", "message": words}}
            return {"phase": "Failed", "containerStatuses": [_state(name, False, ended) for name in names]}
        if pod["spec"].get("restartPolicy") in ("Never", "OnFailure"):
            done = {"terminated": {"exitCode": 0, "reason": "Completed"}}
            return {"phase": "Succeeded", "containerStatuses": [_state(name, False, done) for name in names]}
        running = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        ready = component not in self._unready
        states = [_state(name, ready, running) for name in names]
        return {
            "phase": "Running",
            "podIP": "127.0.0.1",
            "podIPs": [{"ip": "127.0.0.1"}],
            "conditions": READY if ready else UNREADY,
            "containerStatuses": states,
        }

    async def _write(self, kind: Kind, name: str, status: Object) -> None:
        path = kind.path(self._admin.namespace, name, "status")
        await self._admin.cluster._request("patch", path, {"status": status}, content="application/merge-patch+json")


def _state(name: str, ready: bool, state: Object) -> Object:
    return {
        "name": name, "ready": ready, "started": ready, "restartCount": 0, "image": "", "imageID": "", "state": state,
    }  # fmt: skip


def _shows(status: Object, wanted: Object) -> bool:
    def shown(of: Object) -> tuple[object, ...]:
        states = [(one["ready"], sorted(one["state"])) for one in of.get("containerStatuses") or ()]
        return of.get("phase"), of.get("podIP") or "", states

    return shown(status) == shown(wanted)


async def make_namespace(cluster: Cluster, name: str) -> Admin:
    """A fresh namespace."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    await cluster._request("post", "/api/v1/namespaces", body)
    return Admin(cluster, name)


async def connect(kubeconfig: Path) -> Cluster:
    """A cluster client for a kubeconfig."""
    os.environ["KUBECONFIG"] = str(kubeconfig)
    return await Cluster.connect(OperatorSettings(service_account_dir="/nonexistent"))


@dataclass
class Replica:
    """A replica of the operator as a process of its own."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    samples: dict[str, float] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where its pages are."""
        return f"http://127.0.0.1:{self.port}"

    async def page(self, path: str) -> tuple[int, str]:
        """Status and text of a page."""
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as response:
            return response.status, await response.text()

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        _, text = await self.page("/metrics")
        total = 0.0
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    total += sample.value
        return total

    async def leads(self) -> bool:
        """Whether it holds the Lease."""
        try:
            return await self.metric("marketfeed_operator_leader") == 1.0
        except aiohttp.ClientError:
            return False


@asynccontextmanager
async def replica(directory: Path, kubeconfig: Path | None, **settings: object) -> AsyncIterator[Replica]:
    """Run a replica until the block ends; SIGTERM then, which it has to obey in good time."""
    port = _free_port()
    log = directory / f"operator-{port}.log"
    env = {name: value for name, value in os.environ.items() if not name.startswith("MARKETFEED_")}
    env |= {f"MARKETFEED_OPERATOR_{name.upper()}": str(value) for name, value in settings.items()}
    env |= {"MARKETFEED_OPERATOR_HTTP_PORT": str(port), "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'services'}"}
    env.setdefault("MARKETFEED_OPERATOR_IDENTITY", f"replica-{port}")
    env.setdefault("MARKETFEED_OPERATOR_SERVICE_ACCOUNT_DIR", "/nonexistent")
    env["KUBECONFIG"] = str(kubeconfig) if kubeconfig else "/nonexistent"
    process = _spawn(env, log)
    try:
        yield Replica(process, port, log)
    finally:
        await _end(process, log)


def _spawn(env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "marketfeed_operator"]
    with log.open("wb") as out:
        return subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT)


async def _end(process: subprocess.Popen[bytes], log: Path) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        code = await asyncio.to_thread(process.wait, 25)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise AssertionError(f"the operator did not end after SIGTERM: {tail(log)}") from None
    assert code == 0, tail(log)


def tail(log: Path) -> str:
    """The end of a log."""
    return log.read_text()[-4000:]


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_kubeconfig(path: Path, server: str, ca: str | None, token: str | None) -> Path:
    """A kubeconfig for an address of the API server."""
    cluster: Object = {"server": server} | ({"certificate-authority": ca} if ca else {})
    user: Object = {"token": token} if token else {}
    text = yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
    )
    path.write_text(text)
    return path
