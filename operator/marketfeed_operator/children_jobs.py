"""Jobs, named by a hash of what they depend on: another hash is another Job, and the same Job is never run twice.

`prepare` waits for its servers and is tried until it succeeds. A failed import may be repeated, as it stores all or
nothing, and is once its pod would be another one (other files, stores, credentials or image); a failed replay may not,
as what it sent stays in the log.
"""

from __future__ import annotations

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
from marketfeed_operator.observed import TEMPLATE_HASH, FeedState, Object, annotations_on, holds
from marketfeed_operator.spec import MarketFeed

# Containers of prepare are restarted by the kubelet with its own back-off, at most every 5 minutes.
_PREPARE_RESTARTS = 100_000
_IMPORT_RETRIES = 3
_WRONG_SETTING = 2
_FILES_DIR = "/data"


def prepare_name(feed: MarketFeed, defaults: PodDefaults) -> str:
    """Name of the Job that makes topics and tables; a new image may bring new tables."""
    spec = feed.spec
    facts = (feed.feed_id, spec.kafka, spec.retention.log, spec.postgres, spec.image or defaults.image)
    return f"{feed.name}-prepare-{hash_of(*facts)}"


def prepare(feed: MarketFeed, defaults: PodDefaults) -> Child:
    """The Job that makes topics and tables."""
    container = Container(
        component="prepare",
        args=("prepare",),
        env=(*topic_env(feed), *postgres_env(feed)),
        requests={"cpu": "20m", "memory": "96Mi"},
        limits={"cpu": "1", "memory": "512Mi"},
        probed=False,
    )
    labels = labels_of(feed, "prepare")
    template = pod_template(feed, defaults, container, labels, restartPolicy="OnFailure")
    spec = {"backoffLimit": _PREPARE_RESTARTS, "template": template}
    return child(feed, "batch/v1", "Job", prepare_name(feed, defaults), labels, spec=spec)


def history_name(feed: MarketFeed) -> str:
    """Name of the Job that reads the files. The image is no part of it: an upgrade does not import again."""
    return f"{feed.name}-history-{hash_of(feed.feed_id, feed.spec.source.history, feed.spec.calendar)}"


def history_there(feed: MarketFeed, state: FeedState) -> Object | None:
    """The Job that reads, or has read, the present files; of several the one that has not failed."""
    first = history_name(feed)
    found = [job for job in state.of_kind("Job") if str(job["metadata"]["name"]).startswith(first)]
    return min(found, key=lambda job: (holds(job, "Failed"), -len(job["metadata"]["name"])), default=None)


def history_wanted(feed: MarketFeed, defaults: PodDefaults, state: FeedState) -> Child:
    """The history Job as it should be: the one that is there, unless that is a failed import which may succeed now."""
    wanted, there = history(feed, defaults), history_there(feed, state)
    if there is None:
        return wanted
    template = wanted["metadata"]["annotations"][TEMPLATE_HASH]
    source = feed.spec.source.history
    is_import = source is not None and source.mode == "import"
    if is_import and holds(there, "Failed") and annotations_on(there).get(TEMPLATE_HASH) not in (None, template):
        wanted["metadata"]["name"] = f"{history_name(feed)}-{template[:5]}"
    else:
        wanted["metadata"]["name"] = there["metadata"]["name"]
    return wanted


def history(feed: MarketFeed, defaults: PodDefaults) -> Child:
    """The Job of `source.history`, under the name of its first try."""
    source = feed.spec.source.history
    assert source is not None
    files = [f"{_FILES_DIR}/{path}" for path in source.files.paths]
    is_import = source.mode == "import"
    env = [value("QUARANTINE", "/tmp/quarantine.csv"), value("RESULT_FILE", "/dev/termination-log")]
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
    spec = {
        "backoffLimit": _IMPORT_RETRIES if is_import else 0,
        "podFailurePolicy": {
            "rules": [
                # A wrong setting or file stays wrong; a pod that its node lost did nothing wrong.
                {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [_WRONG_SETTING]}},
                *(
                    [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
                    if is_import
                    else []
                ),
            ]
        },
        "template": pod_template(feed, defaults, container, labels, restartPolicy="Never"),
    }
    made = child(feed, "batch/v1", "Job", history_name(feed), labels, spec=spec)
    made["metadata"]["annotations"] = {TEMPLATE_HASH: hash_of(spec["template"])}
    return made
