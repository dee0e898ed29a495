"""Jobs: what they run, that they run once, and when one that did not succeed is made anew."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.operator.desired_children import DEFAULTS, env_of, names, prepared, run
from tests.unit.operator.feeds import HISTORY, as_observed, done, feed, pod_of

from marketfeed.history.settings import ImportSettings, ReplaySettings
from marketfeed.runtime.settings import Settings
from marketfeed_operator.children_jobs import history, history_name, prepare, prepare_name
from marketfeed_operator.observed import FeedState
from marketfeed_operator.spec import MarketFeed

ELSEWHERE = {"urlFrom": {"secretKeyRef": {"name": "corrected", "key": "url"}}}
REPLAY = {"history": {**HISTORY["history"], "mode": "replay"}}


@pytest.mark.parametrize(("mode", "service"), [("import", ImportSettings), ("replay", ReplaySettings)])
def test_the_history_job_reads_its_files_once(mode: str, service: type[Settings]) -> None:
    """Its name changes with what it reads and with nothing else; a replay is never repeated by itself."""
    source = {"history": {"mode": mode, "files": {"persistentVolumeClaim": "data", "paths": ["a.csv", "b/c.csv.gz"]}}}
    its = feed(source=source)
    job = history(its, DEFAULTS)
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["args"] == ["history", mode, "/data/a.csv", "/data/b/c.csv.gz"]
    assert service.load(env=env_of(job)).timeout_s > 0, "it waits for its server"
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


@pytest.mark.parametrize("end", [None, "Complete"])
def test_files_are_not_read_again_when_topics_and_tables_are_prepared_anew(end: str | None) -> None:
    """A new image or retention has a new prepare Job; the history Job, running or at its good end, stays meanwhile."""
    before = feed(source=HISTORY)
    job = history(before, DEFAULTS)
    seen = as_observed(job) if end is None else done(job, end)
    changed = feed(source=HISTORY, image="newer:1")
    found = run(changed, prepared(before, seen, pod_of(job)))
    assert names(found, "Job") == {prepare_name(changed, DEFAULTS)}
    assert ("Job", history_name(changed)) in found.keep
    assert ("Job", history_name(changed)) not in run(changed, prepared(before)).keep


def replaced(its: MarketFeed, *jobs_and_pods: dict[str, Any]) -> set[str]:
    """The Jobs that are there, and are to be deleted so that they are made anew, once all is prepared."""
    found = run(its, prepared(its, *jobs_and_pods))
    assert not {name for kind, name in found.replaced} & names(found, "Job")
    assert not found.replaced & found.keep
    return {name for _, name in found.replaced}


@pytest.mark.parametrize("source", [HISTORY, REPLAY], ids=["import", "replay"])
def test_a_failed_history_job_is_made_anew_when_what_it_ran_with_is_corrected(source: dict[str, Any]) -> None:
    """Another Secret, image or restart makes another template; without one it stays failed, and for ever succeeded."""
    before = feed(source=source)
    job = history(before, DEFAULTS)
    changed = feed(source=source, postgres=ELSEWHERE, kafka={"bootstrapServers": "corrected:9092"})
    assert history_name(changed) == history_name(before)
    assert replaced(changed, done(job, "Failed")) == {history_name(before)}
    assert replaced(feed(source=source, image="mended:1"), done(job, "Failed")) == {history_name(before)}
    assert replaced(before, done(job, "Failed")) == set()
    assert replaced(changed, done(job)) == set()
    anew = run(changed, prepared(changed))
    assert names(anew, "Job") == {history_name(before)}


def test_a_failed_history_job_goes_before_all_is_prepared_anew() -> None:
    """The corrected Secret has a prepare Job of its own, and what failed is no news while that runs."""
    before = feed(source=HISTORY)
    changed = feed(source=HISTORY, postgres=ELSEWHERE)
    found = run(changed, prepared(before, done(history(before, DEFAULTS), "Failed")))
    assert found.replaced == {("Job", history_name(before))}
    assert names(found, "Job") == {prepare_name(changed, DEFAULTS)}


def waits(reason: str, **more: Any) -> dict[str, Any]:
    return {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": reason}}, **more}]}


UNSCHEDULABLE = {
    "phase": "Pending", "containerStatuses": [],
    "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (waits("CreateContainerConfigError"), True),
        (waits("ImagePullBackOff"), True),
        (UNSCHEDULABLE, True),
        (None, True),
        (waits("ContainerCreating"), False),
        (waits("ImagePullBackOff", restartCount=1), False),
        ({"phase": "Pending", "containerStatuses": []}, False),
        ({"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}, False),
        ({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 1}}}]}, False),
    ],
)  # fmt: skip
def test_a_job_whose_pod_cannot_begin_is_made_anew_and_one_that_works_is_not(
    status: dict[str, Any] | None, expected: bool
) -> None:
    """A Secret of a wrong name keeps a pod waiting for ever and its Job from failing; a corrected name has to help."""
    before, changed = feed(source=REPLAY), feed(source=REPLAY, postgres=ELSEWHERE, image="mended:1")
    job = history(before, DEFAULTS)
    pods = [] if status is None else [pod_of(job, ready=False, **status)]
    assert replaced(changed, as_observed(job), *pods) == ({history_name(before)} if expected else set())


def test_a_prepare_job_is_made_anew_with_another_template_until_it_has_succeeded() -> None:
    """Its name does not change with spec.imagePullSecrets, and what it does may be done twice."""
    before, changed = feed(), feed(imagePullSecrets=[{"name": "registry"}])
    job = prepare(before, DEFAULTS)
    key = ("Job", prepare_name(changed, DEFAULTS))
    stuck = FeedState((as_observed(job), pod_of(job, ready=False, **waits("ErrImagePull"))))
    assert run(changed, stuck).replaced == {key}
    assert run(changed, FeedState((as_observed(job), pod_of(job)))).replaced == {key}
    assert run(before, FeedState((as_observed(job), pod_of(job)))).replaced == frozenset()
    assert run(changed, prepared(before)).replaced == frozenset()


def test_a_job_of_an_earlier_operator_that_wrote_no_hash_is_left_alone() -> None:
    """Nobody knows what it ran with."""
    job = done(history(feed(source=HISTORY), DEFAULTS), "Failed")
    del job["metadata"]["annotations"]
    assert replaced(feed(source=HISTORY, postgres=ELSEWHERE), job) == set()
