"""A replica that does not lead."""

from __future__ import annotations

from typing import Any

from marketfeed_operator.app import Operator
from marketfeed_operator.settings import OperatorSettings


async def test_a_replica_that_waits_says_so() -> None:
    """It knows no feeds, names itself, and has not been answered by the API server yet."""
    cluster: Any = None
    operator = Operator(OperatorSettings(identity="pod-1", lease_namespace="ops"), cluster)
    vital = operator.vital()
    assert (vital.leading, vital.reached, vital.contact_age_s < 10.0) == (False, False, True)
    assert operator.state() == {"identity": "pod-1", "leading": False, "holder": "", "feeds": 0, "unreadable": {}}
