"""One level-based reconcile of a MarketFeed: look at what is, decide what should be, make it so, say so in the status.

It does not matter what asked for it. Everything it needs is read anew from the watches' indices, the last answers of
the pods and the referenced ConfigMap; everything it writes is the full intent. What to do is decided by the pure half
(`spec`, `plan`, `children`, `status`); this module only carries values in and results out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from marketfeed_operator import children, metrics, plan, spec, status
from marketfeed_operator.child_writer import ChildKey, ChildWriter, Key
from marketfeed_operator.children_parts import PodDefaults
from marketfeed_operator.cluster import Cluster
from marketfeed_operator.cluster_errors import ClusterError
from marketfeed_operator.event_recorder import EventRecorder, FeedEvent
from marketfeed_operator.feed_gauges import FeedGauges
from marketfeed_operator.handlers import Snapshot
from marketfeed_operator.kinds import CONFIG_MAP, POD, POD_MONITOR
from marketfeed_operator.logs import facts
from marketfeed_operator.observed import FeedState, PodReading, podless_jobs
from marketfeed_operator.observed_objects import Observed
from marketfeed_operator.poller import Poller, Reading, targets_of
from marketfeed_operator.settings import OperatorSettings
from marketfeed_operator.spec import RESYNC, InvalidSpec, is_paused
from marketfeed_operator.spec_status import Reason
from marketfeed_operator.status import Problem
from marketfeed_operator.status_writer import StatusWriter
from marketfeed_operator.watches import Watches
from marketfeed_operator.work_queue import DONE, Outcome

log = logging.getLogger("operator.reconcile")

_POLLED = frozenset({"ingest", "recorder", "mds", "history", "generator", "prepare"})
_STATE_KINDS = frozenset({"Deployment", "Job", "Pod", "ConfigMap"})
# Whether an optional API is served is asked so often at most.
_API_CHECK_S = 120.0
# A Job that is so old and has no pod is asked after, and about so often.
POD_DUE_S = 5.0
# A failed reconcile may take so long again to say so.
TELL_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Decided:
    """What the pure half says: the feed, its plan and its children; or the problem that keeps it from saying so.

    `plan_written`: the plan is in force, so that it may be shown.
    `refused`: the problem is the API server's answer to a child, which is tried again with back-off, after `at_least_s`
    if it asked for a pause, because quotas, rights and rules change; an invalid specification is not, until it or its
    ConfigMap changes.
    """

    feed: spec.MarketFeed | None = None
    planned: plan.Planned | None = None
    desired: children.Desired | None = None
    problem: Problem | None = None
    plan_written: bool = True
    refused: bool = False
    at_least_s: float = 0.0


def decide(feed: Mapping[str, Any], state: FeedState, defaults: PodDefaults, now: datetime) -> Decided:
    """What should be, from what is. Pure; an invalid specification is a problem, not an error."""
    parsed = None
    try:
        parsed = spec.parse(feed)
        planned = plan.next_plan(parsed, spec.symbols_of(parsed, state.symbols_text), state, now)
        return Decided(parsed, planned, children.desired(parsed, state, planned, defaults, now))
    except InvalidSpec as error:
        return Decided(feed=parsed, problem=Problem.of_invalid(error))


class Reconciler:
    """Reconciles the feeds of one leadership; `reconcile` is called for one feed at a time only."""

    def __init__(
        self,
        cluster: Cluster,
        settings: OperatorSettings,
        watches: Watches,
        children: ChildWriter,
        status: StatusWriter,
        recorder: EventRecorder,
        poller: Poller,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._watches = watches
        self._children = children
        self._status = status
        self._recorder = recorder
        self._poller = poller
        self._readings: dict[Key, dict[str, Reading]] = {}
        self._symbol_versions: dict[Key, str] = {}
        self._uids: dict[Key, str] = {}
        self._resyncs: dict[Key, str] = {}
        self._monitors: tuple[bool, float] = (False, float("-inf"))
        self._defaults = PodDefaults(settings.image, settings.image_pull_policy, settings.rollout_deadline_s)
        self.gauges = FeedGauges()

    async def reconcile(self, key: Key) -> Outcome:
        """Bring one feed up to date. Never raises: what goes wrong becomes an outcome, a condition and a figure."""
        began = time.monotonic()
        limit_s = self._settings.reconcile_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                outcome = await self._reconcile(key)
        except TimeoutError:
            outcome = await self._failed(key, TimeoutError(f"a reconcile did not end within {limit_s:g} s"))
        except Exception as error:
            # A bug in the work of one feed is that feed's trouble: it is logged whole, told and tried again.
            outcome = await self._failed(key, error)
        metrics.RECONCILE_S.observe(time.monotonic() - began)
        metrics.RECONCILES.labels("failed" if outcome.failed else "done").inc()
        return outcome

    async def _reconcile(self, key: Key) -> Outcome:
        seen = await self._watches.snapshot(key)
        feed = seen.feed
        if feed is None or self._uids.get(key, feed.uid) != feed.uid:
            self.forget(key)
        if feed is None or "deletionTimestamp" in feed.body["metadata"]:
            return DONE  # the garbage collector takes the children
        self._uids[key] = feed.uid
        self._obey_resync(key, feed)
        state = await self._state(key, feed, seen)
        now = datetime.now(UTC)
        if is_paused(feed.body):
            return await self._report(key, feed, state, Decided(), now)
        # In a thread: thousands of symbols on tens of shards take a second, in which the Lease has to be renewed.
        decided = await asyncio.to_thread(decide, feed.body, state, self._defaults, now)
        if decided.desired is not None and decided.planned is not None:
            decided = await self._carry_out(key, feed, seen, decided)
        return await self._report(key, feed, state, decided, now)

    def _obey_resync(self, key: Key, feed: Observed) -> None:
        """A new value of the annotation has every child applied again, whatever the watches show."""
        asked = str((feed.body["metadata"].get("annotations") or {}).get(RESYNC, ""))
        if self._resyncs.setdefault(key, asked) != asked:
            self._resyncs[key] = asked
            self._children.forget(key)

    async def _state(self, key: Key, feed: Observed, seen: Snapshot) -> FeedState:
        age_from = time.monotonic()
        viewed = self._children.view(key, seen.children)
        return FeedState(
            objects=tuple(child.body for child in viewed if child.kind in _STATE_KINDS),
            readings={
                pod: PodReading(age_from - one.at, one.body)
                for pod, one in self._fresh_readings(key, seen.children).items()
            },
            symbols_text=await self._symbols(key, feed),
            pod_monitors=await self._serves_monitors(),
            shown_revision=int(self._status.latest(key, feed).get("planRevision") or 0),
            refusals=await self._refusals(key, viewed),
        )

    async def _refusals(self, key: Key, children: Iterable[Observed]) -> dict[str, str]:
        """Why Jobs have no pod, where the API server refuses it: a quota, a LimitRange, Pod Security.

        Nothing else waits for it: what events do not tell (an older Role may not list them) is not told.
        """
        found = {}
        for job in podless_jobs((child.body for child in children), datetime.now(UTC), POD_DUE_S):
            name, uid = str(job["metadata"]["name"]), str(job["metadata"]["uid"])
            try:
                refused = await self._cluster.refusal_of_pods(key[0], "Job", name, uid)
            except ClusterError as error:
                log.info("could not read a Job's events", extra=facts(feed="/".join(key), job=name, error=str(error)))
                continue
            if refused:
                found[name] = refused
        return found

    async def _carry_out(self, key: Key, feed: Observed, seen: Snapshot, decided: Decided) -> Decided:
        """Say what will happen, then make it happen. What the API server refuses is a problem of this feed."""
        planned, desired, planned_for = decided.planned, decided.desired, decided.feed
        assert planned_for is not None
        assert planned is not None
        assert desired is not None
        if planned.changed:
            log.info("new plan", extra=facts(feed="/".join(key), revision=planned.plan.revision, moves=planned.moves))
            await self._recorder.say(feed.body, FeedEvent("Normal", "Planned", planned.summary, "Plan"))
        for _, name in sorted(desired.replaced):
            note = f"Job {name} did not succeed, and what it ran with has changed: it is made anew"
            await self._recorder.say(feed.body, FeedEvent("Normal", "JobReplaced", note, "Replace"))
        failed = await self._children.converge(key, feed.uid, desired.apply, desired.keep, seen.children)
        plan_written = (CONFIG_MAP.name, plan.plan_name(planned_for)) not in failed
        if plan_written:
            await self._announce(key, feed, seen, planned)
        monitors = {which: failed.pop(which) for which in list(failed) if which[0] == POD_MONITOR.name}
        await self._warn(feed, "PodMonitorNotMade", "metrics may not be collected", monitors)
        if not failed:
            return decided
        first = next(iter(failed.values()))
        log.warning("not written", extra=facts(feed="/".join(key), number=len(failed), error=str(first)))
        pause_s = max(error.retry_after_s or 0.0 for error in failed.values())
        problem = Problem.of_refusal(first.status, first.message)
        return replace(decided, problem=problem, plan_written=plan_written, refused=True, at_least_s=pause_s)

    async def _announce(self, key: Key, feed: Observed, seen: Snapshot, planned: plan.Planned) -> None:
        """Have the pods read the plan that is in force now; without it they do so a little later by themselves."""
        if planned.changed:
            metrics.SYMBOLS_MOVED.inc(planned.moves)
        ingest = [child for child in seen.children if child.kind == POD.name and _component(child) == "ingest"]
        failed = await self._children.announce_plan(ingest, planned.plan.revision)
        await self._warn(feed, "PlanNotAnnounced", "the plan reaches its pods up to two minutes late", failed)

    async def _warn(
        self, feed: Observed, reason: str, consequence: str, failed: Mapping[ChildKey, ClusterError]
    ) -> None:
        """Say that something did not succeed without which the feed works all the same."""
        if failed:
            first = next(iter(failed.values()))
            log.info(consequence, extra=facts(feed=f"{feed.namespace}/{feed.name}", error=str(first)))
            await self._recorder.say(feed.body, FeedEvent("Warning", reason, f"{consequence}: {first.message}"))

    async def _report(self, key: Key, feed: Observed, state: FeedState, decided: Decided, now: datetime) -> Outcome:
        """Write the status and say what happens next: a look later, a try again, or nothing until something changes."""
        previous = self._status.latest(key, feed)
        new = status.build(
            feed.body,
            state,
            now,
            self._defaults,
            feed=decided.feed,
            planned=decided.planned,
            wanted=decided.desired,
            previous=previous,
            problem=decided.problem,
        )
        if not decided.plan_written:
            in_force = {name: value for name, value in previous.items() if name == "planRevision"}
            new = {name: value for name, value in new.items() if name != "planRevision"} | in_force
        try:
            wait_s = await self._status.write(key, new, time.monotonic())
        except ClusterError as error:
            if error.status == 404:
                return DONE  # the feed went while we worked
            raise
        self.gauges.set(key, new)
        await self._say_conditions(feed, previous, new)
        if decided.problem is None:
            # Nothing tells when a Job gets no pod, so somebody has to look.
            due_s = [POD_DUE_S + 1.0] if podless_jobs(state.objects, now, 0.0) else []
            return Outcome(again_after_s=min([*due_s, *([] if wait_s is None else [wait_s])], default=None))
        metrics.RECONCILE_ERRORS.labels(decided.problem.reason).inc()
        return Outcome(failed=True, at_least_s=decided.at_least_s) if decided.refused else DONE

    async def _say_conditions(self, feed: Observed, previous: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        """An event for each condition whose status or reason is another than before."""
        before = {c["type"]: (c["status"], c["reason"]) for c in previous.get("conditions") or ()}
        for condition in new.get("conditions") or ():
            name, now_is = condition["type"], (condition["status"], condition["reason"])
            if before.get(name) == now_is or (name not in before and now_is[0] == "False"):
                continue
            bad = now_is[0] == ("False" if name == "Ready" else "True") and name != "Reconciling"
            note = f"{name} is {now_is[0]}: {condition.get('message') or condition['reason']}"
            await self._recorder.say(feed.body, FeedEvent("Warning" if bad else "Normal", condition["reason"], note))

    async def _symbols(self, key: Key, feed: Observed) -> str | None:
        """The text that `symbolsFrom` names: None if the feed names none, or the ConfigMap or the key is missing."""
        reference = _symbols_reference(feed)
        if reference is None:
            return None
        found = await self._cluster.get(CONFIG_MAP, key[0], reference[0])
        self._symbol_versions[key] = _version(found)
        text = ((found or {}).get("data") or {}).get(reference[1])
        return None if text is None else str(text)

    async def _symbols_changed(self, key: Key) -> bool:
        """Whether the ConfigMap of `symbolsFrom` is another than at the last reconcile.

        It is the user's, without our label, so no watch shows it; watching all ConfigMaps would cost more.
        """
        seen = await self._watches.snapshot(key)
        reference = _symbols_reference(seen.feed) if seen.feed is not None else None
        if reference is None or key not in self._symbol_versions:
            return False
        found = await self._cluster.get(CONFIG_MAP, key[0], reference[0])
        return _version(found) != self._symbol_versions[key]

    async def _serves_monitors(self) -> bool:
        served, asked_at = self._monitors
        if time.monotonic() - asked_at > _API_CHECK_S:
            served = await self._cluster.serves(POD_MONITOR)
            self._monitors = (served, time.monotonic())
        return served

    def _fresh_readings(self, key: Key, children: Iterable[Observed]) -> dict[str, Reading]:
        """The readings of pods that still are the ones that were asked, not older than three polls."""
        uids = {child.name: child.uid for child in children if child.kind == POD.name}
        held = self._readings.get(key, {})
        return {pod: one for pod, one in held.items() if self._counts(one) and uids.get(pod) == one.uid}

    def _counts(self, reading: Reading) -> bool:
        return reading.at >= time.monotonic() - 3 * self._settings.poll_interval_s

    async def poll(self, key: Key) -> bool:
        """Ask a feed's pods; returns whether it has something new to be reconciled."""
        try:
            seen = await self._watches.snapshot(key)
            pods = [child.body for child in seen.children if child.kind == POD.name]
            before = self._readings.get(key, {})
            asked = await self._poller.ask_all(key, targets_of(pods, _POLLED))
            unasked = {pod: one for pod, one in before.items() if pod not in asked}
            answers = {pod: one for pod, one in asked.items() if one is not None}
            self._readings[key] = {pod: one for pod, one in (unasked | answers).items() if self._counts(one)}
            return bool(answers or before) or await self._symbols_changed(key)
        except (ClusterError, TimeoutError) as error:
            log.debug("could not poll", extra=facts(feed="/".join(key), error=str(error)))
            return False

    async def _failed(self, key: Key, error: Exception) -> Outcome:
        problem = Problem.of_failure(error)
        bug = problem.reason == Reason.INTERNAL_ERROR
        metrics.RECONCILE_ERRORS.labels(problem.reason).inc()
        level, told = (logging.ERROR, error) if bug else (logging.WARNING, None)
        log.log(level, "reconcile failed", extra=facts(feed="/".join(key), error=str(error)), exc_info=told)
        await self._tell(key, problem)
        pause_s = error.retry_after_s if isinstance(error, ClusterError) else None
        return Outcome(failed=True, at_least_s=pause_s or 0.0)

    async def _tell(self, key: Key, problem: Problem) -> None:
        """Say in the status what ended a reconcile. Whoever cannot be told reads it in the log."""
        try:
            async with asyncio.timeout(TELL_TIMEOUT_S):
                feed = (await self._watches.snapshot(key)).feed
                if feed is None or "deletionTimestamp" in feed.body["metadata"]:
                    return
                previous = self._status.latest(key, feed)
                generation = int(feed.body["metadata"].get("generation", 0))
                new = status.troubled(previous, problem, generation, datetime.now(UTC))
                await self._status.write(key, new, time.monotonic())
                self.gauges.set(key, new)
                await self._say_conditions(feed, previous, new)
        except (ClusterError, TimeoutError) as error:
            log.warning("could not tell of it", extra=facts(feed="/".join(key), error=str(error)))

    def forget(self, key: Key) -> None:
        """The feed is gone, or another one has its name now."""
        self._readings.pop(key, None)
        self._poller.forget(key)
        self._symbol_versions.pop(key, None)
        self._resyncs.pop(key, None)
        if uid := self._uids.pop(key, None):
            self._recorder.forget(uid)
        self._children.forget(key)
        self._status.forget(key)
        self.gauges.forget(key)


def _component(child: Observed) -> str:
    return str((child.body["metadata"].get("labels") or {}).get("app.kubernetes.io/component", ""))


def _symbols_reference(feed: Observed) -> tuple[str, str] | None:
    reference = (feed.body.get("spec") or {}).get("symbolsFrom", {}).get("configMapKeyRef")
    return (reference["name"], reference["key"]) if reference else None


def _version(found: Mapping[str, Any] | None) -> str:
    return "" if found is None else str(found["metadata"].get("resourceVersion", ""))
