"""The status of a feed that the operator could not look at: what served is left standing, and the failure is told."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.unit.operator.feeds import feed_object
from tests.unit.operator.test_status import NOW, message, state_of, status_of, told

from marketfeed_operator.cluster_errors import of_status
from marketfeed_operator.status import Problem, changed_materially, troubled


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (of_status("GET", 403, "configmaps is forbidden"), ("True", "Forbidden")),
        (of_status("GET", 0, "no answer"), ("False", "Unavailable")),
        (TimeoutError("a reconcile did not end within 60 s"), ("False", "Unavailable")),
        (KeyError("port"), ("False", "InternalError")),
    ],
    ids=["forbidden", "no answer", "time", "bug"],
)
def test_a_look_that_failed_leaves_what_served_ready_and_says_the_reason(
    error: Exception, expected: tuple[str, str]
) -> None:
    """Ready and the figures stand as they were, Degraded names the failure, Stalled only if somebody has to act."""
    obj = feed_object()
    before = status_of(obj, state_of(obj))
    stalled, reason = expected
    after = troubled(before, Problem.of_failure(error), 2, NOW + timedelta(hours=1))
    conditions = told(after)
    assert conditions["Ready"] == ("True", "Serving")
    assert conditions["Degraded"] == ("True", reason)
    assert conditions["Stalled"] == (stalled, reason if stalled == "True" else "AsSpecified")
    assert conditions["Reconciling"] == ("False" if stalled == "True" else "True", reason)
    assert str(error) in message(after, "Degraded")
    assert after["observedGeneration"] == 1
    assert {name: value for name, value in after.items() if name != "conditions"} == {
        name: value for name, value in before.items() if name != "conditions"
    }
    assert changed_materially(before, after)
    again = troubled(after, Problem.of_failure(error), 2, NOW + timedelta(hours=2))
    assert again == after


def test_a_first_look_that_failed_says_so_in_every_condition() -> None:
    """A new feed of which nothing is known is not ready, for the reason of the failure."""
    status = troubled({}, Problem.of_failure(RuntimeError("boom")), 1, NOW)
    assert told(status)["Ready"] == ("False", "InternalError")
    assert told(status)["Reconciling"] == ("True", "InternalError")
    assert "boom" in message(status, "Ready")
