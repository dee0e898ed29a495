"""Ways in, through a real controller: what the chart `routes` makes is read by Traefik, and clients get through."""

from __future__ import annotations

import asyncio
import json
import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.e2e.cluster.conftest import ROOT
from tests.e2e.cluster.feeds import HEALTH_PORT, Feed, program_pod, ran
from tests.e2e.cluster.kube import Cluster, condition
from tests.e2e.cluster.ways_in import SECURE_PORT, WEB_PORT, Door, gateway_api, self_signed, traefik

pytestmark = [pytest.mark.level(2), pytest.mark.timeout(400)]

INGRESS, ROUTE, CALLS = "ingress.example", "route.example", "calls.example"
CALLS_PROGRAM = Path(__file__).with_name("balanced_calls.py")
SERVING = health_pb2.HealthCheckResponse.SERVING
# Longer than the 60 s after which HAProxy, nginx and Traefik's own read timeout would end what they take for idle.
SILENCE_S = 65.0


@pytest.fixture(scope="module")
def doors(cluster: Cluster, running_feed: Feed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Door]]:
    """The chart's objects for the running feed, accepted by Traefik; where clients find it."""
    inside = running_feed.cluster
    folder = tmp_path_factory.mktemp("routes")
    certificate, key = self_signed(folder, ROUTE)
    with ExitStack() as stack:
        stack.enter_context(gateway_api(cluster))
        proxy = stack.enter_context(traefik(cluster))
        inside.apply(
            {
                "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "ways-in"},
                "stringData": {"tls.crt": certificate, "tls.key": key},
            }
        )  # fmt: skip
        stack.callback(inside.helm, "uninstall", "routes", "--wait", "--ignore-not-found")
        install(inside, running_feed.name, folder)
        web = stack.enter_context(proxy.forwarded("deployment/traefik", WEB_PORT))
        secure = stack.enter_context(proxy.forwarded("deployment/traefik", SECURE_PORT))
        yield {
            "ingress": Door(INGRESS, web),
            "httproute": Door(ROUTE, web),
            "httproute, TLS": Door(ROUTE, secure, secure=True),
            "grpcroute": Door(CALLS, web),
            "nobody": Door("nobody.example", web),
        }


def install(inside: Cluster, feed: str, folder: Path) -> None:
    """The chart with everything that it can make; then wait until all of it is accepted."""
    values = {
        "feed": feed,
        "ingress": {"enabled": True, "className": "traefik", "controller": "traefik", "hosts": [INGRESS]},
        "gateway": {
            "create": True, "className": "traefik", "tls": {"secretName": "ways-in"},
            # Traefik wants the ports of its entry points, which are not privileged here.
            "httpPort": WEB_PORT, "httpsPort": SECURE_PORT,
        },
        "httpRoute": {"enabled": True, "hostnames": [ROUTE]},
        "grpcRoute": {"enabled": True, "hostnames": [CALLS]},
    }  # fmt: skip
    (folder / "values.json").write_text(json.dumps(values))
    chart = str(ROOT / "charts" / "routes")
    inside.helm("upgrade", "--install", "routes", chart, "-f", str(folder / "values.json"))
    name = f"routes-{feed}"
    inside.until("the Gateway is programmed", lambda: accepted(inside, "gateway", name, "Programmed"), 60)
    inside.until("the HTTPRoute is accepted", lambda: parent_accepts(inside, "httproute", f"{name}-http"), 60)
    inside.until("the GRPCRoute is accepted", lambda: parent_accepts(inside, "grpcroute", f"{name}-grpc"), 60)


def accepted(inside: Cluster, kind: str, name: str, what: str) -> bool:
    """Whether the object's own condition holds."""
    return condition(inside.find(kind, name), what).get("status") == "True"


def parent_accepts(inside: Cluster, kind: str, name: str) -> bool:
    """Whether the Gateway takes the route and finds its Service."""
    parents = (inside.find(kind, name) or {}).get("status", {}).get("parents", [])
    return bool(parents) and all(
        condition({"status": parent}, what).get("status") == "True"
        for parent in parents
        for what in ("Accepted", "ResolvedRefs")
    )


async def first_price(socket: aiohttp.ClientWebSocketResponse, symbol: str) -> float:
    """Subscribe, and wait for snapshot and quote; seconds that it took."""
    begun = time.monotonic()
    await socket.send_json({"type": "subscribe", "id": 1, "symbols": [symbol], "channels": ["quotes"]})
    wanted = {"snapshot", "quote"}
    async with asyncio.timeout(15):
        while wanted:
            wanted.discard(json.loads((await socket.receive()).data)["type"])
    return time.monotonic() - begun


