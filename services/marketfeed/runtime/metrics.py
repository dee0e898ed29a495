"""Prometheus metrics, made once per name.

A service lists its metrics in one module, `<service>/metrics.py`; names begin with `marketfeed_`, units come last.
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest
from prometheus_client.registry import Collector

PREFIX = "marketfeed_"

# From a tenth of a millisecond to ten seconds: what a hop of the pipeline may take.
LATENCY_BUCKETS_S = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_made: dict[str, Collector] = {}


def counter(name: str, meaning: str, labels: Sequence[str] = ()) -> Counter:
    """The counter `marketfeed_<name>`, made on first call."""
    found = _made.get(name)
    if not isinstance(found, Counter):
        found = _made[name] = Counter(PREFIX + name, meaning, labels)
    return found


def gauge(name: str, meaning: str, labels: Sequence[str] = ()) -> Gauge:
    """The gauge `marketfeed_<name>`, made on first call."""
    found = _made.get(name)
    if not isinstance(found, Gauge):
        found = _made[name] = Gauge(PREFIX + name, meaning, labels)
    return found


def histogram(
    name: str, meaning: str, labels: Sequence[str] = (), buckets: Sequence[float] = LATENCY_BUCKETS_S
) -> Histogram:
    """The histogram `marketfeed_<name>`, made on first call."""
    found = _made.get(name)
    if not isinstance(found, Histogram):
        found = _made[name] = Histogram(PREFIX + name, meaning, labels, buckets=buckets)
    return found


def exposition() -> bytes:
    """All metrics in Prometheus' text format."""
    return generate_latest(REGISTRY)
