"""A symbol's partition is part of the log's format, so it is held to Kafka's own vectors."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketfeed.domain.partitions import by_partition, murmur2, partition_of, partitions_of

# From Kafka's UtilsTest.testMurmur2, where they are signed.
VECTORS = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}


@pytest.mark.parametrize(("text", "signed"), VECTORS.items())
def test_murmur2_equals_kafkas_own(text: str, signed: int) -> None:
    """The Java client's vectors come out alike."""
    assert murmur2(text.encode()) == signed & 0xFFFFFFFF


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.text(min_size=1), max_size=30, unique=True), st.integers(1, 64))
def test_every_symbol_is_in_one_existing_partition(symbols: list[str], partitions: int) -> None:
    """The list, the single answer and the grouping agree."""
    found = partitions_of(symbols, partitions).tolist()
    assert found == [partition_of(s, partitions) for s in symbols]
    assert all(0 <= p < partitions for p in found)
    grouped = by_partition(symbols, partitions)
    assert {s: p for p, names in grouped.items() for s in names} == dict(zip(symbols, found, strict=True))
    assert all(names for names in grouped.values())
