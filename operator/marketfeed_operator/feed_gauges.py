"""The MarketFeeds as gauges: which there are, and how many have which condition.

A gauge of a feed that nobody reconciles any more goes away with the leadership or with the feed, so that a dead
feed is never shown as alive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from marketfeed_operator import metrics

Key = tuple[str, str]
_CONDITIONS = ("Ready", "Reconciling", "Stalled", "Degraded")


class FeedGauges:
    """Sets and removes the series of feeds of one leadership."""

    def __init__(self) -> None:
        self._shown: dict[Key, tuple[str, str, str]] = {}
        self._conditions: dict[Key, frozenset[str]] = {}

    def set(self, key: Key, status: Mapping[str, Any]) -> None:
        """Show the feed as its status says."""
        true = frozenset(c["type"] for c in status.get("conditions") or () if c.get("status") == "True")
        ready, degraded = (str(name in true).lower() for name in ("Ready", "Degraded"))
        labels = (str(status.get("source", "")), ready, degraded)
        if self._shown.get(key) != labels:
            self._remove(key)
            metrics.FEED_INFO.labels(*key, *labels).set(1)
            self._shown[key] = labels
        self._conditions[key] = true
        self._count()

    def forget(self, key: Key) -> None:
        """The feed is gone."""
        self._remove(key)
        self._conditions.pop(key, None)
        self._count()

    def clear(self) -> None:
        """The leadership is over: another replica shows the feeds now."""
        for key in list(self._shown):
            self._remove(key)
        self._conditions.clear()
        self._count()

    def _remove(self, key: Key) -> None:
        labels = self._shown.pop(key, None)
        if labels is not None:
            metrics.FEED_INFO.remove(*key, *labels)

    def _count(self) -> None:
        counts = Counter(name for true in self._conditions.values() for name in true)
        for name in _CONDITIONS:
            metrics.FEEDS.labels(name).set(counts[name])
