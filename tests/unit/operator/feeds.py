"""MarketFeeds to test with."""

from __future__ import annotations

import copy
from typing import Any

from marketfeed_operator.spec import MarketFeed, parse

GENERATOR: dict[str, Any] = {"generator": {"rate": 20000, "symbols": 50}}
FINNHUB: dict[str, Any] = {"finnhub": {"apiKeys": [{"name": "finnhub", "key": f"key-{i}"} for i in range(4)]}}
HISTORY: dict[str, Any] = {"history": {"mode": "import", "files": {"configMap": "trades", "paths": ["a.csv"]}}}


def feed_object(name: str = "demo", namespace: str = "feeds", **spec: Any) -> dict[str, Any]:
    """A MarketFeed as the API server gives it; `spec` replaces parts of a generator feed's."""
    whole = {
        "source": GENERATOR,
        "kafka": {"bootstrapServers": "kafka:9092"},
        "redis": {"url": "redis://redis:6379/0"},
        "postgres": {"urlFrom": {"secretKeyRef": {"name": "postgres", "key": "url"}}},
        **spec,
    }
    return {
        "apiVersion": "marketfeed.dev/v1alpha1",
        "kind": "MarketFeed",
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-of-{name}", "generation": 1},
        "spec": copy.deepcopy({field: value for field, value in whole.items() if value is not None}),
    }


def feed(name: str = "demo", namespace: str = "feeds", **spec: Any) -> MarketFeed:
    """The same, parsed."""
    return parse(feed_object(name, namespace, **spec))
