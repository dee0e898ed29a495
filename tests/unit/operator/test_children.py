"""The children of a feed: which there are, what they share, and when they come and go."""

from __future__ import annotations

import itertools
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.operator.desired_children import DEFAULTS, NOW, env_of, names, planned_for, prepared, run, running
from tests.unit.operator.feeds import FINNHUB, HISTORY, as_observed, done, feed, pod_of

from marketfeed.adapters.tokens import gate_of
from marketfeed.generator.settings import GeneratorSettings
from marketfeed.ingest.settings import IngestSettings
from marketfeed.mds.settings import MdsSettings
from marketfeed.prepare.settings import PrepareSettings
from marketfeed.recorder.settings import RecorderSettings
from marketfeed.runtime.settings import Settings
from marketfeed_operator.children import is_prepared, plan_config_map
from marketfeed_operator.children_ingest import ingest_name, key_indices, leaving, members
from marketfeed_operator.children_jobs import prepare, prepare_name
from marketfeed_operator.children_network import disruption_budgets, network_policies, pod_monitor
from marketfeed_operator.children_parts import hash_of
from marketfeed_operator.children_services import mds_services
from marketfeed_operator.observed import API_KEY, FeedState, Member, PodReading, annotations_on
from marketfeed_operator.plan import next_plan
from marketfeed_operator.spec import MarketFeed, symbols_of

LATER = NOW + timedelta(hours=1)
SERVICES: dict[str, type[Settings]] = {
    "ingest": IngestSettings,
    "recorder": RecorderSettings,
    "mds": MdsSettings,
    "generator": GeneratorSettings,
    "prepare": PrepareSettings,
}
SYMBOLS = [f"S{number}" for number in range(20)]


OWNS_NOTHING = {"owns_nothing": True, "phase": "left", "symbols": {"plan_revision": 2}}


def test_pods_wait_for_the_prepare_job() -> None:
    """Before topics and tables are there only the plan, the Services, the generator and the Job are made."""
    its = feed(shards=2)
    first = run(its, FeedState())
    assert not is_prepared(its, FeedState(), DEFAULTS)
    assert names(first, "Deployment") == {"demo-generator"}
    assert names(first, "Job") == {prepare_name(its, DEFAULTS)}
    assert names(first, "ConfigMap") == {"demo-plan"}
    assert names(first, "Service") == {"demo-mds", "demo-mds-headless", "demo-generator"}
    then = run(its, prepared(its))
    expected = {"demo-generator", "demo-recorder", "demo-mds", "demo-ingest-0-0", "demo-ingest-1-0"}
    assert names(then, "Deployment") == expected
    assert names(then, "Job") == set()
    assert ("Job", prepare_name(its, DEFAULTS)) in then.keep


def test_a_new_prepare_job_leaves_what_runs_alone() -> None:
    """A changed retention is prepared first; until then nothing is replaced and nothing is deleted."""
    state = running(feed(shards=2))
    changed = feed(shards=2, retention={"log": {"hours": 1}})
    found = run(changed, state)
    assert names(found, "Job") == {prepare_name(changed, DEFAULTS)}
    assert names(found, "Deployment") == {"demo-generator"}
    assert {("Deployment", "demo-mds"), ("Deployment", "demo-ingest-1-0")} <= found.keep


@pytest.mark.parametrize("source", [FINNHUB, {"generator": {"faults": ["hang@3"]}}, HISTORY])
def test_every_pod_is_restricted_bounded_and_owned(source: dict[str, Any]) -> None:
    """The rules of Pod Security's restricted profile, requests and limits, and the owner: on all children."""
    symbols = SYMBOLS if source is FINNHUB else None
    its = feed(source=source, symbols=symbols, mds={"replicas": 2, "origins": ["https://a", "https://b"]})
    found = run(its, prepared(its))
    for child in found.apply:
        owner = child["metadata"]["ownerReferences"][0]
        assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == ("uid-of-demo", True, True)
        assert child["metadata"]["labels"]["marketfeed.dev/feed"] == "demo"
        if child["kind"] not in ("Deployment", "Job"):
            continue
        pod = child["spec"]["template"]["spec"]
        container = pod["containers"][0]
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert set(container["resources"]["requests"]) == set(container["resources"]["limits"]) == {"cpu", "memory"}
        assert pod["terminationGracePeriodSeconds"] > float(env_of(child)["MARKETFEED_SHUTDOWN_TIMEOUT_S"])
        if child["kind"] == "Deployment":
            assert (
                child["spec"]["selector"]["matchLabels"].items()
                <= child["spec"]["template"]["metadata"]["labels"].items()
            )
            assert {port["name"] for port in container["ports"]} >= {"health"}


