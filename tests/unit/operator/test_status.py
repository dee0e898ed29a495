"""The status: conditions that tools can wait for, sentences that people can act on, and figures of the shards."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.operator.feeds import FINNHUB, HISTORY, as_observed, done, feed_object, pod_of

from marketfeed_operator.children import desired
from marketfeed_operator.children_jobs import history, prepare
from marketfeed_operator.children_parts import PodDefaults
from marketfeed_operator.observed import FeedState, PodReading, podless_jobs
from marketfeed_operator.plan import next_plan
from marketfeed_operator.spec import InvalidSpec, parse, symbols_of
from marketfeed_operator.spec_status import CONDITIONS, MEANINGS, OVERFLOW_SHOWN, Reason
from marketfeed_operator.status import Problem, build, changed_materially
from marketfeed_operator.status_findings import findings, last_line
from marketfeed_operator.status_shards import history_status, published, shard_views

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DEFAULTS = PodDefaults("localhost/marketfeed:dev")
LIVE = {
    "phase": "live", "connected": True, "rate": 1234.5, "lag_s": 0.25, "last_event_age_s": 0.01,
    "symbols": {"plan_revision": 1, "hash": "abc"},
}  # fmt: skip
Answers = dict[str, dict[str, Any]]


def state_of(obj: dict[str, Any], answers: Answers | None = None, *more: dict[str, Any]) -> FeedState:
    """All children as desired, settled, each ingest pod with its answer (by `shard-member`, else LIVE)."""
    its = parse(obj)
    planned = next_plan(its, symbols_of(its), FeedState(), NOW)
    ready = FeedState((done(prepare(its, DEFAULTS)),))
    made = desired(its, ready, planned, DEFAULTS, NOW).apply
    objects = [as_observed(child) for child in made if child["kind"] != "Job"]
    pods, readings = [], {}
    for child in made:
        name = child["metadata"]["name"]
        if child["kind"] == "Deployment" and "-ingest-" in name:
            pod = pod_of(child)
            pods.append(pod)
            body = (answers or {}).get(name.partition("-ingest-")[2], LIVE)
            readings[pod["metadata"]["name"]] = PodReading(1.0, body)
    return FeedState((*ready.objects, *objects, *pods, *more), readings)


def status_of(
    obj: dict[str, Any], state: FeedState, previous: dict[str, Any] | None = None, now: datetime = NOW
) -> dict[str, Any]:
    its = parse(obj)
    planned = next_plan(its, symbols_of(its), state, now)
    wanted = desired(its, state, planned, DEFAULTS, now)
    return build(obj, state, now, DEFAULTS, feed=its, planned=planned, wanted=wanted, previous=previous)


def told(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {its["type"]: (its["status"], its["reason"]) for its in status["conditions"]}


def message(status: dict[str, Any], kind: str) -> str:
    return next(str(its["message"]) for its in status["conditions"] if its["type"] == kind)


def test_a_feed_that_serves_is_ready_and_at_rest() -> None:
    """All four conditions are there, with their generation; figures are those of the pods."""
    obj = feed_object(shards=2, symbols=["AAPL", "MSFT", "TSLA"])
    status = status_of(obj, state_of(obj))
    assert told(status) == {
        "Ready": ("True", "Serving"),
        "Reconciling": ("False", "AsSpecified"),
        "Stalled": ("False", "AsSpecified"),
        "Degraded": ("False", "AsSpecified"),
    }
    assert {its["observedGeneration"] for its in status["conditions"]} == {1}
    assert status["observedGeneration"] == 1
    assert (status["shards"], status["readyShards"], status["symbols"]) == (2, 2, 3)
    assert (status["rate"], status["lag"], status["source"]) == ("2469/s", "0.2s", "generator")
    assert status["selector"].endswith("marketfeed.dev/member=0")
    first = status["shardStatus"][0]
    assert (first["shard"], first["pod"], first["phase"]) == (0, "demo-ingest-0-0-pod", "live")
    assert (first["connected"], first["symbolsHash"], first["rate"]) == (True, "abc", "1234.5")


def test_a_new_feed_is_reconciling() -> None:
    """Before anything is there: not ready, in progress, and the sentence says what is waited for."""
    obj = feed_object()
    status = status_of(obj, FeedState())
    assert told(status)["Ready"] == ("False", "Preparing")
    assert told(status)["Reconciling"] == ("True", "Preparing")
    assert told(status)["Degraded"] == ("False", "AsSpecified")
    unstarted = state_of(obj, {"0-0": {"phase": "claiming", "connected": True}})
    assert told(status_of(obj, unstarted))["Ready"] == ("False", "Starting")
    assert "shard 0" in message(status_of(obj, unstarted), "Ready")


def test_times_change_with_the_status_of_a_condition_only() -> None:
    """The same judgement an hour later is the same condition, and nothing that would have to be written."""
    obj = feed_object()
    first = status_of(obj, FeedState())
    second = status_of(obj, FeedState(), first, NOW + timedelta(hours=1))
    assert second["conditions"] == first["conditions"]
    assert not changed_materially(first, second)
    third = status_of(obj, state_of(obj), second, NOW + timedelta(hours=2))
    times = {its["type"]: its["lastTransitionTime"] for its in third["conditions"]}
    assert times["Ready"] == times["Reconciling"] == "2026-11-25T14:00:00Z"
    assert times["Stalled"] == "2026-11-25T12:00:00Z"
    assert changed_materially(second, third)


def test_rates_and_lags_may_wait_for_their_turn() -> None:
    """What changes at every look is no reason to write at once; a condition or a plan that changes is."""
    obj = feed_object()
    one = status_of(obj, state_of(obj))
    busier = status_of(obj, state_of(obj, {"0-0": {**LIVE, "rate": 99.0, "lag_s": 3.0}}))
    assert busier["rate"] != one["rate"]
    assert not changed_materially(one, busier)
    said_else = {**one, "conditions": [{**its, "message": "for 9 s"} for its in one["conditions"]]}
    assert not changed_materially(one, said_else)
    restarted = {**one, "shardStatus": [{**its, "pod": "another"} for its in one["shardStatus"]], "readyShards": 0}
    assert not changed_materially(one, restarted)
    lost = status_of(obj, state_of(obj, {"0-0": {**LIVE, "connected": False}}))
    assert told(lost)["Ready"] == ("False", "Starting")
    assert changed_materially(one, lost)
    assert changed_materially(one, {**one, "planRevision": 2})


WAITING: list[tuple[dict[str, Any], str, str, bool]] = [
    ({"state": {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "pg" not found'}}},
     "SecretMissing", 'secret "pg" not found', True),
    ({"image": "no:1", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}}},
     "ImagePullFailed", "image no:1", True),
    ({"state": {"waiting": {"reason": "CrashLoopBackOff"}},
      "lastState": {"terminated": {"exitCode": 2, "message": "x\nMARKETFEED_RATE: is 'a'\n"}}},
     "ConfigurationRefused", "MARKETFEED_RATE: is 'a'", True),
    ({"state": {"waiting": {"reason": "CrashLoopBackOff"}},
      "lastState": {"terminated": {"exitCode": 1, "message": "Kafka at k:9092 is not available: no answer"}}},
     "KafkaUnreachable", "Kafka at k:9092", False),
    ({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 137}}},
     "CrashLoop", "exit code 137", False),
]  # fmt: skip


@pytest.mark.parametrize(("container", "reason", "says", "final"), WAITING)
def test_what_keeps_a_pod_from_running_is_told(container: dict[str, Any], reason: str, says: str, final: bool) -> None:
    """Quoted from the kubelet, with Stalled where somebody has to act, else in progress."""
    obj = feed_object()
    pod = pod_of(prepare(parse(obj), DEFAULTS), ready=False, phase="Pending", containerStatuses=[container])
    status = status_of(obj, FeedState((as_observed(prepare(parse(obj), DEFAULTS)), pod)))
    assert told(status)["Ready"] == ("False", reason)
    assert says in message(status, "Ready")
    assert told(status)["Stalled"][0] == ("True" if final else "False")
    assert told(status)["Reconciling"][0] == ("False" if final else "True")


@pytest.mark.parametrize(("container", "reason", "says", "final"), WAITING)
def test_a_feed_that_serves_is_ready_whatever_else_is_wrong(
    container: dict[str, Any], reason: str, says: str, final: bool
) -> None:
    """A standby or a new pod of mds that does not start takes nothing from what is served, and is told all the same."""
    obj = feed_object()
    base = state_of(obj)
    deployment = base.named("Deployment", "demo-mds")
    assert deployment is not None
    surge = pod_of(dict(deployment), ready=False, phase="Pending", containerStatuses=[container])
    status = status_of(obj, FeedState((*base.objects, surge), base.readings))
    assert told(status)["Ready"] == ("True", "Serving")
    assert told(status)["Stalled"] == (("True", reason) if final else ("False", "AsSpecified"))
    assert told(status)["Degraded"] == ("True", reason)
    assert says in message(status, "Degraded")


def test_a_feed_stays_ready_while_topics_and_tables_are_prepared_anew() -> None:
    """What ran before goes on; it is being prepared, and what that waits for is said."""
    obj = feed_object()
    before = state_of(obj)
    newer = feed_object(image="newer:1")
    status = status_of(newer, before)
    assert told(status)["Ready"] == ("True", "Serving")
    assert told(status)["Reconciling"] == ("True", "Preparing")
    job = prepare(parse(newer), DEFAULTS)
    pod = pod_of(job)
    waits = {pod["metadata"]["name"]: PodReading(1, {"waiting_for": {"kafka": "Kafka at k:9092 is not available: no"}})}
    status = status_of(newer, FeedState((*before.objects, as_observed(job), pod), {**before.readings, **waits}))
    assert told(status)["Ready"] == ("True", "Serving")
    assert told(status)["Reconciling"] == ("True", "Preparing")
    assert "Kafka at k:9092" in message(status, "Reconciling")
    fewer = tuple(its for its in before.objects if its["metadata"]["name"] != "demo-recorder")
    assert told(status_of(newer, FeedState(fewer, before.readings)))["Ready"] == ("False", "Preparing")


@pytest.mark.parametrize("mode", ["import", "replay"])
def test_files_that_were_read_stay_read_while_prepared_anew(mode: str) -> None:
    """A finished feed of files stays ready, one that failed does not become so."""
    source = {"history": {**HISTORY["history"], "mode": mode}}
    obj, newer = feed_object(source=source), feed_object(source=source, image="newer:1")
    job = history(parse(obj), DEFAULTS)
    base = state_of(obj)
    over = FeedState((*base.objects, done(job)), base.readings)
    assert told(status_of(newer, over))["Ready"] == ("True", "Finished")
    assert told(status_of(newer, over))["Reconciling"] == ("True", "Preparing")
    failed = FeedState((*base.objects, done(job, "Failed")), base.readings)
    assert told(status_of(obj, failed))["Ready"] == ("False", "HistoryFailed")


def test_quota_and_refused_pods_are_told() -> None:
    """A Deployment that gets no pod says why."""
    obj = feed_object()
    state = state_of(obj)
    deployment = state.named("Deployment", "demo-mds")
    assert deployment is not None
    for words, reason in (
        ("exceeded quota: small", "QuotaExceeded"),
        ('violates PodSecurity "restricted"', "PodRefused"),
    ):
        failure = [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": words}]
        refused = {**deployment, "status": {"conditions": failure}}
        others = tuple(its for its in state.objects if its is not deployment)
        status = status_of(obj, FeedState((*others, refused), state.readings))
        assert told(status)["Stalled"] == ("True", reason)
        assert words in message(status, "Stalled")


def test_a_job_without_its_pod_says_why() -> None:
    """Its controller has no condition for it: the API server's words come from the Job's events."""
    obj = feed_object()
    job = as_observed(prepare(parse(obj), DEFAULTS))
    name = job["metadata"]["name"]
    status = status_of(obj, FeedState((job,), refusals={name: "pods is forbidden: exceeded quota: small"}))
    assert told(status)["Stalled"] == ("True", "QuotaExceeded")
    assert told(status)["Ready"] == ("False", "QuotaExceeded")
    assert f"{name} gets no pod: pods is forbidden: exceeded quota: small; raise" in message(status, "Ready")


def test_jobs_that_lack_a_pod_are_found() -> None:
    """Old enough, not at their end, and nobody's owner."""
    made = {"uid": "j", "creationTimestamp": "2026-11-25T11:59:50Z", "name": "job"}
    job = {"kind": "Job", "metadata": made, "status": {}}
    pod = {"kind": "Pod", "metadata": {"name": "p", "ownerReferences": [{"uid": "j"}]}, "status": {}}
    ended = {**job, "status": {"conditions": [{"type": "Failed", "status": "True"}]}}
    assert podless_jobs([job], NOW, 5.0) == [job]
    assert podless_jobs([job], NOW, 11.0) == []
    assert podless_jobs([job, pod], NOW, 5.0) == []
    assert podless_jobs([ended], NOW, 5.0) == []


