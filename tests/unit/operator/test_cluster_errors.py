"""Answers of the API server as typed errors, and the paths of kinds."""

from __future__ import annotations

import pytest

from marketfeed_operator.cluster_errors import ClusterError, Conflict, Forbidden, Refused, Unavailable, of_status
from marketfeed_operator.kinds import BY_NAME, EVENT, MARKETFEED


@pytest.mark.parametrize(
    ("status", "kind"),
    [(0, Unavailable), (401, Unavailable), (429, Unavailable), (503, Unavailable), (409, Conflict), (403, Forbidden),
     (400, Refused), (422, Refused), (404, ClusterError)],
)  # fmt: skip
def test_a_status_is_a_typed_error_with_its_facts(status: int, kind: type[ClusterError]) -> None:
    """What may heal by itself is Unavailable; request, sentence and the asked-for pause stay readable."""
    error = of_status("GET /x", status, "why", 3.0)
    assert type(error) is kind
    assert (error.request, error.status, error.message, error.retry_after_s) == ("GET /x", status, "why", 3.0)


def test_paths_of_kinds() -> None:
    """Core kinds live below /api, the others below /apis/group."""
    assert BY_NAME["Pod"].path("n", "p") == "/api/v1/namespaces/n/pods/p"
    assert MARKETFEED.path("n", "x", "status") == "/apis/marketfeed.dev/v1alpha1/namespaces/n/marketfeeds/x/status"
    assert EVENT.path() == "/apis/events.k8s.io/v1/events"
