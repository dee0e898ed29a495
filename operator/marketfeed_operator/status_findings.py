"""What is wrong with a feed's children, read from their states and from what their pods say; each with what to do.

A finding is final if waiting alone cannot help. Nothing is guessed: a finding quotes the kubelet, the scheduler, a
controller or the service itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from marketfeed_operator.observed import (
    NO_IMAGE,
    NO_SETTINGS,
    FeedState,
    Object,
    component_of,
    condition,
    member_of,
)
from marketfeed_operator.spec_status import Reason

_WRONG_SETTING = 2
# What a service says of its next try changes all the time and tells nobody what to do.
_NEXT_TRY = re.compile(r"; next try in [0-9.]+ s")
# Readiness parts of the services, and whom they wait for where the sentence does not begin with the name.
_PARTS = {
    "kafka": Reason.KAFKA_UNREACHABLE,
    "postgres": Reason.POSTGRES_UNREACHABLE,
    "feed": Reason.SOURCE_DISCONNECTED,
}
_SERVERS = {
    "Kafka": Reason.KAFKA_UNREACHABLE,
    "PostgreSQL": Reason.POSTGRES_UNREACHABLE,
    "Redis": Reason.REDIS_UNREACHABLE,
}
_ADVICE = {
    Reason.KAFKA_UNREACHABLE: "check spec.kafka.bootstrapServers, the brokers and NetworkPolicies",
    Reason.POSTGRES_UNREACHABLE: "check the Secret of spec.postgres.urlFrom, the server and NetworkPolicies",
    Reason.REDIS_UNREACHABLE: "check spec.redis, the server and NetworkPolicies",
    Reason.SOURCE_DISCONNECTED: "check spec.source; it reconnects by itself",
}
# What to do about a pod that is not let in, by a part of the API server's sentence.
_LIMITS = "change the LimitRange, or resources in the specification where it has them"
_REFUSED = {
    "exceeded quota": "raise the quota or lower resources",
    "must specify": "take that out of the quota, or give it a default by a LimitRange",
    "usage per ": _LIMITS,
    "limit to request ratio": _LIMITS,
    "violates PodSecurity": "the operator's pods are restricted, so something adds to them: correct that"
    " (a webhook, a default), or the profile of the namespace",
    "denied the request": "correct what the webhook asks for, or except the namespace from it",
}
# What is said where several things are wrong: the first of these.
_ORDER = [
    Reason.FORBIDDEN, Reason.REFUSED, Reason.QUOTA_EXCEEDED, Reason.POD_REFUSED, Reason.SECRET_MISSING,
    Reason.IMAGE_PULL_FAILED, Reason.CONFIGURATION_REFUSED, Reason.HISTORY_FAILED, Reason.UNSCHEDULABLE,
    Reason.KAFKA_UNREACHABLE, Reason.POSTGRES_UNREACHABLE, Reason.REDIS_UNREACHABLE, Reason.CRASH_LOOP,
    Reason.SOURCE_DISCONNECTED, Reason.ROLLOUT_STUCK,
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    reason: Reason
    message: str
    final: bool


def findings(state: FeedState) -> list[Finding]:
    """Everything that is wrong, the most important first; each sentence once."""
    found: dict[Finding, None] = {}
    for pod in state.of_kind("Pod"):
        found.update(dict.fromkeys(_of_pod(pod)))
        reading = state.reading(pod)
        if reading is not None:
            found.update(dict.fromkeys(_of_waiting(pod, reading.waiting_for)))
    for deployment in state.of_kind("Deployment"):
        found.update(dict.fromkeys(_of_deployment(deployment)))
        found.update(dict.fromkeys(_of_rollout(state, deployment)))
    for job in state.of_kind("Job"):
        found.update(dict.fromkeys(_of_job(state, job)))
    return sorted(found, key=lambda finding: (_ORDER.index(finding.reason), finding.message))


def _of_pod(pod: Object) -> Iterator[Finding]:
    name, status = str(pod["metadata"]["name"]), pod.get("status") or {}
    scheduled = condition(pod, "PodScheduled")
    # One that runs or has ended is or was on a node, whatever was said of it before.
    waits = status.get("phase", "Pending") == "Pending"
    if waits and scheduled is not None and scheduled.get("reason") == "Unschedulable":
        told = scheduled.get("message", "")
        yield Finding(
            Reason.UNSCHEDULABLE, f"pod {name} fits on no node: {told}; add nodes or lower resources", final=False
        )
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        yield from _of_waiting_container(
            name, container, str(waiting.get("reason", "")), str(waiting.get("message", ""))
        )


def _of_waiting_container(pod: str, container: Object, reason: str, message: str) -> Iterator[Finding]:
    if reason in NO_SETTINGS:
        yield Finding(
            Reason.SECRET_MISSING, f"pod {pod} cannot start: {message}; make it, nothing else is needed", True
        )
    elif reason in NO_IMAGE:
        image = container.get("image", "")
        yield Finding(
            Reason.IMAGE_PULL_FAILED,
            f"pod {pod} cannot have the image {image}: {message or reason};"
            " correct spec.image or give spec.imagePullSecrets",
            final=True,
        )
    elif reason == "CrashLoopBackOff":
        ended = (container.get("lastState") or {}).get("terminated") or {}
        words, code = last_line(ended.get("message", "")), ended.get("exitCode")
        if code == _WRONG_SETTING:
            yield Finding(Reason.CONFIGURATION_REFUSED, f"pod {pod} refuses its settings: {words}", final=True)
        elif (server := _server_in(words)) is not None:
            yield Finding(server, f"pod {pod}: {words}; {_ADVICE[server]}", final=False)
        else:
            yield Finding(
                Reason.CRASH_LOOP,
                f"pod {pod} ends again and again (exit code {code}): {words}; see its log",
                final=False,
            )


def last_line(text: str) -> str:
    """The last words of a container, which say why it ended."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:400] if lines else "it left no message"