def test_one_member_a_shard_has_no_standby_to_lack() -> None:
    """While a feed of redundancy 1 is resharded nothing is degraded but what is published by nobody."""
    obj = feed_object(shards=2)
    mine, other = ({**LIVE, "symbols": {"plan_revision": 1, "live": 25}} for _ in range(2))
    for count, expected in ((25, ("False", "AsSpecified")), (20, ("True", "Resharding"))):
        moving = {**mine, "phase": "preparing", "symbols": {"plan_revision": 1, "live": count}}
        status = status_of(obj, state_of(obj, {"0-0": moving, "1-0": other}))
        assert told(status)["Ready"] == ("True", "Serving")
        assert told(status)["Degraded"] == expected
    assert message(status, "Degraded") == "shard 0 is taking symbols over: 45 of 50 symbols are published"


@pytest.mark.parametrize(
    ("part", "why", "reason"),
    [
        ("kafka", "nothing acknowledged for 9 s, k:9092", "KafkaUnreachable"),
        ("cache", "Redis at r:6379 is not available: no", "RedisUnreachable"),
        ("store", "PostgreSQL at p:5432 is not available: no", "PostgresUnreachable"),
        ("feed", "the key is refused; next try in 3 s", "SourceDisconnected"),
    ],
)
def test_what_a_service_waits_for_degrades_a_feed_that_served(part: str, why: str, reason: str) -> None:
    """Its own sentence, and what to look at; nothing is stalled, as it heals by itself."""
    obj = feed_object()
    waits = {**LIVE, "phase": "waiting", "connected": False, "waiting_for": {part: why}}
    status = status_of(obj, state_of(obj, {"0-0": waits}))
    assert told(status)["Degraded"] == ("True", reason)
    assert told(status)["Ready"] == ("False", reason)
    assert told(status)["Stalled"][0] == "False"
    assert told(status)["Reconciling"][0] == "True"
    assert why.partition("; next try")[0] in message(status, "Degraded")
    assert "next try" not in message(status, "Degraded")
    assert "; check " in message(status, "Degraded")