@pytest.mark.parametrize("source", [FINNHUB, {"generator": {"faults": ["hang@3"]}}])
def test_services_understand_their_variables(source: dict[str, Any]) -> None:
    """Each variable that is set is one that its service has, with a value that it can read."""
    symbols = SYMBOLS if source is FINNHUB else None
    its = feed(
        source=source, symbols=symbols, shards=2, mds={"origins": ["https://a"]},
        storage={"trades": "postgres"}, observability={"otlpEndpoint": "http://otel:4318"},
    )  # fmt: skip
    first = run(its, FeedState())
    then = run(its, prepared(its))
    workloads = [child for child in (*first.apply, *then.apply) if child["kind"] in ("Deployment", "Job")]
    assert len(workloads) >= 5
    for child in workloads:
        component = child["metadata"]["labels"]["app.kubernetes.io/component"]
        service = SERVICES[component]
        env = env_of(child)
        loaded = service.load(env=env)
        own = {"MARKETFEED_" + name.upper() for name in service.__dataclass_fields__}
        assert set(env) <= own
        assert loaded.http_port == 8081
        if component == "mds":
            assert isinstance(loaded, MdsSettings)
            assert gate_of(loaded).open
        if component == "ingest":
            assert isinstance(loaded, IngestSettings)
            assert (loaded.shard, loaded.partitions, loaded.spool_mb) in (("0", 8, 600.0), ("1", 8, 600.0))


@settings(max_examples=50, deadline=None)
@given(st.floats(0.05, 10_000))
def test_spool_and_buffer_fit_into_their_volume(gigabytes: float) -> None:
    """Both lie in one folder; a pod that fills its volume is evicted, and its spool is gone."""
    its = feed(ingest={"spool": {"sizeGigabytes": gigabytes}})
    pod = next(its for its in run(its, prepared(its)).apply if its["metadata"]["name"] == "demo-ingest-0-0")
    volumes = {volume["name"]: volume for volume in pod["spec"]["template"]["spec"]["volumes"]}
    limit_mb = float(volumes["spool"]["emptyDir"]["sizeLimit"].removesuffix("M"))
    loaded = IngestSettings.load(env=env_of(pod))
    assert loaded.spool_dir.is_relative_to("/var/lib/marketfeed")
    assert 0.85 * limit_mb <= loaded.spool_mb + loaded.buffer_mb <= 0.95 * limit_mb


def test_each_member_speaks_to_the_generator_with_a_key_of_its_own() -> None:
    """The generator refuses a client without a key, and a second connection of one key."""
    its = feed(shards=3, redundancy=2)
    made = [child for child in run(its, prepared(its)).apply if "-ingest-" in child["metadata"]["name"]]
    keys = [env_of(child)["MARKETFEED_FINNHUB_API_KEY"] for child in made if child["kind"] == "Deployment"]
    assert len(set(keys)) == 6
    assert all(keys)


def test_names_fit_into_kubernetes() -> None:
    """With the longest name and the most shards every name is a DNS label."""
    its = feed(name="x" * 40, shards=50, redundancy=2)
    for child in run(its, prepared(its)).apply:
        assert len(child["metadata"]["name"]) <= 63


