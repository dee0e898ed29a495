"""The Jobs of a feed: when they are made, kept and tried again."""

from __future__ import annotations

import pytest
from tests.unit.operator.feeds import HISTORY, as_observed, done, feed
from tests.unit.operator.test_children import DEFAULTS, env_of, names, prepared, run, running

from marketfeed.history.settings import ImportSettings, ReplaySettings
from marketfeed.runtime.settings import Settings
from marketfeed_operator.children_jobs import history, history_name, prepare_name
from marketfeed_operator.observed import FeedState

OTHER_POSTGRES = {"urlFrom": {"secretKeyRef": {"name": "other", "key": "url"}}}


@pytest.mark.parametrize(("mode", "service"), [("import", ImportSettings), ("replay", ReplaySettings)])
def test_the_history_job_reads_its_files_once(mode: str, service: type[Settings]) -> None:
    """Its name changes with what it reads and with nothing else; a replay is never repeated by itself."""
    source = {"history": {"mode": mode, "files": {"persistentVolumeClaim": "data", "paths": ["a.csv", "b/c.csv.gz"]}}}
    its = feed(source=source)
    job = history(its, DEFAULTS)
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["args"] == ["history", mode, "/data/a.csv", "/data/b/c.csv.gz"]
    service.load(env=env_of(job))
    assert job["spec"]["backoffLimit"] == (3 if mode == "import" else 0)
    assert history_name(feed(source=source, image="other:1")) == history_name(its)
    more = {"history": {**source["history"], "files": {"persistentVolumeClaim": "data", "paths": ["a.csv"]}}}
    assert history_name(feed(source=more)) != history_name(its)
    found = run(its, prepared(its))
    assert names(found, "Deployment") == {"demo-recorder", "demo-mds"}
    assert names(found, "Job") == {history_name(its)}
    again = run(its, prepared(its, as_observed(job)))
    assert names(again, "Job") == set()
    assert ("Job", history_name(its)) in again.keep


@pytest.mark.parametrize("end", [None, "Complete", "Failed"])
def test_files_are_not_read_again_when_topics_and_tables_are_prepared_anew(end: str | None) -> None:
    """A new image or retention has a new prepare Job; the history Job, running or at its end, stays meanwhile."""
    before = feed(source=HISTORY)
    job = history(before, DEFAULTS)
    seen = as_observed(job) if end is None else done(job, end)
    changed = feed(source=HISTORY, image="newer:1")
    found = run(changed, prepared(before, seen))
    assert names(found, "Job") == {prepare_name(changed, DEFAULTS)}
    assert ("Job", history_name(changed)) in found.keep
    assert ("Job", history_name(changed)) not in run(changed, prepared(before)).keep


def test_a_failed_import_is_tried_again_once_it_may_succeed() -> None:
    """With corrected stores, though the files are the same: under another name, which then is the one that counts."""
    before, corrected = feed(source=HISTORY), feed(source=HISTORY, postgres=OTHER_POSTGRES)
    failed = done(history(before, DEFAULTS), "Failed")
    assert run(before, prepared(before, failed)).keep >= {("Job", history_name(before))}
    found = run(corrected, prepared(corrected, failed))
    retried = next(child for child in found.apply if child["kind"] == "Job")
    assert retried["metadata"]["name"].startswith(f"{history_name(before)}-")
    assert ("Job", history_name(before)) not in found.keep
    for state in (prepared(corrected, failed, as_observed(retried)), prepared(corrected, done(retried))):
        again = run(corrected, state)
        assert names(again, "Job") == set()
        assert ("Job", retried["metadata"]["name"]) in again.keep


@pytest.mark.parametrize(("mode", "end"), [("import", "Complete"), ("replay", "Failed"), ("replay", "Complete")])
def test_what_was_read_or_sent_is_not_repeated(mode: str, end: str) -> None:
    """Other stores do not make a finished import, or a replay that sent a part, run again."""
    source = {"history": {**HISTORY["history"], "mode": mode}}
    before, other = feed(source=source), feed(source=source, postgres=OTHER_POSTGRES)
    found = run(other, prepared(other, done(history(before, DEFAULTS), end)))
    assert names(found, "Job") == set()
    assert ("Job", history_name(before)) in found.keep


def test_what_is_deleted_while_anew_is_prepared_comes_back() -> None:
    """A feed that ran goes on while a new Job makes its tables: the missing is made, the rest is left alone."""
    state = running(feed(shards=2))
    without = FeedState(tuple(its for its in state.objects if its["metadata"]["name"] != "demo-ingest-1-0"))
    changed = feed(shards=2, retention={"log": {"hours": 1}})
    found = run(changed, without)
    assert names(found, "Deployment") == {"demo-generator", "demo-ingest-1-0"}
    assert {("Deployment", "demo-mds"), ("Deployment", "demo-ingest-0-0")} <= found.keep