def test_an_unreachable_kafka_is_told_while_preparing() -> None:
    """The prepare Job's pod says what it waits for."""
    obj = feed_object()
    job = prepare(parse(obj), DEFAULTS)
    waits = {
        "waiting_for": {
            "kafka": "Kafka at nobody.invalid:9092 is not available: no such host",
            "postgres": "not asked yet",
        }
    }
    state = FeedState((as_observed(job), pod_of(job)), {pod_of(job)["metadata"]["name"]: PodReading(2, waits)})
    status = status_of(obj, state)
    assert told(status)["Ready"] == ("False", "KafkaUnreachable")
    assert "nobody.invalid" in message(status, "Ready")
    assert told(status)["Reconciling"][0] == "True"


def test_an_old_answer_counts_for_nothing() -> None:
    """A reading of a minute ago says nothing about now; the pod's readiness does."""
    obj = feed_object()
    state = state_of(obj, {"0-0": {**LIVE, "connected": False}})
    old = {name: PodReading(60.0, reading.body) for name, reading in state.readings.items()}
    assert told(status_of(obj, FeedState(state.objects, old)))["Ready"] == ("True", "Serving")


def test_overflow_is_degraded_and_listed_in_part() -> None:
    """The feed serves what fits; the list is bounded, the count is not."""
    symbols = [f"S{number:04d}" for number in range(300)]
    source = {"finnhub": {**FINNHUB["finnhub"], "symbolsPerKey": 50}}
    obj = feed_object(source=source, symbols=symbols, shards=2)
    status = status_of(obj, state_of(obj))
    assert told(status)["Degraded"] == ("True", "Overflow")
    assert told(status)["Ready"] == ("True", "Serving")
    assert (status["symbols"], status["overflowCount"], len(status["overflow"])) == (100, 200, OVERFLOW_SHOWN)


