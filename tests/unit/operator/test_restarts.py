"""A new value of `marketfeed.dev/restarted-at` replaces a feed's pods, which read Secrets only when they start."""

from __future__ import annotations

from typing import Any

from tests.unit.operator.desired_children import DEFAULTS, names, prepared, run, running
from tests.unit.operator.feeds import FINNHUB, HISTORY, as_observed, done, feed, feed_object, pod_of

from marketfeed_operator.children_jobs import history, prepare
from marketfeed_operator.observed import TEMPLATE_HASH, FeedState, annotations_on
from marketfeed_operator.spec import RESTARTED_AT, MarketFeed, parse

SYMBOLS = [f"S{number}" for number in range(20)]


def restarted(at: str | None, **spec: Any) -> MarketFeed:
    obj = feed_object(**spec)
    if at is not None:
        obj["metadata"]["annotations"] = {RESTARTED_AT: at, "somebody/else": "x"}
    return parse(obj)


def hashes(its: MarketFeed) -> dict[str, str]:
    made = run(its, prepared(its)).apply
    return {one["metadata"]["name"]: annotations_on(one)[TEMPLATE_HASH] for one in made if one["kind"] == "Deployment"}


def test_each_pod_of_the_feed_gets_a_new_template_with_a_new_value_and_only_then() -> None:
    """The value is on every pod beside its API key; without the annotation templates are as they always were."""
    spec = {"source": FINNHUB, "symbols": SYMBOLS, "shards": 2}
    none, first, again = (hashes(restarted(at, **spec)) for at in (None, "1", "2"))
    assert none == hashes(restarted(None, **spec))
    assert set(none) == set(first) == {"demo-recorder", "demo-mds", "demo-ingest-0-0", "demo-ingest-1-0"}
    assert all(len({none[name], first[name], again[name]}) == 3 for name in none)
    its = restarted("1", **spec)
    ingest = next(one for one in run(its, prepared(its)).apply if one["metadata"]["name"] == "demo-ingest-1-0")
    annotations = ingest["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {RESTARTED_AT: "1", "marketfeed.dev/api-key": "finnhub/key-1"}


def test_ingest_is_restarted_one_member_at_a_time_and_nothing_is_prepared_anew() -> None:
    """As with every other new template."""
    its = restarted("now", shards=3)
    found = run(its, running(feed(shards=3)))
    assert {name for name in names(found, "Deployment") if "-ingest-" in name} == {"demo-ingest-0-0"}
    assert {("Deployment", "demo-ingest-1-0"), ("Deployment", "demo-ingest-2-0")} <= found.keep
    assert names(found, "Job") == set()


def test_jobs_that_have_not_succeeded_are_tried_again_with_what_the_secrets_hold_now() -> None:
    """A failed import, and a prepare Job that waits with a password that is no more; never one that succeeded."""
    before, its = feed(source=HISTORY), restarted("now", source=HISTORY)
    reads, prepares = history(before, DEFAULTS), prepare(before, DEFAULTS)
    failed = run(its, prepared(before, done(reads, "Failed")))
    assert failed.replaced == {("Job", reads["metadata"]["name"])}
    assert run(its, prepared(before, done(reads))).replaced == frozenset()
    waits = FeedState((as_observed(prepares), pod_of(prepares)))
    assert run(its, waits).replaced == {("Job", prepares["metadata"]["name"])}
