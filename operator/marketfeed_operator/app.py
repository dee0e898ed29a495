"""The operator as a process: pages, election, and, while leading, watches, queue, poller and resync."""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
import time
from collections.abc import Iterable
from dataclasses import replace

from marketfeed_operator import logs, metrics
from marketfeed_operator.child_writer import ChildWriter, Key
from marketfeed_operator.cluster import Cluster
from marketfeed_operator.event_recorder import EventRecorder
from marketfeed_operator.handlers import Change
from marketfeed_operator.health import HealthServer, Limits, Vital
from marketfeed_operator.kinds import MARKETFEED
from marketfeed_operator.leader import Elector
from marketfeed_operator.lease import ClusterLease
from marketfeed_operator.logs import facts
from marketfeed_operator.poller import Poller, PollLimits
from marketfeed_operator.reconcile import TELL_TIMEOUT_S, Reconciler
from marketfeed_operator.resync import Resync
from marketfeed_operator.settings import OperatorSettings
from marketfeed_operator.status_writer import StatusWriter
from marketfeed_operator.watches import Watches
from marketfeed_operator.work_queue import Schedule, WorkQueue

log = logging.getLogger("operator")


class Leadership:
    """Everything that runs while this replica leads. Nothing of it outlives the leadership."""

    def __init__(self, cluster: Cluster, settings: OperatorSettings) -> None:
        self.settings = settings
        self.children = ChildWriter(cluster)
        self.status = StatusWriter(cluster, settings.status_interval_s)
        self.watches = Watches(cluster, settings, self.changed, self.anew)
        limits = PollLimits(
            settings.poll_interval_s, settings.poll_timeout_s, settings.poll_feed_concurrency, settings.poll_concurrency
        )
        self.poller = Poller(settings.status_port, limits, settings.status_host)
        recorder = EventRecorder(cluster, settings.own_identity(), time.monotonic)
        self.reconciler = Reconciler(cluster, settings, self.watches, self.children, self.status, recorder, self.poller)
        schedule = Schedule(cap_s=settings.backoff_cap_s, limit=settings.queue_limit)
        # A reconcile keeps its own time and tells of it; the queue's limit is for one that does not even end then.
        limit_s = settings.reconcile_timeout_s + 2 * TELL_TIMEOUT_S
        self.queue = WorkQueue(schedule, self.reconciler.reconcile, limit_s)
        self.resync = Resync(cluster, self.children, settings.namespaces, settings.resync_interval_s, self._ask)
        self.known: set[Key] = set()

    def changed(self, change: Change) -> None:
        """Something that a watch showed: into the queue, and out of memory what is gone."""
        metrics.TRIGGERS.labels(change.source).inc()
        if change.source != MARKETFEED.name:
            self.queue.add(change.key)
        elif change.gone:
            self.known.discard(change.key)
            self.queue.add(change.key)
        else:
            self.known.add(change.key)
            self.queue.add(change.key, urgent=change.urgent)

    def anew(self, namespace: str | None) -> None:
        """The watches of a namespace (None: of all) begin again and tell of every feed that exists there.

        Those that are gone, or can be seen no more, are seen to be.
        """
        for key in [key for key in self.known if namespace in (None, key[0])]:
            self.queue.add(key)
            self.known.discard(key)

    def _ask(self, key: Key, after_s: float) -> None:
        metrics.TRIGGERS.labels("resync").inc()
        self.queue.add(key, after_s=after_s)

    def feeds(self) -> Iterable[Key]:
        """The feeds that exist, as far as is known."""
        return tuple(self.known)

    async def run(self, over: asyncio.Event) -> None:
        """Work until `over`. Then no reconcile goes on beyond the write it is at, and the watches close."""
        try:
            await self._work(over)
        finally:
            self.reconciler.gauges.clear()
            metrics.QUEUE_DEPTH.set(0)
            await self.poller.close()

    async def _work(self, over: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self.watches.run(over), name="operator/watching")
            workers = [
                group.create_task(self.queue.run_worker(), name=f"operator/worker-{number}")
                for number in range(self.settings.workers)
            ]
            others = [
                group.create_task(self.resync.run(self.feeds), name="operator/resync"),
                group.create_task(self._poll(), name="operator/poller"),
            ]
            await over.wait()
            for task in (*others, *workers):
                task.cancel()
            await asyncio.wait({watching, *others, *workers}, timeout=self.settings.shutdown_timeout_s * 0.8)
            watching.cancel()

    async def _poll(self) -> None:
        """Ask the pods of each feed once an interval, for ever; no feed waits for another one's silent pods."""
        asked: set[Key] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                for key in self.known - asked:
                    asked.add(key)
                    task = group.create_task(self._poll_feed(key), name=f"poll/{'/'.join(key)}")
                    task.add_done_callback(functools.partial(_forget, asked, key))
                await asyncio.sleep(self.settings.poll_interval_s)

    async def _poll_feed(self, key: Key) -> None:
        """Ask a feed's pods, and have it looked at as soon as there is something new."""
        if await self.reconciler.poll(key):
            metrics.TRIGGERS.labels("poll").inc()
            self.queue.add(key)