def test_a_missing_standby_is_degraded() -> None:
    """With redundancy 2 one member that publishes is enough to serve, and not what was asked for."""
    obj = feed_object(redundancy=2, shards=1)
    standby = {**LIVE, "phase": "standby"}
    assert told(status_of(obj, state_of(obj, {"0-1": standby})))["Degraded"][0] == "False"
    status = status_of(obj, state_of(obj, {"0-1": {"phase": "following", "connected": True}}))
    assert told(status)["Degraded"] == ("True", "NoStandby")
    assert told(status)["Ready"] == ("True", "Serving")


def test_symbols_that_move_are_reconciling() -> None:
    """Ready stays True while a plan is being adopted and while a leaving shard is still there."""
    obj = feed_object(shards=2)
    state = state_of(obj, {"1-0": {**LIVE, "symbols": {"plan_revision": 0}}})
    assert told(status_of(obj, state))["Ready"] == ("True", "Serving")
    assert told(status_of(obj, state))["Reconciling"] == ("True", "Resharding")
    fewer = feed_object(shards=1)
    status = status_of(fewer, state_of(obj))
    assert told(status)["Reconciling"] == ("True", "Resharding")
    assert {(its["shard"], its["symbols"]) for its in status["shardStatus"]} == {(0, 50), (1, 0)}


