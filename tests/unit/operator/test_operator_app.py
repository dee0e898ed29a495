"""A replica that does not lead."""

from __future__ import annotations

from typing import Any

from marketfeed_operator.app import Operator
from marketfeed_operator.health import Vital
from marketfeed_operator.settings import OperatorSettings


async def test_a_replica_that_waits_says_so() -> None:
    """It is live, knows no feeds and names itself."""
    cluster: Any = None
    operator = Operator(OperatorSettings(identity="pod-1", lease_namespace="ops"), cluster)
    assert operator.vital() == Vital()
    assert operator.state() == {"identity": "pod-1", "leading": False, "holder": "", "feeds": 0, "unreadable": {}}
