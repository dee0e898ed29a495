"""The MarketFeed's status as types, and its vocabulary: conditions, reasons, and what each of them means."""

from __future__ import annotations

import enum
from typing import Annotated, Literal

from msgspec import Meta

from marketfeed_operator.spec_fields import Part, meaning

OVERFLOW_SHOWN = 100
MESSAGE_LENGTH_MAX = 1024
_BY_TYPE = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
_BY_MEMBER = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["shard", "member"]}

CONDITIONS = {
    "Ready": "True while the feed serves: every part runs and the shards are connected.",
    "Reconciling": "True while the operator works towards the specification; False when it is reached or out of reach.",
    "Stalled": "True when waiting alone cannot help: somebody has to change something. The message says what.",
    "Degraded": "True when the feed serves, but less than was asked for.",
}


class Reason(enum.StrEnum):
    """Why a condition is what it is; stable, so that alerts and scripts may rely on them. Documented in `MEANINGS`."""

    SERVING = "Serving"
    FINISHED = "Finished"
    STOPPED = "Stopped"
    AS_SPECIFIED = "AsSpecified"
    PAUSED = "Paused"
    PREPARING = "Preparing"
    STARTING = "Starting"
    ROLLING_OUT = "RollingOut"
    RESHARDING = "Resharding"
    IMPORTING = "Importing"
    REPLAYING = "Replaying"
    INVALID_SPEC = "InvalidSpec"
    SECRET_MISSING = "SecretMissing"
    CONFIGURATION_REFUSED = "ConfigurationRefused"
    HISTORY_FAILED = "HistoryFailed"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    QUOTA_EXCEEDED = "QuotaExceeded"
    POD_REFUSED = "PodRefused"
    UNSCHEDULABLE = "Unschedulable"
    CRASH_LOOP = "CrashLoop"
    ROLLOUT_STUCK = "RolloutStuck"
    KAFKA_UNREACHABLE = "KafkaUnreachable"
    POSTGRES_UNREACHABLE = "PostgresUnreachable"
    REDIS_UNREACHABLE = "RedisUnreachable"
    SOURCE_DISCONNECTED = "SourceDisconnected"
    OVERFLOW = "Overflow"
    NO_STANDBY = "NoStandby"
    FORBIDDEN = "Forbidden"
    REFUSED = "Refused"
    UNAVAILABLE = "Unavailable"
    INTERNAL_ERROR = "InternalError"


MEANINGS = {
    Reason.SERVING: "All parts run, and every shard with symbols is connected to the source.",
    Reason.FINISHED: "The import or replay has ended; what it brought is served.",
    Reason.STOPPED: "spec.shards is 0: nothing is read, what is stored is served.",
    Reason.AS_SPECIFIED: "Nothing of the kind.",
    Reason.PAUSED: 'The annotation marketfeed.dev/paused: "true" tells the operator to change nothing.',
    Reason.PREPARING: "The prepare Job makes topics and tables; the rest waits for it.",
    Reason.STARTING: "Pods start.",
    Reason.ROLLING_OUT: "Pods are replaced by newer ones, ingest one at a time.",
    Reason.RESHARDING: "Symbols move between shards.",
    Reason.IMPORTING: "Trade files are being imported; see status.history.",
    Reason.REPLAYING: "Trade files are being replayed; see status.history.",
    Reason.INVALID_SPEC: "The specification cannot become a pipeline; the message names the field.",
    Reason.SECRET_MISSING: "A Secret or ConfigMap that the specification names, or a key of it, is not there.",
    Reason.CONFIGURATION_REFUSED: "A service refused its settings (exit code 2); the message is its own.",
    Reason.HISTORY_FAILED: "The import or replay failed for good; the message is its last words.",
    Reason.IMAGE_PULL_FAILED: "The image cannot be had.",
    Reason.QUOTA_EXCEEDED: "A quota of the namespace does not allow more pods.",
    Reason.POD_REFUSED: "Admission refuses the pods (Pod Security, LimitRange or a webhook).",
    Reason.UNSCHEDULABLE: "No node has room for a pod.",
    Reason.CRASH_LOOP: "A container ends again and again; the message is its last words.",
    Reason.ROLLOUT_STUCK: "New pods of a part do not become ready; the message says which, and what the newest says.",
    Reason.KAFKA_UNREACHABLE: "Kafka does not answer; retried until it does.",
    Reason.POSTGRES_UNREACHABLE: "PostgreSQL does not answer; retried until it does.",
    Reason.REDIS_UNREACHABLE: "Redis does not answer; retried until it does.",
    Reason.SOURCE_DISCONNECTED: "A shard has no connection to the source; it reconnects by itself.",
    Reason.OVERFLOW: "Symbols fit under no key; see status.overflow. Add keys and shards, or take symbols out.",
    Reason.NO_STANDBY: "A shard has fewer members than spec.redundancy at work.",
    Reason.FORBIDDEN: "The operator lacks a right; the message names it.",
    Reason.REFUSED: "The API server refused an object; the message is its own.",
    Reason.UNAVAILABLE: "The API server did not answer, or not in time; retried.",
    Reason.INTERNAL_ERROR: "The operator failed on this feed by a fault of its own; its log has the whole, retried.",
}


