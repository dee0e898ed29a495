"""What one look decides: children and plan for a good feed, a problem for one that cannot become a pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from tests.unit.operator.schema_values import values

from marketfeed_operator.child_writer import ChildWriter
from marketfeed_operator.children_jobs import prepare
from marketfeed_operator.children_parts import PodDefaults
from marketfeed_operator.cluster_errors import ClusterError, of_status
from marketfeed_operator.event_recorder import EventRecorder
from marketfeed_operator.handlers import Key, Snapshot
from marketfeed_operator.kinds import BY_NAME, MARKETFEED, Kind
from marketfeed_operator.observed import FeedState
from marketfeed_operator.observed_objects import Observed, observe
from marketfeed_operator.poller import Poller, PollLimits
from marketfeed_operator.reconcile import Reconciler, decide
from marketfeed_operator.schema import part_schema
from marketfeed_operator.settings import OperatorSettings
from marketfeed_operator.spec import Spec, parse
from marketfeed_operator.spec_status import Reason
from marketfeed_operator.status_writer import StatusWriter

NOW = datetime(2026, 1, 2, tzinfo=UTC)
DEFAULTS = PodDefaults("localhost/marketfeed:dev")


def feed(**spec: Any) -> dict[str, Any]:
    whole = {
        "source": {"generator": {"symbols": 20}},
        "shards": 2,
        "kafka": {"bootstrapServers": "kafka:9092"},
        "redis": {"url": "redis://redis:6379"},
        "postgres": {"urlFrom": {"secretKeyRef": {"name": "postgres", "key": "url"}}},
        **spec,
    }
    return {"metadata": {"name": "x", "namespace": "n", "uid": "u", "generation": 1}, "spec": whole}


def test_a_good_feed_gets_a_plan_and_children() -> None:
    """All twenty symbols are planned; the plan's ConfigMap and the prepare Job are among what is to be applied."""
    decided = decide(feed(), FeedState(), DEFAULTS, NOW)
    assert decided.problem is None
    assert decided.planned is not None
    assert len(decided.planned.plan.assigned) == 20
    assert decided.desired is not None
    kinds = {child["kind"] for child in decided.desired.apply}
    assert {"ConfigMap", "Job", "Service", "NetworkPolicy"} <= kinds
    assert all(child["metadata"]["ownerReferences"][0]["uid"] == "u" for child in decided.desired.apply)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"shards": "many"}, None),
        ({"source": {}}, None),
        ({"symbolsFrom": {"configMapKeyRef": {"name": "nowhere", "key": "k"}}}, None),
        ({"symbolsFrom": {"configMapKeyRef": {"name": "there", "key": "k"}}}, "# nothing\n"),
    ],
    ids=["wrong type", "no source", "missing ConfigMap", "empty ConfigMap"],
)
def test_a_feed_that_cannot_become_a_pipeline_is_a_problem_and_touches_no_child(
    spec: dict[str, Any], text: str | None
) -> None:
    """The reason is InvalidSpec with a sentence, nothing is to be applied or deleted, and it is not tried again."""
    decided = decide(feed(**spec), FeedState(symbols_text=text), DEFAULTS, NOW)
    assert decided.problem is not None
    assert decided.problem.reason == Reason.INVALID_SPEC
    assert decided.problem.message
    assert decided.desired is None
    assert not decided.refused


@pytest.mark.parametrize(
    ("field", "spec"),
    [
        ("spec.kafka.bootstrapServers", {"kafka": {"bootstrapServers": "kafka:9092,other:99999"}}),
        ("spec.redis.url", {"redis": {"url": "redis://h:abc/0"}}),
        ("spec.redis.url", {"redis": {"url": "redis://h:0/0"}}),
        ("spec.observability.otlpEndpoint", {"observability": {"otlpEndpoint": "http://h:port/x"}}),
        (
            "spec.source.finnhub.url",
            {
                "source": {"finnhub": {"url": "wss://h:99999/", "apiKeys": [{"name": "k", "key": "a"}]}},
                "symbols": ["A"],
                "shards": 1,
            },
        ),
    ],
)
def test_a_port_that_is_none_is_a_problem_of_the_field_it_is_in(field: str, spec: dict[str, Any]) -> None:
    """The schema's patterns let it through; it must become a condition, not a crash that no user sees."""
    problem = decide(feed(**spec), FeedState(), DEFAULTS, NOW).problem
    assert problem is not None
    assert problem.reason == Reason.INVALID_SPEC
    assert field in problem.message
    assert "1 to 65535" in problem.message


