"""What can go wrong between the operator and the API server, as one tree with facts as attributes.

OperatorError
├── OperatorSettingError  a setting is wrong; the sentence says what to do
└── ClusterError          the API server's answer, or none
    ├── Unavailable       no answer, or one that says "later" (429, 5xx, time-outs): try again with back-off
    ├── Conflict          somebody else wrote first (409): read again and go on
    ├── Forbidden         not allowed (403): missing rights, an exhausted quota, a namespace that is going
    └── Refused           the object breaks a rule (400, 422): the same request will be refused again
"""

from __future__ import annotations


class OperatorError(Exception):
    """Root of all expected errors of the operator's running half."""


class OperatorSettingError(OperatorError):
    """A setting cannot be used. `name` is its variable, `problem` says what to do."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name} {problem}")
        self.name = name
        self.problem = problem


class ClusterError(OperatorError):
    """A request to the API server did not succeed.

    `request` is the method and path, `status` the HTTP status (0 without an answer), `message` the server's sentence,
    `retry_after_s` the pause that the server asked for, if it did.
    """

    def __init__(self, request: str, status: int, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{request}: {status or 'no answer'}: {message}")
        self.request = request
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s


class Unavailable(ClusterError):
    """The API server does not answer now or says "later"."""


class Conflict(ClusterError):
    """The object has changed or exists already."""


class Forbidden(ClusterError):
    """The API server knows us and says no."""


class Refused(ClusterError):
    """The API server will not take the object as it is."""


def of_status(request: str, status: int, message: str, retry_after_s: float | None = None) -> ClusterError:
    """The error of an HTTP status. 401 counts as unavailable: a token that is about to be renewed heals by itself."""
    if status == 409:
        return Conflict(request, status, message, retry_after_s)
    if status == 403:
        return Forbidden(request, status, message, retry_after_s)
    if status in (400, 405, 413, 415, 422):
        return Refused(request, status, message, retry_after_s)
    if status in (0, 401, 408, 429) or status >= 500:
        return Unavailable(request, status, message, retry_after_s)
    return ClusterError(request, status, message, retry_after_s)
