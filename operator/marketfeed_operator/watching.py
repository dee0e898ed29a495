"""kopf in a thread of its own, for one leadership at a time.

- A thread, because kopf takes a loop for its own: when it ends it cancels every task that began after it, and in the
  main thread it takes the signal handlers. What it sees comes over as `Change`s; its indices are read in its loop.
- A watch that cannot go on where it was (410, an API server that starts) lists anew, and kopf then keeps in its indices
  what was deleted meanwhile, and tells nobody. So kopf is started anew, with empty indices, when it lists again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import kopf

from marketfeed_operator import metrics
from marketfeed_operator.cluster import Cluster
from marketfeed_operator.cluster_errors import ClusterError, Unavailable
from marketfeed_operator.cluster_session import watch_session
from marketfeed_operator.handlers import Bridge, Change, Key, Snapshot, all_feeds, run_kopf, snapshot
from marketfeed_operator.kinds import MARKETFEED, WATCHED_KINDS
from marketfeed_operator.logs import facts
from marketfeed_operator.settings import OperatorSettings

log = logging.getLogger("operator.watching")

T = TypeVar("T")
_RELOGIN_PAUSE_S = 1.0
_READ_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 12.0
_LOOK_S = 0.5
_EMPTY_CHECK_S = 5.0


class ListedAnew(Exception):
    """A collection was listed again: the indices may hold what is gone."""


class Watching:
    """The watches of one leadership. `on_begin`: from now on everything that exists is told as if it were new."""

    def __init__(
        self,
        cluster: Cluster,
        settings: OperatorSettings,
        on_change: Callable[[Change], None],
        on_begin: Callable[[], None],
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._on_change = on_change
        self._on_begin = on_begin
        self._home = asyncio.get_running_loop()
        self._headers: dict[str, str] = {}
        self._bridge: Bridge | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._heard: dict[str, float] = {}
        self._listed: set[str] = set()
        self._listed_anew = ""
        self._jitter = random.Random()
        self._logged_in_at = 0.0
        self._checked_empty_at = 0.0

    async def run(self, over: asyncio.Event) -> None:
        """Watch until `over`; what ends kopf early is logged and it is started again after a pause."""
        failures = 0
        while not over.is_set():
            await self._await_kind(over)
            began = time.monotonic()
            try:
                await self._run_once(over)
            except ListedAnew as anew:
                metrics.WATCH_RESTARTS.inc()
                log.info("watching anew, as deletions may have been missed", extra=facts(listed=str(anew)))
                failures = 0
            except Exception as error:
                metrics.WATCH_RESTARTS.inc()
                log.exception("watching failed, starting it again", extra=facts(error=str(error)))
                failures = 0 if time.monotonic() - began > 60.0 else failures + 1
            await _within(over, min(30.0, 0.5 * 2.0**failures) * (0.5 + 0.5 * self._jitter.random()))

    async def _await_kind(self, over: asyncio.Event) -> None:
        """Wait until the API server knows MarketFeed: kopf would ignore it for ever otherwise."""
        said = False
        while not over.is_set():
            try:
                if await self._cluster.serves(MARKETFEED):
                    return
                reason = "the CustomResourceDefinition marketfeeds.marketfeed.dev is not installed"
            except Unavailable as error:
                reason = str(error)
            if not said:
                log.warning("waiting", extra=facts(reason=reason))
                said = True
            await _within(over, 2.0)

    async def _run_once(self, over: asyncio.Event) -> None:
        self._headers = await self._cluster.static_headers()
        self._heard = {kind.plural: time.monotonic() for kind in (MARKETFEED, *WATCHED_KINDS)}
        self._listed, self._listed_anew = set(), ""
        self._on_begin()
        ended: asyncio.Future[None] = self._home.create_future()
        stop = asyncio.Event()
        thread = threading.Thread(target=self._thread_main, args=(stop, ended), name="kopf", daemon=True)
        dead = _DeadWatcher()
        dead.attach()
        self._checked_empty_at = time.monotonic()
        thread.start()
        try:
            while not over.is_set() and not ended.done():
                await _within(over, _LOOK_S)
                self._restart_if_blind(dead)
                await self._note_if_empty()
        finally:
            dead.detach()
            self._stop_kopf(stop)
            await asyncio.wait({ended}, timeout=_STOP_TIMEOUT_S)
            self._loop, self._bridge = None, None
            if not ended.done():
                log.error("kopf did not end in time; its thread is left to the end of the process")
        if ended.done():
            ended.result()

    def _restart_if_blind(self, dead: _DeadWatcher) -> None:
        """Raise what makes `run` start kopf anew: kopf lives on without a watch that an unexpected answer ended."""
        if self._listed_anew:
            raise ListedAnew(self._listed_anew)
        if dead.said:
            raise Unavailable("watch", 0, dead.said)
        silent = {kind: age for kind, age in self.ages_s().items() if age > self._settings.watch_restart_s}
        if silent:
            raise Unavailable("watch", 0, f"nothing was heard for too long: {silent}")

    async def _note_if_empty(self) -> None:
        """Without any feed no event may ever come to say that the indices are full, and nothing can be missing.

        A feed that is made later has no children that the indices could lack.
        """
        bridge, now = self._bridge, time.monotonic()
        if bridge is None or bridge.full or now - self._checked_empty_at < _EMPTY_CHECK_S:
            return
        self._checked_empty_at = now
        try:
            for namespace in self._settings.namespaces or (None,):
                if await self._cluster.list_metadata(MARKETFEED, namespace, ""):
                    return
        except ClusterError as error:
            log.debug("could not list the feeds", extra=facts(error=str(error)))
            return
        bridge.full = True

    def _thread_main(self, stop: asyncio.Event, ended: asyncio.Future[None]) -> None:
        failure: BaseException | None = None
        try:
            asyncio.run(self._kopf(stop))
        except BaseException as error:
            failure = error
        self._home.call_soon_threadsafe(_resolve, ended, failure)

    async def _kopf(self, stop: asyncio.Event) -> None:
        bridge = Bridge(tell=self._tell, log_in=self._log_in)
        self._bridge, self._loop = bridge, asyncio.get_running_loop()
        await run_kopf(bridge, self._settings, stop, asyncio.Event())
        if not stop.is_set():
            raise RuntimeError("kopf ended by itself")

    def _tell(self, change: Change) -> None:
        self._home.call_soon_threadsafe(self._on_change, change)

    async def _log_in(self) -> kopf.AiohttpSession:
        # kopf logs in again at once when a credential is refused; a short pause keeps that from spinning.
        since_s = time.monotonic() - self._logged_in_at
        await asyncio.sleep(max(0.0, _RELOGIN_PAUSE_S - since_s))
        self._logged_in_at = time.monotonic()
        session = watch_session(self._cluster.ssl_context, self._headers, self._cluster.token, self)
        return kopf.AiohttpSession(server=self._cluster.server, aiohttp_session=session)

    def heard(self, plural: str) -> None:
        """A watch gave a sign of life; called in kopf's thread."""
        self._heard[plural] = time.monotonic()

    def listed(self, path: str) -> None:
        """A collection is listed; called in kopf's thread. The first time is kopf's beginning."""
        if path in self._listed and path.rpartition("/")[2] in self._heard:
            self._listed_anew = path
        self._listed.add(path)

    def ages_s(self) -> dict[str, float]:
        """For each watched kind the time since its watch last said anything, bookmarks included."""
        now = time.monotonic()
        return {plural: now - heard for plural, heard in self._heard.items()}

    def _stop_kopf(self, stop: asyncio.Event) -> None:
        if self._loop is None:
            stop.set()  # its loop has not begun, so nobody waits yet
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(stop.set)

    async def snapshot(self, key: Key) -> Snapshot:
        """The feed and its children as last seen. Raises Unavailable while not everything is watched."""
        return await self._read(lambda bridge: snapshot(bridge, key))

    async def all_feeds(self) -> list[Key]:
        """Every feed as last seen. Raises Unavailable while not everything is watched."""
        return await self._read(all_feeds)

    async def _read(self, reader: Callable[[Bridge], T]) -> T:
        loop, bridge = self._loop, self._bridge
        if loop is None or bridge is None or loop.is_closed():
            raise Unavailable("watch", 0, "nothing is watched at the moment")

        if not bridge.full:
            # A reconcile on half an index would make a plan from nothing and write it over the one in force.
            raise Unavailable("watch", 0, "not everything has been listed yet")

        async def read() -> T:
            return reader(bridge)

        try:
            async with asyncio.timeout(_READ_TIMEOUT_S):
                return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(read(), loop))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # kopf's loop ended under the reading. As a cancellation it would end the worker that asked, unseen.
            raise Unavailable("watch", 0, "the watch ended while it was read") from None


class _DeadWatcher(logging.Handler):
    """Listens for kopf's word that one of its watches ended for good; kopf tells it to the log only."""

    def __init__(self) -> None:
        super().__init__(level=logging.ERROR)
        self._logger = logging.getLogger("kopf._core.reactor.orchestration")
        self.said = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.said = record.getMessage()

    def attach(self) -> None:
        self._logger.addHandler(self)

    def detach(self) -> None:
        self._logger.removeHandler(self)


def _resolve(ended: asyncio.Future[None], failure: BaseException | None) -> None:
    if ended.done():
        return
    if failure is None:
        ended.set_result(None)
    else:
        ended.set_exception(failure)


async def _within(over: asyncio.Event, pause_s: float) -> None:
    try:
        async with asyncio.timeout(pause_s):
            await over.wait()
    except TimeoutError:
        return
