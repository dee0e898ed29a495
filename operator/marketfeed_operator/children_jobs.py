"""Jobs, named by a hash of what they depend on: another hash is another Job. What has succeeded is never run again.

`prepare` waits for its servers and is tried until it succeeds. A failed import may be repeated, as it stores all or
nothing. A failed replay is not repeated by Kubernetes, as what it sent stays in the log.

A Job's template cannot be changed, so one that failed, or whose pod cannot begin, is deleted and made anew when its
template would be another one now: somebody corrected what it ran with. `prepare` is so until it succeeds. A replay that
had sent trades before it failed refuses to run into the same log again, so nothing is sent twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marketfeed_operator.children_parts import (
    Child,
    Container,
    PodDefaults,
    child,
    hash_of,
    labels_of,
    pod_template,
    postgres_env,
    topic_env,
    value,
    volume_mount,
)
from marketfeed_operator.observed import (
    TEMPLATE_HASH,
    FeedState,
    annotations_on,
    cannot_begin,
    component_of,
    holds,
)
from marketfeed_operator.spec import MarketFeed

# Containers of prepare are restarted by the kubelet with its own back-off, at most every 5 minutes.
_PREPARE_RESTARTS = 100_000
_IMPORT_RETRIES = 3
_WRONG_SETTING = 2
# Servers may start later, and a new pod may wait for those who carry out NetworkPolicies to hear of it.
_SERVER_WITHIN_S = 300
PREPARE = "prepare"
_FILES_DIR = "/data"


def prepare_name(feed: MarketFeed, defaults: PodDefaults) -> str:
    """Name of the Job that makes topics and tables; a new image may bring new tables."""
    spec = feed.spec
    facts = (feed.feed_id, spec.kafka, spec.retention.log, spec.postgres, spec.image or defaults.image)
    return f"{feed.name}-prepare-{hash_of(*facts)}"


def prepare(feed: MarketFeed, defaults: PodDefaults) -> Child:
    """The Job that makes topics and tables."""
    container = Container(
        component=PREPARE,
        args=("prepare",),
        env=(*topic_env(feed), *postgres_env(feed)),
        requests={"cpu": "20m", "memory": "96Mi"},
        limits={"cpu": "1", "memory": "512Mi"},
        probed=False,
    )
    labels = labels_of(feed, PREPARE)
    template = pod_template(feed, defaults, container, labels, restartPolicy="OnFailure")
    return _job(feed, prepare_name(feed, defaults), labels, template, backoffLimit=_PREPARE_RESTARTS)


def history_name(feed: MarketFeed) -> str:
    """Name of the Job that reads the files. The image is no part of it: an upgrade does not import again."""
    return f"{feed.name}-history-{hash_of(feed.feed_id, feed.spec.source.history, feed.spec.calendar)}"


def history(feed: MarketFeed, defaults: PodDefaults) -> Child:
    """The Job of `source.history`."""
    source = feed.spec.source.history
    assert source is not None
    files = [f"{_FILES_DIR}/{path}" for path in source.files.paths]
    is_import = source.mode == "import"
    env = [
        value("QUARANTINE", "/tmp/quarantine.csv"),
        value("RESULT_FILE", "/dev/termination-log"),
        value("TIMEOUT_S", _SERVER_WITHIN_S),
    ]
    if is_import:
        env += [*postgres_env(feed), value("CALENDAR", feed.spec.calendar), value("REPLACE", source.replace)]
    else:
        env += [*topic_env(feed), value("SPEED", source.speed)]
    volume: Child = (
        {"persistentVolumeClaim": {"claimName": source.files.persistent_volume_claim, "readOnly": True}}
        if source.files.persistent_volume_claim
        else {"configMap": {"name": source.files.config_map}}
    )
    container = Container(
        component="history",
        args=("history", source.mode, *files),
        env=tuple(env),
        requests={"cpu": "100m", "memory": "256Mi"},
        limits={"cpu": "2", "memory": "1Gi"},
        volumes=({"name": "files", **volume},),
        mounts=(volume_mount("files", _FILES_DIR, read_only=True),),
        probed=False,
    )
    labels = labels_of(feed, "history")
    # A wrong setting or file stays wrong; a pod that its node lost did nothing wrong.
    rules: list[Child] = [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [_WRONG_SETTING]}}]
    if is_import:
        rules.append({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]})
    return _job(
        feed,
        history_name(feed),
        labels,
        pod_template(feed, defaults, container, labels, restartPolicy="Never"),
        backoffLimit=_IMPORT_RETRIES if is_import else 0,
        podFailurePolicy={"rules": rules},
    )


def _job(feed: MarketFeed, name: str, labels: Mapping[str, str], template: Child, **spec: Any) -> Child:
    """A Job, with its template's hash in an annotation."""
    made = child(feed, "batch/v1", "Job", name, labels, spec={**spec, "template": template})
    made["metadata"]["annotations"] = {TEMPLATE_HASH: hash_of(template)}
    return made


def is_in_the_way(state: FeedState, wanted: Child) -> bool:
    """Whether the Job of this name has not succeeded, and may be made anew, and would have another template then."""
    job = state.named("Job", wanted["metadata"]["name"])
    if job is None or holds(job, "Complete"):
        return False
    ran_with = annotations_on(job).get(TEMPLATE_HASH)
    if ran_with in (None, wanted["metadata"]["annotations"][TEMPLATE_HASH]):
        return False
    if component_of(job) == PREPARE:
        return True
    return holds(job, "Failed") or all(map(cannot_begin, state.pods_of(job)))
