"""What several rooms' tests need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.collector import Collector, listening

from marketfeed.runtime import tracing


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Where spans go, once a test has set tracing up; it is off again afterwards."""
    with listening() as found:
        yield found
        tracing.shut_down()
