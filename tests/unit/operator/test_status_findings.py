"""What is wrong with children, with what to do about it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.operator.desired_children import DEFAULTS
from tests.unit.operator.feeds import as_observed, feed, pod_of

from marketfeed_operator.children_jobs import prepare
from marketfeed_operator.children_parts import PodDefaults
from marketfeed_operator.children_services import mds, recorder
from marketfeed_operator.observed import FeedState, PodReading
from marketfeed_operator.status_findings import Finding, findings

REFUSALS = [
    ('pods "x" is forbidden: exceeded quota: small, requested: pods=1', "QuotaExceeded", "raise the quota"),
    ('pods "x" is forbidden: failed quota: small: must specify limits.x', "PodRefused", "by a LimitRange"),
    ('pods "x" is forbidden: maximum memory usage per Container is 64Mi, but limit is 512Mi', "PodRefused",
     "change the LimitRange"),
    ('pods "x" is forbidden: violates PodSecurity "restricted:latest": host namespaces', "PodRefused",
     "something adds to them"),
    ('admission webhook "policy.example" denied the request: no', "PodRefused", "except the namespace"),
    ("something else", "PodRefused", "correct what refuses it"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "reason", "advice"), REFUSALS)
def test_a_refused_pod_is_told_with_what_to_do(words: str, reason: str, advice: str) -> None:
    """In the API server's words, alike for the pods of a Job and of a Deployment; it needs somebody."""
    job = as_observed(prepare(feed(), DEFAULTS))
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": words}
    deployment = as_observed(mds(feed(), DEFAULTS), settled=False, conditions=[refused])
    name = job["metadata"]["name"]
    for state, child in ((FeedState((job,), refusals={name: words}), name), (FeedState((deployment,)), "demo-mds")):
        (found,) = findings(state)
        assert found == Finding(found.reason, found.message, final=True)
        assert found.reason == reason
        assert found.message.startswith(f"{child} gets no pod: {words}; ")
        assert advice in found.message


STUCK = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
UNREADY = {"type": "Ready", "status": "False", "message": "containers with unready status: [mds]"}
CRASHED = {"restartCount": 2, "state": {"running": {}}, "lastState": {"terminated": {"message": "x\nno memory\n"}}}
PULLS = {"state": {"waiting": {"reason": "ContainerCreating", "message": ""}}}
SAID: list[tuple[dict[str, Any] | None, dict[str, Any] | None, str]] = [
    (None, None, "it has no pod"),
    ({"conditions": [UNREADY]}, None, "its newest pod young: containers with unready status: [mds]"),
    ({"conditions": [UNREADY]}, {"waiting_for": {"tape": "behind by 9 s; next try in 2 s"}},
     "its newest pod young waits for tape: behind by 9 s"),
    ({"conditions": [UNREADY], "containerStatuses": [CRASHED]}, None, "its newest pod young ended before: no memory"),
    ({"phase": "Pending", "conditions": [], "containerStatuses": [PULLS]}, None,
     "its newest pod young: ContainerCreating"),
    ({"phase": "Pending", "conditions": [], "containerStatuses": []}, None, "its newest pod young is Pending"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "reading", "words"), SAID)
def test_a_rollout_that_makes_no_progress_names_what_its_newest_pod_says(
    status: dict[str, Any] | None, reading: dict[str, Any] | None, words: str
) -> None:
    """Not an older pod, which serves on; it needs somebody, and is no finding any more once it goes on."""
    made = mds(feed(), DEFAULTS)
    pods = [aged(pod_of(made), "old", "2026-11-25T10:00:00Z")]
    if status is None:
        pods.clear()
    else:
        pods.append(aged(pod_of(made, ready=False, **status), "young", "2026-11-25T11:00:00Z"))
    stuck = as_observed(made, settled=False, conditions=[STUCK])
    readings = {"young": PodReading(1.0, reading)} if reading is not None else {}
    (found,) = findings(FeedState((stuck, *pods), readings))
    assert (found.reason, found.final) == ("RolloutStuck", True)
    assert found.message.startswith(f"the rollout of demo-mds makes no progress: {words}")
    goes_on = {**STUCK, "status": "True", "reason": "NewReplicaSetAvailable"}
    healed = as_observed(made, conditions=[goes_on])
    assert findings(FeedState((healed, *pods[:1]))) == []


def aged(pod: dict[str, Any], name: str, made: str) -> dict[str, Any]:
    return {**pod, "metadata": {**pod["metadata"], "name": name, "creationTimestamp": made}}


def test_what_a_stuck_rollout_waits_for_is_said_before_that_it_is_stuck() -> None:
    """A store that is away heals by itself, so the feed is not stalled for it."""
    made = recorder(feed(), DEFAULTS)
    pod = pod_of(made, ready=False)
    away = {"waiting_for": {"store": "PostgreSQL at p:5432 is not available: no"}}
    stuck = as_observed(made, settled=False, conditions=[STUCK])
    found = findings(FeedState((stuck, pod), {pod["metadata"]["name"]: PodReading(1.0, away)}))
    assert [(one.reason, one.final) for one in found] == [("PostgresUnreachable", False), ("RolloutStuck", True)]


def test_every_deployment_has_the_deadline() -> None:
    """In seconds, by the operator's setting."""
    made = mds(feed(), PodDefaults("image:1", progress_deadline_s=77))
    assert made["spec"]["progressDeadlineSeconds"] == 77
