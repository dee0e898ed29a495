"""What is desired of a feed in a given state, with the operator's defaults and one clock for all tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.unit.operator.feeds import as_observed, done

from marketfeed_operator.children import Desired, desired
from marketfeed_operator.children_jobs import prepare
from marketfeed_operator.children_parts import PodDefaults
from marketfeed_operator.observed import FeedState
from marketfeed_operator.plan import Planned, next_plan
from marketfeed_operator.spec import MarketFeed, symbols_of

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DEFAULTS = PodDefaults("localhost/marketfeed:dev")


def planned_for(its: MarketFeed, state: FeedState | None = None) -> Planned:
    return next_plan(its, symbols_of(its), state or FeedState(), NOW)


def run(its: MarketFeed, state: FeedState, planned: Planned | None = None, now: datetime = NOW) -> Desired:
    return desired(its, state, planned or planned_for(its, state), DEFAULTS, now)


def prepared(its: MarketFeed, *more: dict[str, Any]) -> FeedState:
    return FeedState((done(prepare(its, DEFAULTS)), *more))


def running(its: MarketFeed) -> FeedState:
    """The state in which everything that is desired is there and settled."""
    made = run(its, prepared(its))
    return prepared(its, *(as_observed(child) for child in made.apply if child["kind"] != "Job"))


def names(found: Desired, kind: str) -> set[str]:
    return {child["metadata"]["name"] for child in found.apply if child["kind"] == kind}


def env_of(child: dict[str, Any]) -> dict[str, str]:
    container = child["spec"]["template"]["spec"]["containers"][0]
    listed = [its["name"] for its in container["env"]]
    assert len(listed) == len(set(listed))
    return {its["name"]: its.get("value", "from a secret") for its in container["env"]}