def with_key(kind: str, member: Member, key: str, **status: Any) -> dict[str, Any]:
    labels = {"app.kubernetes.io/component": "ingest"}
    labels |= {"marketfeed.dev/shard": str(member.shard), "marketfeed.dev/member": str(member.number)}
    metadata = {"name": f"i-{member.shard}-{member.number}", "labels": labels, "annotations": {API_KEY: key}}
    return {"kind": kind, "metadata": metadata, "status": status}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 2), st.permutations(range(10))), min_size=1, max_size=5))
def test_members_keep_their_keys_and_share_none(steps: list[tuple[int, int, list[int]]]) -> None:
    """Whatever is scaled, and however the list of keys is ordered: no key for two, and who has one keeps it.

    A key is nobody else's before its last owner has gone, and everybody has one then.
    """
    had: dict[Member, str] = {}
    for shards, redundancy, order in steps:
        keys = [{"name": "finnhub", "key": f"k{number}"} for number in order]
        its = feed(source={"finnhub": {"apiKeys": keys}}, symbols=SYMBOLS, shards=shards, redundancy=redundancy)
        everybody = [with_key("Deployment", member, key) for member, key in had.items()]
        stay = {member: key for member, key in had.items() if member in members(its)}
        left = [with_key("Deployment", member, key) for member, key in stay.items()]
        for existing in (everybody, left):
            found = key_indices(its, members(its), FeedState(tuple(existing)))
            now_has = {member: f"finnhub/{keys[index]['key']}" for member, index in found.items()}
            assert len(set(now_has.values())) == len(now_has)
            assert stay.items() <= now_has.items()
            if existing is everybody:
                assert not {*now_has.values()} & {key for member, key in had.items() if member not in stay}
        assert sorted(now_has, key=str) == sorted(members(its), key=str)
        had = now_has


@pytest.mark.parametrize("kind", ["Deployment", "Pod"])
@pytest.mark.parametrize("more", [{}, {"deletionTimestamp": "2026-11-25T12:00:00Z"}])
def test_a_key_is_not_free_while_a_pod_may_have_it(kind: str, more: dict[str, str]) -> None:
    """Not that of one that ends, or whose node is lost; but its own, and that of one that has ended, are."""
    one_key = feed(source={"finnhub": {"apiKeys": [{"name": "f", "key": "a"}]}}, symbols=SYMBOLS)
    holder = with_key(kind, Member(1, 0), "f/a", phase="Running")
    holder["metadata"] |= more
    assert key_indices(one_key, [Member(0, 0)], FeedState((holder,))) == {}
    assert key_indices(one_key, [Member(1, 0)], FeedState((holder,))) == {Member(1, 0): 0}
    ended = with_key("Pod", Member(1, 0), "f/a", phase="Failed")
    assert key_indices(one_key, [Member(0, 0)], FeedState((ended,))) == {Member(0, 0): 0}


def deployment_of_mds(its: MarketFeed) -> dict[str, Any]:
    """As it is wanted once the feed is prepared."""
    wanted = run(its, prepared(its)).apply
    return next(one for one in wanted if (one["kind"], one["metadata"]["name"]) == ("Deployment", "demo-mds"))


TOKEN = {"secretKeyRef": {"name": "clients", "key": "token"}}
JWT = {"issuer": "me", "algorithm": "ES256", "keyFrom": {"configMapKeyRef": {"name": "issuer", "key": "jwks.json"}}}


