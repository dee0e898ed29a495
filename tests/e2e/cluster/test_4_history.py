"""Trade files by a MarketFeed: imported from a volume, replayed from a ConfigMap, each of them once."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.cluster.feeds import STORES, Feed, let_in_first, manifest, of_stores, program_pod, ran, tool_pod
from tests.e2e.cluster.kube import Cluster, Object, condition

pytestmark = [pytest.mark.level(2), pytest.mark.timeout(600)]

READER = Path(__file__).with_name("stored_bars.py")
SYMBOLS = ("AAA", "BBB")
TRADES_A_SECOND = 10
SECONDS = 600
SPEED = 30

# symbol, start (Unix s), open, high, low, close, volume, trades
Bar = tuple[str, int, float, float, float, float, float, int]


def trades_from(begin_s: int) -> list[tuple[str, int, int, int]]:
    """(symbol, Unix ms, price in cents, size), sorted by time."""
    step_ms = 1000 // TRADES_A_SECOND
    return [
        (symbol, begin_s * 1000 + at * step_ms, 10_000 + 500 * place + (at * 37 + place) % 113, 1 + at % 7)
        for at in range(SECONDS * TRADES_A_SECOND)
        for place, symbol in enumerate(SYMBOLS)
    ]


def csv_of(trades: list[tuple[str, int, int, int]]) -> bytes:
    """The file, with one line that is no trade."""
    lines = [f"{symbol},{stamp},{cents / 100:.2f},{size}" for symbol, stamp, cents, size in trades]
    return "\n".join(["symbol,event_ts,price,size", *lines[:100], "AAA,when,1.00,1", *lines[100:], ""]).encode()


def bars_of(trades: list[tuple[str, int, int, int]], length_s: int) -> list[Bar]:
    """The bars that the file makes, reckoned here on their own."""
    groups: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for symbol, stamp, cents, size in trades:
        groups.setdefault((symbol, stamp // 1000 // length_s * length_s), []).append((cents, size))
    made = []
    for (symbol, start), inside in sorted(groups.items()):
        prices = [cents / 100 for cents, _ in inside]
        volume = float(sum(size for _, size in inside))
        made.append((symbol, start, prices[0], max(prices), min(prices), prices[-1], volume, len(inside)))
    return made


def stored(feed: Feed, interval: str) -> tuple[list[Bar], set[str]]:
    """The feed's bars in PostgreSQL, and where they say that they are from."""
    feed_id = f"{feed.cluster.namespace}.{feed.name}"
    pod = program_pod("bars", feed.name, READER, feed_id, interval, environment=of_stores())
    let_in_first(pod, *STORES)
    code, said = ran(feed.cluster, pod)
    assert code == 0, said
    rows = [json.loads(line) for line in said.splitlines()]
    return [tuple(row[:-1]) for row in rows], {row[-1] for row in rows}  # type: ignore[misc]  # a row is a Bar


@pytest.fixture(scope="module")
def begin_s() -> int:
    """The full hour a day ago: young enough for every retention."""
    return int(time.time() - 86_400) // 3600 * 3600


@pytest.fixture
def volume(installation: Cluster, begin_s: int) -> Iterator[str]:
    """A claim that holds the file, compressed, written by a pod."""
    claim = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "trade-files"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}},
    }  # fmt: skip
    text = base64.b64encode(gzip.compress(csv_of(trades_from(begin_s)))).decode()
    script = "import base64, pathlib, sys; pathlib.Path('/data/day.csv.gz').write_bytes(base64.b64decode(sys.argv[1]))"
    pod = tool_pod("write-files", "nobody", [])
    pod["spec"]["securityContext"] |= {"fsGroup": 65532}
    pod["spec"]["volumes"] = [{"name": "files", "persistentVolumeClaim": {"claimName": "trade-files"}}]
    pod["spec"]["containers"][0] |= {
        "command": ["python3", "-c", script, text],
        "volumeMounts": [{"name": "files", "mountPath": "/data"}],
    }
    installation.apply(claim)
    code, said = ran(installation, pod)
    assert code == 0, said
    yield "trade-files"
    installation.kubectl("delete", "pvc", "trade-files", "--wait=false")


def history_of(feed: Feed) -> Object:
    """`status.history`, {} before there is one."""
    found: Object = feed.resource().get("status", {}).get("history", {})
    return found


def jobs(feed: Feed) -> dict[str, int]:
    """The Jobs that read files, by uid, and how many pods each has had."""
    found = feed.cluster.objects("jobs", feed.component("history"))
    pods = feed.cluster.objects("pods", feed.component("history"))
    owners = [pod["metadata"]["ownerReferences"][0]["uid"] for pod in pods]
    return {job["metadata"]["uid"]: owners.count(job["metadata"]["uid"]) for job in found}


