"""What one look decides: children and plan for a good feed, a problem for one that cannot become a pipeline."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from marketfeed_operator.children_parts import PodDefaults
from marketfeed_operator.observed import FeedState
from marketfeed_operator.reconcile import decide
from marketfeed_operator.spec_status import Reason

NOW = datetime(2026, 1, 2, tzinfo=UTC)
DEFAULTS = PodDefaults("localhost/marketfeed:dev")


def feed(**spec: Any) -> dict[str, Any]:
    whole = {
        "source": {"generator": {"symbols": 20}},
        "shards": 2,
        "kafka": {"bootstrapServers": "kafka:9092"},
        "redis": {"url": "redis://redis:6379"},
        "postgres": {"urlFrom": {"secretKeyRef": {"name": "postgres", "key": "url"}}},
        **spec,
    }
    return {"metadata": {"name": "x", "namespace": "n", "uid": "u", "generation": 1}, "spec": whole}


def test_a_good_feed_gets_a_plan_and_children() -> None:
    """All twenty symbols are planned; the plan's ConfigMap and the prepare Job are among what is to be applied."""
    decided = decide(feed(), FeedState(), DEFAULTS, NOW)
    assert decided.problem is None
    assert decided.planned is not None
    assert len(decided.planned.plan.assigned) == 20
    assert decided.desired is not None
    kinds = {child["kind"] for child in decided.desired.apply}
    assert {"ConfigMap", "Job", "Service", "NetworkPolicy"} <= kinds
    assert all(child["metadata"]["ownerReferences"][0]["uid"] == "u" for child in decided.desired.apply)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"shards": "many"}, None),
        ({"source": {}}, None),
        ({"symbolsFrom": {"configMapKeyRef": {"name": "nowhere", "key": "k"}}}, None),
        ({"symbolsFrom": {"configMapKeyRef": {"name": "there", "key": "k"}}}, "# nothing\n"),
    ],
    ids=["wrong type", "no source", "missing ConfigMap", "empty ConfigMap"],
)
def test_a_feed_that_cannot_become_a_pipeline_is_a_problem_and_touches_no_child(
    spec: dict[str, Any], text: str | None
) -> None:
    """The reason is InvalidSpec with a sentence, nothing is to be applied or deleted, and it is not tried again."""
    decided = decide(feed(**spec), FeedState(symbols_text=text), DEFAULTS, NOW)
    assert decided.problem is not None
    assert decided.problem.reason == Reason.INVALID_SPEC
    assert decided.problem.message
    assert decided.desired is None
    assert not decided.refused
