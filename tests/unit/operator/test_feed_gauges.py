"""The gauges of MarketFeeds."""

from __future__ import annotations

from prometheus_client import REGISTRY

from marketfeed_operator.feed_gauges import FeedGauges


def status(ready: bool) -> dict[str, object]:
    condition = {"type": "Ready", "status": str(ready)}
    return {"source": "generator", "conditions": [condition, {"type": "Stalled", "status": str(not ready)}]}


def info(ready: str) -> float | None:
    labels = {"feed_namespace": "n", "feed": "x", "source": "generator", "ready": ready, "degraded": "false"}
    return REGISTRY.get_sample_value("marketfeed_operator_feed_info", labels)


def count(condition: str) -> float | None:
    return REGISTRY.get_sample_value("marketfeed_operator_feeds", {"condition": condition})


def test_a_feed_is_shown_once_as_it_is_and_not_after_its_end() -> None:
    """A change replaces the series, the feed's or the leadership's end removes it."""
    gauges = FeedGauges()
    gauges.set(("n", "x"), status(ready=False))
    assert (info("false"), info("true"), count("Stalled"), count("Ready")) == (1.0, None, 1.0, 0.0)
    gauges.set(("n", "x"), status(ready=True))
    assert (info("false"), info("true"), count("Stalled"), count("Ready")) == (None, 1.0, 0.0, 1.0)
    gauges.set(("n", "y"), status(ready=True))
    assert count("Ready") == 2.0
    gauges.forget(("n", "x"))
    assert (info("true"), count("Ready")) == (None, 1.0)
    gauges.clear()
    assert count("Ready") == 0.0