def restart_the_operator(feed: Feed) -> None:
    """Replace the operator's pods, and wait until a new one has worked on the feed."""
    cluster, service = feed.cluster, f"{feed.name}-mds"
    name = cluster.objects("deployments", "app.kubernetes.io/name=marketfeed-operator")[0]["metadata"]["name"]
    cluster.kubectl("rollout", "restart", f"deployment/{name}")
    cluster.kubectl("rollout", "status", f"deployment/{name}", "--timeout=120s", timeout_s=130)
    cluster.kubectl("delete", "service", service)
    cluster.until("a new operator has made the Service again", lambda: cluster.find("service", service), 60)


def test_an_import_ends_with_its_bars_in_postgresql(
    new_feed: Callable[[Object], Feed], volume: str, begin_s: int
) -> None:
    """A compressed file of a volume: Ready when all is stored, bad lines told, bars exact; never run again."""
    trades = trades_from(begin_s)
    files = {"persistentVolumeClaim": volume, "paths": ["day.csv.gz"]}
    begun = time.monotonic()
    feed = new_feed(manifest("imported", source={"history": {"mode": "import", "files": files}}))
    feed.ready_within(120)
    print(f"\nimported {len(trades):,} trades, Ready {time.monotonic() - begun:.1f} s after apply")
    assert condition(feed.resource(), "Ready")["reason"] == "Finished"
    told = history_of(feed)
    print(told)
    assert told == {
        "phase": "Succeeded", "percent": "100.0", "rowsDone": len(trades), "rowsTotal": len(trades), "badLines": 1,
    }  # fmt: skip
    for interval, length_s in (("1s", 1), ("1m", 60)):
        assert stored(feed, interval) == (bars_of(trades, length_s), {"import"})
    before = jobs(feed)
    assert list(before.values()) == [1]
    restart_the_operator(feed)
    assert jobs(feed) == before
    feed.ready_within(60)


def test_a_replay_is_served_while_it_runs(
    installation: Cluster, new_feed: Callable[[Object], Feed], begin_s: int
) -> None:
    """A file of a ConfigMap through Kafka: Ready while it replays, progress told, then every bar stored and served."""
    trades = trades_from(begin_s)
    text = base64.b64encode(csv_of(trades)).decode()
    files = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "day"}, "binaryData": {"day.csv": text}}
    installation.apply(files)
    history = {"mode": "replay", "speed": str(SPEED), "files": {"configMap": "day", "paths": ["day.csv"]}}
    feed = new_feed(manifest("replayed", source={"history": history}))
    seen = feed.cluster.until("progress is told", functools.partial(under_way, feed), 90, every_s=0.25)
    print(f"\nunder way: {seen}")
    feed.ready_within(60)
    feed.cluster.until("all is read", lambda: history_of(feed).get("phase") == "Succeeded", 90)
    assert condition(feed.resource(), "Ready")["reason"] == "Finished"
    # Figures without a change of phase are written every 10 s.
    feed.cluster.until("the totals are told", lambda: history_of(feed)["rowsDone"] == len(trades), 15)
    assert history_of(feed)["badLines"] == 1
    expected = bars_of(trades, 1)
    feed.cluster.until("every bar is stored", lambda: len(stored(feed, "1s")[0]) == len(expected), 60, every_s=2)
    assert stored(feed, "1s") == (expected, {"live"})
    assert served(feed, "AAA", begin_s) == [bar[1:6] for bar in expected if bar[0] == "AAA"]
    before = jobs(feed)
    restart_the_operator(feed)
    assert jobs(feed) == before
    feed.cluster.kubectl("delete", "configmap", "day")


def under_way(feed: Feed) -> Object | None:
    """`status.history` while it says that a part is read."""
    told = history_of(feed)
    return told if told.get("phase") == "Running" and 0 < float(told.get("percent") or 0) < 100 else None


def served(feed: Feed, symbol: str, begin_s: int) -> list[tuple[int, float, float, float, float]]:
    """(start, open, high, low, close) that mds gives over HTTP."""
    query = f"symbol={symbol}&interval=1s&from={begin_s}&to={begin_s + SECONDS}"
    with feed.cluster.forwarded(f"service/{feed.name}-mds", 8080) as port:
        answer = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/bars?{query}", timeout=20))
    bars = answer["bars"]
    return list(zip(*(bars[name] for name in ("start", "open", "high", "low", "close")), strict=True))
