"""When a feed's status is written."""

from __future__ import annotations

from typing import Any

import pytest

from marketfeed_operator.status_writer import Written, due_in_s


def status(ready: str = "True", rate: str = "1/s", time: str = "t1") -> dict[str, Any]:
    condition = {"type": "Ready", "status": ready, "reason": "Running", "lastTransitionTime": time}
    return {"conditions": [condition], "rate": rate}


@pytest.mark.parametrize(
    ("last", "new", "now", "expected"),
    [
        (None, status(), 0.0, 0.0),
        (Written(status(), 100.0), status(), 500.0, None),
        (Written(status(), 100.0), status(rate="2/s"), 104.0, 6.0),
        (Written(status(), 100.0), status(rate="2/s"), 111.0, 0.0),
        (Written(status(), 100.0), status(ready="False", time="t2"), 101.0, 0.0),
    ],
    ids=["first", "unchanged", "too early", "due", "condition changed"],
)
def test_status_is_written_rarely_unless_a_condition_changes(
    last: Written | None, new: dict[str, Any], now: float, expected: float | None
) -> None:
    """Never without a change, at once for a condition, else at most every 10 s."""
    assert due_in_s(last, new, now, 10.0) == expected