def test_a_feed_stays_ready_while_it_is_scaled() -> None:
    """A shard that starts has nothing yet, and what it will have is published by the others."""
    obj = feed_object(shards=2)
    both = {**LIVE, "phase": "preparing", "symbols": {"plan_revision": 1, "live": 50}}
    starting = {"phase": "following", "connected": False, "symbols": {"plan_revision": 1, "live": 0}}
    status = status_of(obj, state_of(obj, {"0-0": both, "1-0": starting}))
    assert told(status)["Ready"] == ("True", "Serving")
    assert told(status)["Reconciling"] == ("True", "Resharding")
    alone = {**both, "symbols": {"plan_revision": 1, "live": 49}}
    status = status_of(obj, state_of(obj, {"0-0": alone, "1-0": starting}))
    assert told(status)["Ready"] == ("False", "Starting")
    assert message(status, "Ready") == "not ready yet: shard 1"


def test_a_paused_feed_keeps_the_generation_acted_on() -> None:
    """Its state is shown, its newer specification is not claimed to be reached."""
    obj = feed_object()
    before = status_of(obj, state_of(obj))
    obj["metadata"]["annotations"] = {"marketfeed.dev/paused": "true"}
    obj["metadata"]["generation"] = 2
    status = status_of(obj, state_of(obj), before)
    assert status["observedGeneration"] == 1
    assert told(status)["Reconciling"] == ("False", "Paused")
    assert told(status)["Ready"] == ("True", "Serving")


def test_no_shards_serve_what_is_stored() -> None:
    """Scaled to 0 the feed is ready: mds and recorder run."""
    obj = feed_object(shards=0)
    status = status_of(obj, state_of(obj))
    assert told(status)["Ready"] == ("True", "Stopped")
    assert status["shards"] == 0


def test_an_import_is_ready_at_its_end() -> None:
    """Progress is the pod's word, then the Job's; a failure is told with its last words."""
    obj = feed_object(source=HISTORY)
    job = history(parse(obj), DEFAULTS)
    pod = pod_of(job)
    name = pod["metadata"]["name"]
    base = state_of(obj)
    reads = {"phase": "reading", "rows": 50, "rows_total": 200, "percent": 25.0, "bad_lines": 1}
    runs = FeedState((*base.objects, as_observed(job), pod), {name: PodReading(1, reads)})
    status = status_of(obj, runs)
    assert told(status)["Ready"] == ("False", "Importing")
    assert status["history"] == {"phase": "Running", "rowsDone": 50, "rowsTotal": 200, "percent": "25.0", "badLines": 1}
    assert "planRevision" not in status
    ended = {"state": {"terminated": {"exitCode": 0, "message": '{"result": "imported", "rows": 200, "bad_lines": 1}'}}}
    over = pod_of(job, phase="Succeeded", containerStatuses=[ended])
    status = status_of(obj, FeedState((*base.objects, done(job), over), {name: PodReading(1, reads)}))
    assert told(status)["Ready"] == ("True", "Finished")
    whole = {"phase": "Succeeded", "rowsDone": 200, "rowsTotal": 200, "percent": "100.0", "badLines": 1}
    assert status["history"] == whole, "the last word counts, not what was said a second before"
    wrong = {"state": {"terminated": {"exitCode": 2, "message": "marketfeed history: a.csv: no such file"}}}
    lost = pod_of(job, phase="Failed", containerStatuses=[wrong])
    status = status_of(obj, FeedState((*base.objects, done(job, "Failed"), lost)))
    assert told(status)["Stalled"] == ("True", "HistoryFailed")
    assert "a.csv: no such file" in message(status, "Stalled")
    assert history_status(FeedState(), None).phase == "Pending"


