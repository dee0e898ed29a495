"""NetworkPolicies where the cluster enforces them: what may not talk to each other does not, and what may does."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Iterator

import pytest
from tests.e2e.cluster.conftest import delete_namespace
from tests.e2e.cluster.feeds import FEED_PORT, HEALTH_PORT, STORES, Feed, manifest, tool_pod
from tests.e2e.cluster.kube import Cluster, Object

from localcluster.places import default_places

pytestmark = [pytest.mark.level(2), pytest.mark.timeout(300)]

PLACE_OF = {place.rpartition(":")[0]: place for place in STORES}
KAFKA = next(name for name in PLACE_OF if name.endswith("kafka"))
SERVER_PORT = 8000
# Prints which of its arguments host:port let it connect. Refused and unanswered are the same: policies do either.
_REACH = """
import socket, sys
for place in sys.argv[1:]:
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 3).close()
        print(place)
    except OSError:
        pass
"""
_SERVE = f"""
import socket
listening = socket.create_server(("", {SERVER_PORT}))
while True:
    listening.accept()[0].close()
"""


def reached(cluster: Cluster, pod: str, *places: str) -> set[str]:
    """Which of the places host:port a pod can connect to."""
    return set(cluster.kubectl("exec", pod, "--", "python3", "-c", _REACH, *places).split())


def standing(cluster: Cluster, labels: dict[str, str], namespace: str | None = None) -> Object:
    """A pod that listens on SERVER_PORT and stays, ready."""
    inside = cluster.within(namespace or cluster.namespace)
    name = f"stands-{secrets.token_hex(3)}"
    pod = tool_pod(name, "nobody", [])
    pod["metadata"]["labels"] = labels
    pod["spec"]["terminationGracePeriodSeconds"] = 0
    pod["spec"]["containers"][0]["command"] = ["python3", "-c", _SERVE]
    inside.apply(pod)
    inside.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s", timeout_s=70)
    return inside.get("pod", name)


def name_of(pod: Object) -> str:
    """The name of a pod."""
    name: str = pod["metadata"]["name"]
    return name


def place_of(pod: Object, port: int) -> str:
    """Where a pod would be reached on a port."""
    return f"{pod['status']['podIP']}:{port}"


@pytest.fixture(scope="module")
def stranger(installation: Cluster) -> Iterator[Object]:
    """A pod of nobody's, beside the feed. Skips where a policy that denies everything keeps it from nothing."""
    server = standing(installation, {"app": "guarded"})
    pod = standing(installation, {"app": "stranger"})
    place = place_of(server, SERVER_PORT)
    installation.until("pods reach each other without a policy", lambda: reached(installation, name_of(pod), place), 30)
    spec = {"podSelector": {"matchLabels": {"app": "guarded"}}, "policyTypes": ["Ingress"]}
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "guard"},
        "spec": spec,
    }
    installation.apply(policy)
    try:
        try:
            installation.until("it denies", lambda: not reached(installation, name_of(pod), place), 30)
        except AssertionError:
            # The local cluster does enforce them; where it seems not to, something is wrong with it.
            if installation.kubeconfig.resolve() == default_places().kubeconfig.resolve():
                raise
            pytest.skip("the cluster accepts NetworkPolicies and does not enforce them")
        yield pod
    finally:
        installation.kubectl("delete", "networkpolicy/guard", f"pod/{name_of(server)}", f"pod/{name_of(pod)}")


@pytest.fixture(scope="module")
def feed(installation: Cluster, stranger: Object) -> Iterator[Feed]:
    """A small feed that runs under its policies."""
    assert stranger
    installation.apply(manifest("guarded", rate=200, symbols=5))
    found = Feed(installation, "guarded")
    found.ready_within(90)
    yield found
    installation.kubectl("delete", "marketfeed", found.name)


def shut(feed: Feed, pod: str, *places: str) -> None:
    """The pod reaches none of them. A policy may take a moment until every node has it."""
    feed.cluster.until(f"{pod} reaches none of {places}", lambda: not reached(feed.cluster, pod, *places), 15)


def open_to(feed: Feed, pod: str, *places: str) -> None:
    """The pod reaches all of them."""
    feed.cluster.until(f"{pod} reaches {places}", lambda: reached(feed.cluster, pod, *places) == set(places), 15)


def test_a_stranger_reaches_mds_and_nothing_else(feed: Feed, stranger: Object) -> None:
    """Neither generator nor stores nor any pod's health port; mds is the way in, by HTTP and gRPC."""
    pods = [pod for part in ("ingest", "recorder", "mds", "generator") for pod in feed.pods(part)]
    assert len(pods) == 4
    denied = [f"{feed.generator}:{FEED_PORT}", *STORES, *(place_of(pod, HEALTH_PORT) for pod in pods)]
    shut(feed, name_of(stranger), *denied)
    open_to(feed, name_of(stranger), f"{feed.name}-mds:8080", f"{feed.name}-mds:50051")
    print(f"\n{len(denied)} places shut, mds open")


def test_tools_of_a_feed_reach_its_generator_and_those_of_another_do_not(feed: Feed) -> None:
    """The label of a feed opens its own generator; the stores are open to the pods of every feed."""
    generator = f"{feed.generator}:{FEED_PORT}"
    own = name_of(standing(feed.cluster, {"marketfeed.dev/feed": feed.name}))
    other = name_of(standing(feed.cluster, {"marketfeed.dev/feed": "another"}))
    open_to(feed, own, generator, *STORES)
    open_to(feed, other, *STORES)
    shut(feed, other, generator)
    feed.cluster.kubectl("delete", "pod", own, other)


@pytest.mark.parametrize(
    ("part", "allowed"),
    [
        ("ingest", ["generator", KAFKA]),
        ("recorder", [*PLACE_OF]),
        ("mds", [*PLACE_OF]),
        ("generator", []),
    ],
)
def test_a_part_reaches_what_it_needs_and_nothing_else(
    feed: Feed, stranger: Object, part: str, allowed: list[str]
) -> None:
    """Out of a pod lead the edges of the pipeline only: not to a stranger, not to a store that is not its business."""
    places = {"generator": f"{feed.generator}:{FEED_PORT}", **PLACE_OF}
    (pod,) = feed.pods(part)
    others = {name: place for name, place in places.items() if name not in allowed and name != part}
    shut(feed, name_of(pod), place_of(stranger, SERVER_PORT), *others.values())
    if allowed:
        open_to(feed, name_of(pod), *(places[name] for name in allowed))
    print(f"\n{part}: open {allowed}, shut {sorted(others)} and a stranger")


def test_the_stores_are_for_feeds_of_their_namespace(feed: Feed, cluster: Cluster) -> None:
    """A pod of another namespace reaches none of them, though it carries a feed's label."""
    elsewhere = f"mf-else-{secrets.token_hex(3)}"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": elsewhere}})
    inside = cluster.within(elsewhere)
    try:
        pod = name_of(standing(cluster, {"marketfeed.dev/feed": feed.name}, elsewhere))
        far = [place.replace(":", f".{feed.cluster.namespace}:") for place in STORES]
        mds = f"{feed.name}-mds.{feed.cluster.namespace}:8080"
        inside.until("mds is reached", functools.partial(reached, inside, pod, mds), 15)
        inside.until("no store is", lambda: not reached(inside, pod, *far), 15)
    finally:
        delete_namespace(inside)