class Condition(Part, frozen=True, kw_only=True):
    """One condition, as in metav1.Condition."""

    type: Annotated[str, meaning("Ready, Reconciling, Stalled or Degraded.", max_length=64)]
    status: Annotated[Literal["True", "False", "Unknown"], meaning("Whether it holds.")]
    reason: Annotated[str, meaning("Why, in one word.", min_length=1, max_length=64)]
    message: Annotated[str, meaning("Why, for people, and what to do.", max_length=MESSAGE_LENGTH_MAX)]
    observed_generation: Annotated[int, meaning("The generation that it was judged by.", ge=0)]
    last_transition_time: Annotated[
        str, meaning("When the status changed last.", max_length=64, extra_json_schema={"format": "date-time"})
    ]


class ShardStatus(Part, frozen=True, kw_only=True):
    """One member of a shard."""

    shard: Annotated[int, meaning("Number of the shard.", ge=0)]
    member: Annotated[int, meaning("Number of the member.", ge=0)]
    pod: Annotated[str, meaning("Its pod.", max_length=253)] | None = None
    phase: (
        Annotated[str, meaning("following, waiting, claiming, preparing, live, standby, idle or left.", max_length=32)]
        | None
    ) = None
    connected: Annotated[bool, meaning("Whether it is connected to the source.")]
    symbols: Annotated[int, meaning("Symbols that the plan gives to the shard.", ge=0)]
    symbols_hash: Annotated[str, meaning("Hash of the symbols it subscribes to.", max_length=64)] | None = None
    rate: Annotated[str, meaning("Trades a second.", max_length=32)] | None = None
    lag_seconds: Annotated[str, meaning("Age of its watermark, seconds.", max_length=32)] | None = None
    last_event_age_seconds: Annotated[str, meaning("Time since a trade arrived, seconds.", max_length=32)] | None = None


class HistoryStatus(Part, frozen=True, kw_only=True):
    """How far an import or replay is."""

    phase: Annotated[str, meaning("Pending, Running, Succeeded or Failed.", max_length=32)]
    rows_done: Annotated[int, meaning("Trades read.", ge=0)] | None = None
    rows_total: (
        Annotated[int, meaning("Trades in the files, estimated from their size until the end.", ge=0)] | None
    ) = None
    percent: Annotated[str, meaning("Share of the bytes that were read.", max_length=16)] | None = None
    bad_lines: Annotated[int, meaning("Lines that were no trades.", ge=0)] | None = None


class Status(Part, frozen=True, kw_only=True):
    """What the operator sees."""

    observed_generation: Annotated[int, meaning("The generation that the status is about.", ge=0)] | None = None
    conditions: Annotated[
        tuple[Condition, ...],
        meaning("Ready, Reconciling, Stalled, Degraded.", max_length=16, extra_json_schema=_BY_TYPE),
    ] = ()
    source: Annotated[str, meaning("Kind of the source.", max_length=16)] | None = None
    symbols: Annotated[int, meaning("Symbols of the feed that a shard serves.", ge=0)] | None = None
    shards: Annotated[int, meaning("Shards that have pods.", ge=0)] | None = None
    ready_shards: Annotated[int, meaning("Shards with a connected member that publishes.", ge=0)] | None = None
    selector: Annotated[str, meaning("Labels of the ingest pods, for autoscalers.", max_length=512)] | None = None
    rate: Annotated[str, meaning("Trades a second over all shards.", max_length=32)] | None = None
    lag: Annotated[str, meaning("Greatest lag of a shard.", max_length=32)] | None = None
    plan_revision: Annotated[int, meaning("Revision of the plan in force.", ge=0)] | None = None
    shard_status: Annotated[
        tuple[ShardStatus, ...], meaning("Members of shards.", max_length=256, extra_json_schema=_BY_MEMBER)
    ] = ()
    overflow_count: Annotated[int, meaning("Symbols that fit under no key.", ge=0)] | None = None
    overflow: Annotated[
        tuple[Annotated[str, Meta(max_length=64)], ...],
        meaning(
            f"The first {OVERFLOW_SHOWN} of them.",
            max_length=OVERFLOW_SHOWN,
            extra_json_schema={"x-kubernetes-list-type": "set"},
        ),
    ] = ()
    history: Annotated[HistoryStatus, meaning("How far an import or replay is.")] | None = None