def _server_in(words: str) -> Reason | None:
    return next((reason for server, reason in _SERVERS.items() if f"{server} at " in words), None)


def _of_waiting(pod: Object, waiting_for: dict[str, str]) -> Iterator[Finding]:
    for part, why in waiting_for.items():
        if why in ("starting", "not asked yet"):
            continue
        reason = _server_in(why) or _PARTS.get(part)
        if reason is not None:
            lasting = _NEXT_TRY.sub("", why)
            yield Finding(reason, f"{component_of(pod)}: {lasting}; {_ADVICE[reason]}", final=False)


def _of_deployment(deployment: Object) -> Iterator[Finding]:
    failure = condition(deployment, "ReplicaFailure")
    if failure is None or failure.get("status") != "True":
        return
    yield _no_pod(str(deployment["metadata"]["name"]), str(failure.get("message", "")))


def _of_rollout(state: FeedState, deployment: Object) -> Iterator[Finding]:
    """What keeps new pods from becoming ready where nothing above tells: the newest pod's own word, or of it."""
    progress = condition(deployment, "Progressing")
    if progress is None or progress.get("reason") != "ProgressDeadlineExceeded" or progress.get("status") != "False":
        return
    pods = state.pods(component_of(deployment), member_of(deployment))
    newest = max(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), default=None)
    told = "it has no pod" if newest is None else f"its newest pod {_said_by(state, newest)}"
    name = deployment["metadata"]["name"]
    yield Finding(
        Reason.ROLLOUT_STUCK,
        f"the rollout of {name} makes no progress: {told}; see its log and events, and correct the specification",
        final=True,
    )


def _said_by(state: FeedState, pod: Object) -> str:
    name, status, reading = pod["metadata"]["name"], pod.get("status") or {}, state.reading(pod)
    if reading is not None and reading.waiting_for:
        return f"{name} waits for " + ", ".join(
            f"{part}: {_NEXT_TRY.sub('', why)}" for part, why in reading.waiting_for.items()
        )
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting:
            return f"{name}: {waiting.get('message') or waiting.get('reason')}"
        ended = (container.get("lastState") or {}).get("terminated")
        if ended:
            return f"{name} ended before: {last_line(str(ended.get('message', '')))}"
    ready = condition(pod, "Ready")
    words = str((ready or {}).get("message", ""))
    return f"{name}: {words}" if words else f"{name} is {status.get('phase', 'not there yet')}"


def _no_pod(name: str, message: str) -> Finding:
    advice = next((advice for words, advice in _REFUSED.items() if words in message), "correct what refuses it")
    reason = Reason.QUOTA_EXCEEDED if "exceeded quota" in message else Reason.POD_REFUSED
    return Finding(reason, f"{name} gets no pod: {message}; {advice}", final=True)


def _of_job(state: FeedState, job: Object) -> Iterator[Finding]:
    if (refused := state.refusals.get(str(job["metadata"]["name"]))) is not None:
        yield _no_pod(str(job["metadata"]["name"]), refused)
    failed = condition(job, "Failed")
    if failed is None or failed.get("status") != "True":
        return
    component = component_of(job)
    ends = [
        ended
        for pod in state.pods(component)
        for container in (pod.get("status") or {}).get("containerStatuses") or ()
        if (ended := (container.get("state") or {}).get("terminated"))
    ]
    words = last_line(str(ends[-1].get("message", ""))) if ends else str(failed.get("message", ""))
    if component == "history":
        yield Finding(
            Reason.HISTORY_FAILED,
            f"the files could not be read: {words}; correct the specification (it is tried again then),"
            f" or delete the Job {job['metadata']['name']} to try once more",
            final=True,
        )
    else:
        yield Finding(
            Reason.CONFIGURATION_REFUSED,
            f"preparing failed for good: {words}; delete the Job {job['metadata']['name']} to try once more",
            final=True,
        )