def test_a_problem_of_the_operator_is_told_whatever_else_is_known() -> None:
    """Without a usable specification the conditions say so, and what was known before stays."""
    obj = feed_object(symbolsFrom={"configMapKeyRef": {"name": "not-there", "key": "list"}})
    with pytest.raises(InvalidSpec) as caught:
        symbols_of(parse(obj))
    problem = Problem.of_invalid(caught.value)
    status = build(obj, FeedState(), NOW, DEFAULTS, previous={"rate": "7/s"}, problem=problem)
    assert told(status)["Ready"] == ("False", "InvalidSpec")
    assert told(status)["Stalled"] == ("True", "InvalidSpec")
    assert "not-there" in message(status, "Stalled")
    assert status["rate"] == "7/s"


@pytest.mark.parametrize(
    ("code", "words", "reason", "final"),
    [
        (403, "pods is forbidden: exceeded quota: small", "QuotaExceeded", True),
        (403, "cannot create resource", "Forbidden", True),
        (422, "field is immutable", "Refused", True),
        (503, "later", "Unavailable", False),
    ],
)
def test_refusals_of_the_api_server_have_reasons(code: int, words: str, reason: str, final: bool) -> None:
    """A write that failed is told with the server's sentence."""
    obj = feed_object()
    its = parse(obj)
    state = state_of(obj)
    planned = next_plan(its, symbols_of(its), state, NOW)
    problem = Problem.of_refusal(code, words)
    status = build(obj, state, NOW, DEFAULTS, feed=its, planned=planned, problem=problem)
    assert (problem.reason, problem.final) == (reason, final)
    kind = "Stalled" if final else "Degraded"
    assert told(status)[kind] == ("True", reason)
    assert words in message(status, kind)


def test_every_reason_is_documented() -> None:
    """No condition has a reason that the page does not explain."""
    assert set(MEANINGS) == set(Reason)
    assert list(CONDITIONS) == ["Ready", "Reconciling", "Stalled", "Degraded"]


def test_last_words_are_short() -> None:
    """The end of a log, in one bounded line."""
    assert last_line("a\n\nb\n") == "b"
    assert last_line("") == "it left no message"
    assert len(last_line("x" * 5000)) == 400


phases = st.sampled_from(["following", "waiting", "claiming", "preparing", "live", "standby", "idle", "left"])
answers = st.fixed_dictionaries(
    {"phase": phases, "connected": st.booleans()},
    optional={
        "rate": st.none() | st.floats(0, 1e6), "lag_s": st.none() | st.floats(0, 100),
        "symbols": st.fixed_dictionaries({"plan_revision": st.just(1), "live": st.integers(0, 60)}),
        "waiting_for": st.dictionaries(st.sampled_from(["feed", "kafka", "owner"]), st.text(max_size=20)),
    },
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(answers, min_size=4, max_size=4), st.booleans())
def test_conditions_never_contradict_each_other(told_by: list[dict[str, Any]], before: bool) -> None:
    """Whatever pods say: never both in progress and stalled; Ready only if every shard publishes."""
    obj = feed_object(shards=2, redundancy=2)
    state = state_of(obj, dict(zip(("0-0", "0-1", "1-0", "1-1"), told_by, strict=True)))
    previous = status_of(obj, state_of(obj)) if before else None
    status = status_of(obj, state, previous)
    conditions = told(status)
    assert not (conditions["Reconciling"][0] == "True" and conditions["Stalled"][0] == "True")
    assert all(reason in set(Reason) for _, reason in conditions.values())
    plan = next_plan(parse(obj), symbols_of(parse(obj)), state, NOW).plan
    if conditions["Ready"][0] == "True":
        views = shard_views(parse(obj), state, plan)
        assert all(view.serving for view in views) or published(state) >= len(plan.assigned)
    again = status_of(obj, state, status, NOW + timedelta(days=1))
    assert again == status
    assert findings(state) == findings(state)