@pytest.mark.parametrize(
    ("mds", "ways"),
    [
        ({}, {"OPEN"}),
        ({"auth": {"open": True}}, {"OPEN"}),
        ({"clientTokenFrom": TOKEN}, {"CLIENT_TOKEN"}),
        ({"auth": {"jwt": JWT}}, {"JWT_ALGORITHM", "JWT_ISSUER", "JWT_AUDIENCE", "JWT_KEY_FILE"}),
        (
            {"auth": {"jwt": JWT}, "clientTokenFrom": TOKEN},
            {"CLIENT_TOKEN", "JWT_ALGORITHM", "JWT_ISSUER", "JWT_AUDIENCE", "JWT_KEY_FILE"},
        ),
    ],
)
def test_mds_is_told_whom_to_let_in(mds: dict[str, Any], ways: set[str], tmp_path: Path) -> None:
    """It is open where a feed says nothing, as it always was, and takes what it is told in any other case."""
    its = feed(mds=mds)
    made = deployment_of_mds(its)
    env = env_of(made)
    of_access = {"MARKETFEED_" + name for name in ("OPEN", "CLIENT_TOKEN")}
    told = {name for name in env if name in of_access or name.startswith("MARKETFEED_JWT_")}
    assert told == {"MARKETFEED_" + name for name in ways}
    pod = made["spec"]["template"]["spec"]
    keys = [volume for volume in pod["volumes"] if volume["name"] == "jwt-key"]
    assert bool(keys) == ("JWT_KEY_FILE" in ways)
    if keys:
        assert keys[0]["configMap"] == {
            "name": "issuer", "items": [{"key": "jwks.json", "path": "key"}], "optional": True,
        }  # fmt: skip
        (mount,) = [one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "jwt-key"]
        assert env["MARKETFEED_JWT_KEY_FILE"].startswith(mount["mountPath"])
        env["MARKETFEED_JWT_KEY_FILE"] = str(tmp_path / "keys")
        public = ec.generate_private_key(ec.SECP256R1()).public_key()
        (tmp_path / "keys").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert gate_of(MdsSettings.load(env=env)).open == ("OPEN" in ways)


def test_a_secret_of_an_issuer_is_mounted_from_a_secret() -> None:
    """HS256's key is one, and can be in nothing else."""
    jwt = {"issuer": "me", "algorithm": "HS256", "keyFrom": TOKEN}
    its = feed(mds={"auth": {"jwt": jwt}})
    made = deployment_of_mds(its)
    (volume,) = [one for one in made["spec"]["template"]["spec"]["volumes"] if one["name"] == "jwt-key"]
    assert volume["secret"] == {"secretName": "clients", "items": [{"key": "token", "path": "key"}], "optional": True}


def test_a_member_without_a_free_key_waits_for_a_leaving_pod() -> None:
    """A leaving pod has its key until it has handed over and ended; the newcomer is made then."""
    source = {"finnhub": {"apiKeys": [{"name": "f", "key": "a"}, {"name": "f", "key": "b"}]}}
    before = feed(source=source, symbols=SYMBOLS, shards=2)
    made = [child for child in run(before, prepared(before)).apply if "ingest-" in child["metadata"]["name"]]
    pods = [pod_of(child) for child in made if child["kind"] == "Deployment"]
    assert [annotations_on(pod)[API_KEY] for pod in pods] == ["f/a", "f/b"]
    objects = (*running(before).objects, *pods)
    after = feed(source=source, symbols=SYMBOLS, shards=1, redundancy=2)
    found = run(after, FeedState(objects, {"demo-ingest-1-0-pod": PodReading(1, {"owns_nothing": False})}))
    assert found.waiting == (Member(0, 1),)
    assert "demo-ingest-1-0" in names(found, "Deployment")
    objects = in_force(after, FeedState(objects)).objects
    found = run(after, FeedState(objects, {"demo-ingest-1-0-pod": PodReading(1, OWNS_NOTHING)}))
    assert found.waiting == (Member(0, 1),)
    assert "demo-ingest-1-0" not in names(found, "Deployment")
    pods[1]["metadata"]["deletionTimestamp"] = "2026-11-25T12:00:00Z"
    without = tuple(obj for obj in objects if obj["metadata"]["name"] != "demo-ingest-1-0")
    assert run(after, FeedState(without)).waiting == (Member(0, 1),)
    found = run(after, FeedState(tuple(obj for obj in without if obj is not pods[1])))
    assert found.waiting == ()
    assert "demo-ingest-0-1" in names(found, "Deployment")


def in_force(its: MarketFeed, state: FeedState) -> FeedState:
    """The same with the plan that is made from it."""
    objects = [obj for obj in state.objects if obj["kind"] != "ConfigMap"]
    return FeedState((*objects, as_observed(plan_config_map(its, planned_for(its, state)))), state.readings)


