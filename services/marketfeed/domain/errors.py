"""The tree of errors that are expected; a bug is an assertion or a crash instead.

MarketfeedError
├── SettingError          ours to explain: a setting is wrong, the sentence says what to do
├── Unavailable           theirs: a server or a peer cannot be reached now; retry with back-off
├── StalePosition         somebody else wrote first: reload and go on from the stored position
├── LogReplaced           the topic's id is another one: this is a new log
├── LogTrimmed            the position asked for is no longer in the log
├── MalformedRecord       bytes of the log that cannot be read
├── Interrupted           whoever started it ended it before it was done
├── ClientError           a client's message is wrong; carries the code that is sent back
└── CallRefused           a call of gRPC cannot be obeyed; carries its status and the reason that programs read
"""

import enum


class MarketfeedError(Exception):
    """Root of all expected errors. Facts are attributes; the message is made from them."""


class SettingError(MarketfeedError):
    """A setting cannot be used.

    `name` is the environment variable or flag, `problem` one sentence that says what to do.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name
        self.problem = problem


class Unavailable(MarketfeedError):
    """A server (`what`, at `where`) does not answer at present; `reason` is the client library's word."""

    def __init__(self, what: str, where: str, reason: str) -> None:
        super().__init__(f"{what} at {where} is not available: {reason}")
        self.what = what
        self.where = where
        self.reason = reason


class StalePosition(MarketfeedError):
    """A sink's stored position is not the expected one: another writer was here. Nothing was written."""

    def __init__(self, sink: str, expected: object, found: object) -> None:
        super().__init__(f"{sink}: position is {found}, expected {expected}")
        self.sink = sink
        self.expected = expected
        self.found = found


class LogReplaced(MarketfeedError):
    """The topic carries another id than the position: owners are void, reading starts at offset 0."""

    def __init__(self, topic: str, expected: str, found: str) -> None:
        super().__init__(f"{topic}: the log was replaced (id {found}, expected {expected})")
        self.topic = topic
        self.expected = expected
        self.found = found


class LogTrimmed(MarketfeedError):
    """Offsets from `wanted` up to `first` of a partition were deleted before they were read."""

    def __init__(self, topic: str, partition: int, wanted: int, first: int) -> None:
        super().__init__(f"{topic}[{partition}]: offset {wanted} is trimmed, the log starts at {first}")
        self.topic = topic
        self.partition = partition
        self.wanted = wanted
        self.first = first


class MalformedRecord(MarketfeedError):
    """A log record cannot be decoded; it is counted and quarantined, never guessed at."""

    def __init__(self, partition: int, offset: int, reason: str) -> None:
        super().__init__(f"record {partition}/{offset}: {reason}")
        self.partition = partition
        self.offset = offset
        self.reason = reason


class Interrupted(MarketfeedError):
    """A job was told to stop before its end: no success, so its exit code is not 0."""


class ClientError(MarketfeedError):
    """A client sent something wrong. `code` is part of the public API, `fatal` closes the connection."""

    def __init__(self, code: str, message: str, *, fatal: bool = False) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.fatal = fatal


class CallStatus(enum.Enum):
    """The statuses with which our calls are refused; names and meaning are gRPC's (grpc.io, status codes)."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    ABORTED = "ABORTED"
    UNAVAILABLE = "UNAVAILABLE"


class CallRefused(MarketfeedError):
    """A call cannot be obeyed.

    status   what kind of refusal it is
    reason   part of the public API, UPPER_SNAKE_CASE: ErrorInfo.reason of the status' details
    message  one sentence that says what to do
    facts    what a program may want to know, as texts: ErrorInfo.metadata
    """

    def __init__(self, status: CallStatus, reason: str, message: str, **facts: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.facts = facts