def _forget(asked: set[Key], key: Key, _: asyncio.Task[None]) -> None:
    asked.discard(key)


class Operator:
    """One replica, for the life of the process."""

    def __init__(self, settings: OperatorSettings, cluster: Cluster) -> None:
        self.settings = settings
        self.cluster = cluster
        self.leadership: Leadership | None = None
        store = ClusterLease(cluster, settings.own_namespace(), settings.lease_name)
        self.elector = Elector(
            store,
            settings.own_identity(),
            settings.lease_duration_s,
            settings.renew_deadline_s,
            settings.retry_period_s,
        )
        limits = Limits(
            contact_ready_s=2 * settings.lease_duration_s,
            contact_dead_s=settings.contact_dead_s,
            renewal_s=settings.lease_duration_s,
            watch_s=settings.watch_dead_s,
            queue_s=settings.queue_stuck_s,
            blind_s=settings.blind_dead_s,
        )
        self.health = HealthServer(self.vital, limits, self.state)

    def vital(self) -> Vital:
        """What health is judged by, now."""
        leadership, elector, now = self.leadership, self.elector, asyncio.get_running_loop().time()
        contact = Vital(reached=elector.reached, contact_age_s=elector.contact_age_s(now))
        if leadership is None:
            return contact
        return replace(
            contact,
            leading=True,
            renewal_age_s=elector.renewal_age_s(now),
            watch_ages_s=leadership.watches.ages_s(),
            blind_s=leadership.watches.blind_s(),
            unreadable=leadership.watches.unreadable(),
            queue_oldest_s=leadership.queue.oldest_s(),
        )

    def state(self) -> dict[str, object]:
        """For people: who leads, and how much is known."""
        leadership = self.leadership
        return {
            "identity": self.settings.own_identity(),
            "leading": self.elector.held,
            "holder": self.elector.holder,
            "feeds": len(leadership.known) if leadership else 0,
            "unreadable": leadership.watches.unreadable() if leadership else {},
        }

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve the pages and stand for election until `stopping`; then end in order, within one deadline."""
        port = await self.health.start(self.settings.http_host, self.settings.http_port)
        log.info("health at", extra=facts(url=f"http://{self.settings.http_host}:{port}/healthz"))
        self.health.open = True
        try:
            async with asyncio.TaskGroup() as group:
                standing = group.create_task(self.elector.run(stopping, self._lead), name="operator/election")
                guard = group.create_task(self._enforce_deadline(stopping, standing), name="operator/shutdown")
                standing.add_done_callback(lambda _: guard.cancel())
        finally:
            self.health.open = False
            await self.health.close()

    async def _lead(self, over: asyncio.Event) -> None:
        self.leadership = Leadership(self.cluster, self.settings)
        try:
            await self.leadership.run(over)
        finally:
            self.leadership = None

    async def _enforce_deadline(self, stopping: asyncio.Event, standing: asyncio.Task[None]) -> None:
        await stopping.wait()
        await asyncio.sleep(self.settings.shutdown_timeout_s)
        log.error("the orderly end took too long", extra=facts(limit_s=self.settings.shutdown_timeout_s))
        standing.cancel()


async def main(settings: OperatorSettings) -> None:
    """Run a replica until SIGTERM or SIGINT. Raises OperatorSettingError for a setting that cannot be used."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    log.info("starting", extra=facts(**settings.summary()))
    cluster = await Cluster.connect(settings)
    try:
        await Operator(settings, cluster).run(stopping)
    finally:
        await cluster.close()
    log.info("stopped")


def run() -> int:
    """The process: 0 after an orderly end, 2 for a wrong setting."""
    settings = OperatorSettings.load()
    logs.set_up(settings.log_format, settings.log_level)
    asyncio.run(main(settings))
    return 0