def leaving_state(reading: dict[str, Any] | None, phase: str = "Running") -> tuple[MarketFeed, FeedState]:
    """Shard 1 of two is to go."""
    before = feed(shards=2)
    state = running(before)
    deployment = next(obj for obj in state.objects if obj["metadata"]["name"] == "demo-ingest-1-0")
    pod = pod_of(dict(deployment), phase=phase)
    readings = {pod["metadata"]["name"]: PodReading(1, reading)} if reading is not None else {}
    return feed(shards=1), FeedState((*state.objects, pod), readings)


@pytest.mark.parametrize(
    ("reading", "phase", "stays"),
    [
        ({"owns_nothing": False, "phase": "live"}, "Running", True),
        (OWNS_NOTHING, "Running", False),
        ({**OWNS_NOTHING, "symbols": {"plan_revision": 1}}, "Running", True),
        ({"owns_nothing": True}, "Running", True),
        ({"phase": "live"}, "Running", True),
        (None, "Running", True),
        (None, "Pending", False),
        (None, "Failed", False),
    ],
)
def test_a_shard_leaves_when_it_owns_nothing(reading: dict[str, Any] | None, phase: str, stays: bool) -> None:
    """Its pod's word of the plan in force counts; one that does not run owns nothing that it could hand over."""
    its, before = leaving_state(reading, phase)
    state = in_force(its, before)
    assert leaving(its, state, planned_for(its, state), NOW) == ([Member(1, 0)] if stays else [])
    changing = planned_for(its, before)
    assert changing.changed
    assert leaving(its, before, changing, NOW) == ([Member(1, 0)] if stays or phase == "Running" else [])


def test_a_silent_leaving_shard_is_not_waited_for_for_ever() -> None:
    """Ten minutes after the plan took everything from it, it goes without having answered."""
    its, state = leaving_state(None)
    adopted = in_force(its, state)
    again = next_plan(its, symbols_of(its), adopted, LATER)
    assert not again.changed
    assert leaving(its, adopted, again, NOW + timedelta(minutes=9)) == [Member(1, 0)]
    assert leaving(its, adopted, again, NOW + timedelta(minutes=11)) == []


def test_a_surplus_member_goes_when_another_is_at_work() -> None:
    """From two members to one: the first has to be there."""
    state = running(feed(redundancy=2))
    its = feed(redundancy=1)
    deployment = next(obj for obj in state.objects if obj["metadata"]["name"] == "demo-ingest-0-0")
    pod = pod_of(dict(deployment))
    asleep = FeedState((*state.objects, pod), {})
    assert leaving(its, asleep, planned_for(its, asleep), NOW) == [Member(0, 1)]
    working = FeedState(asleep.objects, {pod["metadata"]["name"]: PodReading(1, {"phase": "standby"})})
    assert leaving(its, working, planned_for(its, working), NOW) == []


def test_a_rollout_replaces_one_member_at_a_time() -> None:
    """With a new image, one ingest Deployment is applied while all others are settled; the rest waits."""
    state = running(feed(shards=3))
    newer = feed(shards=3, image="new:1")
    objects = {obj["metadata"]["name"]: obj for obj in (*state.objects, done(prepare(newer, DEFAULTS)))}
    order = []
    for _ in range(3):
        found = run(newer, FeedState(tuple(objects.values())))
        applied = [its for its in found.apply if its["metadata"]["name"].startswith("demo-ingest")]
        changed = [its for its in applied if annotations_on(objects[its["metadata"]["name"]]) != annotations_on(its)]
        assert len(changed) == 1
        order.append(changed[0]["metadata"]["name"])
        objects[order[-1]] = as_observed(changed[0], settled=False)
        during = run(newer, FeedState(tuple(objects.values())))
        waiting = {name for kind, name in during.keep if kind == "Deployment"}
        assert waiting == {f"demo-ingest-{shard}-0" for shard in range(3)} - set(order)
        objects[order[-1]] = as_observed(changed[0])
    assert order == [f"demo-ingest-{shard}-0" for shard in range(3)]
    assert run(newer, FeedState(tuple(objects.values()))).keep == {("Job", prepare_name(newer, DEFAULTS))}


