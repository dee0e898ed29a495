"""What ran before is restored as it was, while topics and tables are prepared for something else."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.operator.desired_children import DEFAULTS, env_of, names, run, running
from tests.unit.operator.feeds import FINNHUB, HISTORY, feed, pod_of

from marketfeed_operator.children import Desired
from marketfeed_operator.children_jobs import prepare_name
from marketfeed_operator.observed import FeedState, annotations_on
from marketfeed_operator.prepared_feed import PREPARED, prepared_before, written_down

ELSEWHERE = {"kafka": {"bootstrapServers": "other:9092"}, "image": "newer:1", "retention": {"log": {"hours": 1}}}
SYMBOLS = [f"S{number}" for number in range(20)]


def without(state: FeedState, *gone: str) -> FeedState:
    return FeedState(tuple(its for its in state.objects if its["metadata"]["name"] not in gone), state.readings)


def deployment(found: Desired, name: str) -> dict[str, Any]:
    (made,) = [
        its for its in found.apply if its["metadata"]["name"] == name and its["kind"] in ("Deployment", "ConfigMap")
    ]
    return made


def image_of(made: dict[str, Any]) -> str:
    return str(made["spec"]["template"]["spec"]["containers"][0]["image"])


def test_what_is_deleted_while_anew_is_prepared_comes_back_as_it_was() -> None:
    """With its old stores and image, for which topics and tables are there; what exists is left alone."""
    state = without(running(feed(shards=2)), "demo-ingest-1-0", "demo-mds", "demo-recorder")
    changed = feed(shards=2, **ELSEWHERE)
    found = run(changed, state)
    assert names(found, "Deployment") == {"demo-generator", "demo-ingest-1-0", "demo-mds", "demo-recorder"}
    assert {name for kind, name in found.keep if kind == "Deployment"} == {"demo-generator", "demo-ingest-0-0"}
    for name in ("demo-ingest-1-0", "demo-mds", "demo-recorder"):
        made = deployment(found, name)
        assert image_of(made) == DEFAULTS.image
        assert env_of(made)["MARKETFEED_KAFKA"] == "kafka:9092"
    assert names(found, "Job") == {prepare_name(changed, DEFAULTS)}


def test_what_was_prepared_is_remembered_until_the_next_is() -> None:
    """The plan's ConfigMap carries it over every look in between, and takes up the newest when that is prepared."""
    before = running(feed(shards=2))
    changed = feed(shards=2, **ELSEWHERE)
    kept = deployment(run(changed, before), "demo-plan")
    found = before.named("ConfigMap", "demo-plan")
    assert found is not None
    assert annotations_on(kept)[PREPARED] == annotations_on(found)[PREPARED]
    assert (
        annotations_on(deployment(run(changed, running(changed)), "demo-plan"))[PREPARED]
        != annotations_on(kept)[PREPARED]
    )


@pytest.mark.parametrize(("before", "after", "restored"), [(1, 3, {0}), (3, 1, {0}), (2, 2, {0, 1})])
def test_only_shards_that_were_and_are_wanted_come_back(before: int, after: int, restored: set[int]) -> None:
    """A new shard waits for what is prepared, and one that leaves has nothing to come back for."""
    state = running(feed(shards=before))
    gone = [f"demo-ingest-{shard}-0" for shard in range(before)]
    found = run(feed(shards=after, **ELSEWHERE), without(state, *gone))
    assert names(found, "Deployment") - {"demo-generator"} == {f"demo-ingest-{shard}-0" for shard in restored}


def test_a_feed_that_was_never_prepared_has_nothing_to_restore() -> None:
    """Nor one whose memory somebody made unreadable."""
    assert names(run(feed(), FeedState()), "Deployment") == {"demo-generator"}
    state = without(running(feed()), "demo-mds")
    (plan,) = [its for its in state.objects if its["kind"] == "ConfigMap"]
    for text in ("", "{", '{"shards": 1}', '["no", "spec"]'):
        broken = {**plan, "metadata": {**plan["metadata"], "annotations": {PREPARED: text}}}
        odd = FeedState(tuple(broken if its is plan else its for its in state.objects))
        assert prepared_before(feed(), odd) is None
        assert names(run(feed(**ELSEWHERE), odd), "Deployment") == {"demo-generator"}


def test_a_restored_member_has_a_key_that_nobody_else_has() -> None:
    """Its own one, by its position in the list that was in force."""
    its = feed(source=FINNHUB, symbols=SYMBOLS, shards=2)
    state = running(its)
    first = next(obj for obj in state.objects if obj["metadata"]["name"] == "demo-ingest-0-0")
    lost = without(FeedState((*state.objects, pod_of(dict(first)))), "demo-ingest-1-0")
    found = run(feed(source=FINNHUB, symbols=SYMBOLS, shards=2, **ELSEWHERE), lost)
    made = deployment(found, "demo-ingest-1-0")
    assert annotations_on(made)["marketfeed.dev/api-key"] == "finnhub/key-1"


def test_the_memory_is_small_and_names_no_symbol() -> None:
    """Thousands of symbols are in no pod's template, and annotations have a limit of 256 KiB."""
    many = feed(source={"generator": {"symbols": 5000}}, symbols=[f"SYM{number:04d}" for number in range(5000)])
    assert len(written_down(many, DEFAULTS)) < 2000
    assert "SYM" not in written_down(many, DEFAULTS)


def test_files_are_no_part_of_what_is_restored() -> None:
    """Services come back; what was read is not read again."""
    state = without(running(feed(source=HISTORY)), "demo-mds")
    found = run(feed(source=HISTORY, image="newer:1"), state)
    assert names(found, "Deployment") == {"demo-mds"}
    assert all("-history-" not in name for name in names(found, "Job"))
    assert image_of(deployment(found, "demo-mds")) == DEFAULTS.image