def specs() -> st.SearchStrategy[dict[str, Any]]:
    """Specifications that the schema lets through, with one source as its rule wants it."""
    wanted = part_schema(Spec)
    sources = wanted["properties"]["source"]["properties"]
    one = st.one_of(values(its).map(lambda value, kind=kind: {kind: value}) for kind, its in sources.items())
    return st.tuples(values(wanted), one).map(lambda pair: {**pair[0], "source": pair[1]})


@examples(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
@given(spec=specs(), text=st.none() | st.text(max_size=40))
def test_whatever_the_schema_lets_through_becomes_children_or_a_problem(spec: dict[str, Any], text: str | None) -> None:
    """No specification crashes the decision: its user would see nothing but a status that stands still."""
    whole = {"metadata": {"name": "x", "namespace": "n", "uid": "u", "generation": 1}, "spec": spec}
    decided = decide(whole, FeedState(symbols_text=text), DEFAULTS, NOW)
    assert (decided.problem is None) == (decided.desired is not None)
    assert decided.problem is None or decided.problem.reason == Reason.INVALID_SPEC


class Server:
    """The API server with one feed: takes everything but the kinds in `errors`."""

    def __init__(self, **errors: ClusterError) -> None:
        self.errors = errors
        self.foreign: set[str] = set()
        self.children: tuple[Observed, ...] = ()
        self.no_events: ClusterError | None = None
        self.trouble: Callable[[], Awaitable[None]] | None = None
        self.applied: list[str] = []
        self.status: dict[str, Any] = {}
        self.events: list[tuple[str, str]] = []

    async def snapshot(self, key: Key) -> Snapshot:
        return Snapshot(observe(MARKETFEED, {"kind": "MarketFeed", "apiVersion": "v", **feed()}), self.children)

    async def refusal_of_pods(self, namespace: str, kind: str, name: str, uid: str) -> str | None:
        if self.no_events is not None:
            raise self.no_events
        return "exceeded quota: small"

    async def serves(self, kind: Kind) -> bool:
        if self.trouble is not None:
            await self.trouble()
        return True

    async def find_metadata(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        return {"metadata": {"name": name}} if kind.name in self.foreign else None

    async def merge(self, kind: Kind, namespace: str, name: str, change: dict[str, Any]) -> dict[str, Any]:
        raise of_status("PATCH", 404, "not there")

    async def apply(self, wanted: dict[str, Any], manager: str = "", status: bool = False) -> dict[str, Any]:
        if status:
            self.status = wanted["status"]
        elif error := self.errors.get(wanted["kind"]):
            raise error
        else:
            self.applied.append(wanted["kind"])
        return {**wanted, "metadata": {**wanted["metadata"], "uid": "c", "resourceVersion": "1"}}

    async def create(self, kind: Kind, namespace: str, body: dict[str, Any]) -> None:
        self.events.append((body["type"], body["reason"]))

    def condition(self, name: str) -> tuple[str, str]:
        (found,) = [one for one in self.status["conditions"] if one["type"] == name]
        return found["status"], found["reason"]


def reconciler(server: Any, limits: OperatorSettings | None = None) -> Reconciler:
    recorder = EventRecorder(server, "pod-1", lambda: 0.0)
    poller = Poller(8081, PollLimits(1.0, 1.0, 1, 1))
    settings, writer = limits or OperatorSettings(), StatusWriter(server, 5.0)
    return Reconciler(server, settings, server, ChildWriter(server), writer, recorder, poller)


async def test_a_webhook_that_is_down_is_told_in_the_status_and_the_rest_is_written() -> None:
    """The children of other kinds are applied, the condition says what did not succeed, and it is tried again."""
    server = Server(Job=of_status("PATCH", 500, "failed calling webhook", 7.0))
    outcome = await reconciler(server).reconcile(("n", "x"))
    assert (outcome.failed, outcome.at_least_s) == (True, 7.0)
    assert {"ConfigMap", "Service", "NetworkPolicy"} <= set(server.applied)
    assert server.condition("Ready") == ("False", Reason.UNAVAILABLE)
    assert server.condition("Stalled")[0] == "False"


async def test_a_pod_monitor_that_is_refused_is_a_warning_and_no_more() -> None:
    """The feed starts as it would without: only an event tells of the missing right."""
    server = Server(PodMonitor=of_status("PATCH", 403, "podmonitors is forbidden"))
    outcome = await reconciler(server).reconcile(("n", "x"))
    assert not outcome.failed
    assert server.condition("Ready") == ("False", Reason.PREPARING)
    assert ("Warning", "PodMonitorNotMade") in server.events


async def test_an_object_of_somebody_else_stalls_the_feed_and_is_named() -> None:
    """Ready and Stalled say which object is in the way; it is looked at again with back-off."""
    server = Server()
    server.foreign = {"PodDisruptionBudget", "Service"}
    outcome = await reconciler(server).reconcile(("n", "x"))
    assert outcome.failed
    assert "Service" not in server.applied
    assert server.condition("Ready") == ("False", Reason.REFUSED)
    assert server.condition("Stalled") == ("True", Reason.REFUSED)
    (stalled,) = [one for one in server.status["conditions"] if one["type"] == "Stalled"]
    assert "Service n/x-mds" in stalled["message"]


async def crash() -> None:
    raise KeyError("port")


async def hang() -> None:
    await asyncio.sleep(3600)


async def forbid() -> None:
    raise of_status("GET", 403, "configmaps is forbidden", 3.0)


@pytest.mark.parametrize(
    ("trouble", "reason", "pause_s"),
    [(crash, Reason.INTERNAL_ERROR, 0.0), (hang, Reason.UNAVAILABLE, 0.0), (forbid, Reason.FORBIDDEN, 3.0)],
)
async def test_what_ends_a_reconcile_is_told_in_the_status_and_tried_again(
    trouble: Callable[[], Awaitable[None]], reason: Reason, pause_s: float
) -> None:
    """A bug, a reconcile without end and a missing right each become a condition, an event and a failed outcome."""
    server = Server()
    server.trouble = trouble
    limits = OperatorSettings(reconcile_timeout_s=0.05) if trouble is hang else OperatorSettings()
    outcome = await reconciler(server, limits).reconcile(("n", "x"))
    assert (outcome.failed, outcome.at_least_s) == (True, pause_s)
    assert server.condition("Ready") == ("False", reason)
    assert reason in {told for _, told in server.events}
    server.trouble = None
    assert not (await reconciler(server).reconcile(("n", "x"))).failed
    assert server.condition("Ready") == ("False", Reason.PREPARING)


def job_without_pod() -> Observed:
    """The prepare Job, made long ago."""
    job = prepare(parse(feed()), DEFAULTS)
    made = {"uid": "job", "creationTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": "1"}
    return observe(BY_NAME["Job"], {**job, "metadata": {**job["metadata"], **made}, "status": {}})


@pytest.mark.parametrize("status", [None, 403, 500, 0])
async def test_a_job_without_a_pod_is_told_and_looked_at_again(status: int | None) -> None:
    """The reason is the API server's; where events may not be listed the rest of the work is done all the same."""
    server = Server()
    server.children = (job_without_pod(),)
    server.no_events = None if status is None else of_status("GET", status, "no events")
    outcome = await reconciler(server).reconcile(("n", "x"))
    assert not outcome.failed
    assert outcome.again_after_s is not None
    assert {"ConfigMap", "Service"} <= set(server.applied)
    expected = ("False", Reason.QUOTA_EXCEEDED if status is None else Reason.PREPARING)
    assert server.condition("Ready") == expected


async def test_a_plan_that_could_not_be_written_is_not_shown_and_not_counted() -> None:
    """Each try would count on from the one before, and say another plan."""
    server = Server(ConfigMap=of_status("PATCH", 500, "no"))
    its = reconciler(server)
    for _ in range(3):
        assert (await its.reconcile(("n", "x"))).failed
        assert "planRevision" not in server.status
    server.errors.clear()
    assert not (await its.reconcile(("n", "x"))).failed
    assert server.status["planRevision"] == 1
    assert server.events.count(("Normal", "Planned")) == 1