CRASHING = {"phase": "Running", "containerStatuses": [{"started": False, "state": {"waiting": {}}}]}


@pytest.mark.parametrize("status", [{"phase": "Pending", "containerStatuses": []}, CRASHING, None])
def test_a_broken_rollout_can_be_corrected(status: dict[str, Any] | None) -> None:
    """A member whose pod runs nothing is replaced at once, whoever else waits."""
    objects = {obj["metadata"]["name"]: obj for obj in running(feed(shards=3)).objects}
    for name in ("demo-ingest-0-0", "demo-ingest-2-0"):
        objects[name] = unready(objects[name])
        if status is not None:
            objects[f"{name}-pod"] = pod_of(objects[name], ready=False, **status)
    assert replaced(feed(shards=3, image="good:1"), objects, {}) == {"demo-ingest-0-0", "demo-ingest-2-0"}


NO_KAFKA = {"waiting_for": {"kafka": "nothing acknowledged for 9 s, kafka:9092"}}


def unready(deployment: dict[str, Any], ready: int = 0) -> dict[str, Any]:
    return {**deployment, "status": {**deployment["status"], "readyReplicas": ready}}


def replaced(its: MarketFeed, objects: dict[str, Any], readings: dict[str, PodReading]) -> set[str]:
    """The ingest Deployments that are given a new template, once topics and tables are prepared."""
    found = run(its, FeedState((*objects.values(), done(prepare(its, DEFAULTS))), readings))
    return {name for name in names(found, "Deployment") if "-ingest-" in name}


def without_kafka(bodies: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, PodReading]]:
    """Members of as many shards whose pods run and are not ready, and say this."""
    objects = {obj["metadata"]["name"]: obj for obj in running(feed(shards=len(bodies))).objects}
    readings = {}
    for shard, body in enumerate(bodies):
        name = f"demo-ingest-{shard}-0"
        objects[name] = unready(objects[name])
        objects[f"{name}-pod"] = pod_of(objects[name], ready=False)
        readings[f"{name}-pod"] = PodReading(1, body)
    return objects, readings


@pytest.mark.parametrize("held", [{"spool": {"bytes": 9}}, {"trades": {"unacknowledged": 1}}])
def test_members_that_spool_are_not_replaced_while_kafka_is_away(held: dict[str, Any]) -> None:
    """Not ready is not idle: their spools would go with their pods. A pod that runs nothing still is replaced."""
    objects, readings = without_kafka([{**NO_KAFKA, **held}] * 3)
    newer = feed(shards=3, image="newer:1")
    assert replaced(newer, objects, readings) == set()
    back = {pod: PodReading(1, held) for pod in readings}
    assert replaced(newer, objects, back) == {"demo-ingest-0-0"}
    objects["demo-ingest-1-0-pod"] = pod_of(objects["demo-ingest-1-0"], ready=False, phase="Pending")
    del readings["demo-ingest-1-0-pod"]
    assert replaced(newer, objects, readings) == {"demo-ingest-1-0"}


def test_members_that_are_not_ready_are_replaced_one_at_a_time() -> None:
    """With the feed away, or Kafka away and nothing to lose, a new template reaches one, and first one that waits."""
    newer = feed(shards=3, image="newer:1")
    for body in ({"waiting_for": {"feed": "refused"}, "spool": {"bytes": 0}}, NO_KAFKA):
        objects, readings = without_kafka([body] * 3)
        objects["demo-ingest-0-0"] = unready(objects["demo-ingest-0-0"], 1)
        assert replaced(newer, objects, readings) == {"demo-ingest-1-0"}