@pytest.fixture(scope="module")
def symbol(running_feed: Feed) -> str:
    """A symbol of the running feed, to ask for."""
    with running_feed.cluster.forwarded(f"service/{running_feed.name}-mds", 8080) as port:
        answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/symbols", timeout=10)
        return str(json.load(answer)["symbols"][0]["symbol"])


@pytest.mark.parametrize("way", ["ingress", "httproute", "httproute, TLS"])
async def test_a_client_gets_prices(doors: dict[str, Door], symbol: str, way: str) -> None:
    """Through the Ingress, the HTTPRoute and the Gateway's TLS listener: a snapshot and live quotes."""
    async with doors[way].stream() as socket:
        print(f"\n{way}: snapshot and quote after {await first_price(socket, symbol):.2f} s")


async def test_a_host_that_nobody_routes_is_refused(doors: dict[str, Door]) -> None:
    """What gets through gets through by its route, and not because the controller sends everything to mds."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with doors["nobody"].stream():
            pass
    assert refused.value.status == 404


async def test_a_silent_client_is_left_alone(doors: dict[str, Door], symbol: str) -> None:
    """A client that only listens is still connected after more than a minute, by every way, and is then served."""

    async def keep_quiet(way: str) -> None:
        async with doors[way].stream() as socket:
            begun = time.monotonic()
            while (left := SILENCE_S - (time.monotonic() - begun)) > 0:
                message = await asyncio.wait_for(socket.receive(), left + 10)
                assert message.type is aiohttp.WSMsgType.TEXT, (
                    f"{way}: {message} after {time.monotonic() - begun:.0f} s"
                )
            await first_price(socket, symbol)

    async with asyncio.TaskGroup() as group:
        for way in ("ingress", "httproute", "httproute, TLS"):
            group.create_task(keep_quiet(way), name=way)


def test_grpc_goes_through_the_grpc_route(doors: dict[str, Door]) -> None:
    """Health is asked by its route's host name; the answer to an unknown service shows that mds itself was asked."""
    door = doors["grpcroute"]
    with grpc.insecure_channel(f"127.0.0.1:{door.port}", options=[("grpc.default_authority", door.host)]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "marketfeed.v1.MarketData"):
            assert stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status == SERVING
        with pytest.raises(grpc.RpcError) as refused:
            stub.Check(health_pb2.HealthCheckRequest(service="nobody.v1.Nothing"), timeout=10)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def checks_served(feed: Feed) -> dict[str, float]:
    """Health checks that each mds pod has served, by its own metrics."""
    found = {}
    for pod in feed.pods("mds"):
        name = pod["metadata"]["name"]
        path = f"/api/v1/namespaces/{feed.cluster.namespace}/pods/{name}:{HEALTH_PORT}/proxy/metrics"
        match = re.search(
            r'^marketfeed_mds_grpc_calls_total\{method="/grpc.health.v1.Health/Check"\} (\S+)$',
            feed.cluster.kubectl("get", "--raw", path), re.MULTILINE,
        )  # fmt: skip
        found[name] = float(match[1]) if match else 0.0
    return found


def test_grpc_is_balanced_by_the_client(running_feed: Feed) -> None:
    """Through the headless Service a client with round_robin spreads its calls evenly over two replicas."""
    inside = running_feed.cluster
    running_feed.patch({"spec": {"mds": {"replicas": 2}}})
    inside.until("two replicas of mds are ready", lambda: ready_replicas(running_feed) == 2, 90)
    before = checks_served(running_feed)
    assert len(before) == 2
    service = f"{running_feed.name}-mds-headless"
    code, said = ran(inside, program_pod("calls", running_feed.name, CALLS_PROGRAM, service))
    assert (code, said.strip()) == (0, "served 40 of 40")
    served = {pod: count - before[pod] for pod, count in checks_served(running_feed).items()}
    print(f"\nhealth checks by replica: {sorted(served.values())}")
    # Kubelet's own probes are HTTP, so nobody else calls.
    assert sum(served.values()) == 40
    assert min(served.values()) >= 15


def ready_replicas(feed: Feed) -> int:
    """Replicas of mds that take clients."""
    return int(feed.cluster.get("deployment", f"{feed.name}-mds")["status"].get("readyReplicas", 0))