def test_members_do_not_wait_for_a_kafka_that_is_specified_no_more() -> None:
    """Its trades can go nowhere; a corrected address reaches the members, one at a time."""
    objects, readings = without_kafka([{**NO_KAFKA, "spool": {"bytes": 9}}] * 2)
    assert replaced(feed(shards=2, image="newer:1"), objects, readings) == set()
    elsewhere = feed(shards=2, kafka={"bootstrapServers": "other:9092"})
    assert replaced(elsewhere, objects, readings) == {"demo-ingest-0-0"}


def test_budgets_are_only_where_several_pods_are() -> None:
    """A budget over a single pod would block the drain of its node."""
    assert disruption_budgets(feed()) == []
    several = disruption_budgets(feed(redundancy=2, shards=2, mds={"replicas": 3}))
    assert [its["metadata"]["name"] for its in several] == ["demo-mds", "demo-ingest-0", "demo-ingest-1"]
    selector = several[1]["spec"]["selector"]["matchLabels"]
    assert selector["marketfeed.dev/shard"] == "0"
    assert "marketfeed.dev/member" not in selector


def test_network_policies_deny_all_but_the_edges() -> None:
    """Every component has a policy, beside the one that denies; they can be switched off."""
    found = {its["metadata"]["name"]: its["spec"] for its in network_policies(feed(redis={"url": "redis://r:7000"}))}
    assert set(found) == {
        "demo-deny", "demo-health", "demo-prepare", "demo-recorder", "demo-mds", "demo-ingest", "demo-generator",
    }  # fmt: skip
    assert "egress" not in found["demo-deny"]
    ports = [port["port"] for port in found["demo-recorder"]["egress"][1]["ports"]]
    assert ports == [5432, 7000, 9092]
    assert {port["port"] for port in found["demo-mds"]["ingress"][0]["ports"]} == {8080, 50051}
    finnhub = {its["metadata"]["name"]: its["spec"] for its in network_policies(feed(source=FINNHUB, symbols=SYMBOLS))}
    assert [port["port"] for port in finnhub["demo-ingest"]["egress"][1]["ports"]] == [443, 9092]
    assert network_policies(feed(networkPolicies={"enabled": False})) == []


def test_a_pod_monitor_is_made_where_its_api_is() -> None:
    """It sets the labels that dashboards and alerts go by."""
    its = feed()
    assert "PodMonitor" not in {child["kind"] for child in run(its, prepared(its)).apply}
    served = FeedState(prepared(its).objects, pod_monitors=True)
    assert "PodMonitor" in {child["kind"] for child in run(its, served).apply}
    relabelings = pod_monitor(its)["spec"]["podMetricsEndpoints"][0]["relabelings"]
    assert {its["targetLabel"]: its["sourceLabels"] for its in relabelings}["shard"] == [
        "__meta_kubernetes_pod_label_marketfeed_dev_shard"
    ]


def test_services_tell_their_protocols() -> None:
    """A mesh or gateway sees WebSocket and HTTP/2 without being told elsewhere."""
    plain, headless = mds_services(feed())
    assert [port["appProtocol"] for port in plain["spec"]["ports"]] == ["kubernetes.io/ws", "kubernetes.io/h2c"]
    assert headless["spec"]["clusterIP"] == "None"


@settings(max_examples=50, deadline=None)
@given(shards=st.integers(0, 6), redundancy=st.integers(1, 2), replicas=st.integers(0, 3), monitors=st.booleans())
def test_the_same_facts_give_the_same_children(shards: int, redundancy: int, replicas: int, monitors: bool) -> None:
    """Children are a function of what is known: equal twice over, no name twice, all of it JSON."""
    its = feed(shards=shards, redundancy=redundancy, mds={"replicas": replicas})
    state = FeedState(prepared(its).objects, pod_monitors=monitors)
    one, other = run(its, state), run(its, state)
    assert one == other
    keys = [(child["kind"], child["metadata"]["name"]) for child in one.apply]
    assert len(keys) == len(set(keys))
    json.dumps(one.apply)
    wanted = {ingest_name(its, Member(*pair)) for pair in itertools.product(range(shards), range(redundancy))}
    assert wanted <= names(one, "Deployment")
    assert hash_of(one.apply) == hash_of(other.apply)
