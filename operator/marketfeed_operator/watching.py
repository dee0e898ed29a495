"""kopf in a thread of its own, for one leadership at a time and one namespace, or all of them.

- A thread, because kopf takes a loop for its own: when it ends it cancels every task that began after it, and in the
  main thread it takes the signal handlers. What it sees comes over as `Change`s; its indices are read in its loop.
- A watch that cannot go on where it was (410, an API server that starts) lists anew, and kopf then keeps in its indices
  what was deleted meanwhile, and tells nobody. So kopf is started anew, with empty indices, when it lists again.
- A namespace that may not be read (its Role went, perhaps with the namespace itself) would end kopf for ever. It is set
  aside: its feeds count as gone, which costs them nothing, and it is looked at again every few seconds.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import kopf

from marketfeed_operator import metrics
from marketfeed_operator.cluster import Cluster
from marketfeed_operator.cluster_errors import ClusterError, Forbidden, Unavailable
from marketfeed_operator.cluster_session import watch_session
from marketfeed_operator.handlers import Bridge, Change, Key, Snapshot, run_kopf, snapshot
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
_KINDS = (MARKETFEED, *WATCHED_KINDS)


class Anew(Exception):
    """Everything has to be watched anew; says why."""


class Watching:
    """The watches of one leadership in `namespace`, in all of them without one.

    `on_begin(namespace)`: from now on everything that exists there is told as if it were new. `unreadable` says why the
    namespace is set aside; it is empty while it is not.
    """

    def __init__(
        self,
        cluster: Cluster,
        settings: OperatorSettings,
        namespace: str | None,
        on_change: Callable[[Change], None],
        on_begin: Callable[[str | None], None],
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._namespace = namespace
        self.name = namespace or "all namespaces"
        self._on_change = on_change
        self._on_begin = on_begin
        self._home = asyncio.get_running_loop()
        self._headers: dict[str, str] = {}
        self._context: Any = None
        self._bridge: Bridge | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._heard: dict[str, float] = {}
        self._listed: set[str] = set()
        self._listed_anew = ""
        self._opened: set[str] = set()
        self._refused = ""
        self._full_at = time.monotonic()
        self.unreadable = ""
        self._jitter = random.Random()
        self._logged_in_at = 0.0
        self._checked_empty_at = 0.0

    async def run(self, over: asyncio.Event) -> None:
        """Watch until `over`; what ends kopf early is logged and it is started again after a pause."""
        failures = 0
        while not over.is_set():
            await self._await_kind(over)
            await self._await_readable(over)
            if over.is_set():
                return
            began = time.monotonic()
            try:
                await self._run_once(over)
            except Anew as why:
                metrics.WATCH_RESTARTS.inc()
                log.info("watching anew, as %s", why, extra=facts(namespace=self.name))
                failures = 0
            except Forbidden as refusal:
                metrics.WATCH_RESTARTS.inc()
                self._set_aside(refusal)
                failures += 1
            except Exception as error:
                metrics.WATCH_RESTARTS.inc()
                log.exception("watching failed, starting it again", extra=facts(namespace=self.name, error=str(error)))
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

    async def _await_readable(self, over: asyncio.Event) -> None:
        """Wait until the API server lets us list every kind here. Whatever else it answers is kopf's to wait out."""
        while not over.is_set():
            try:
                for kind in _KINDS:
                    await self._cluster.check_list(kind, self._namespace)
                return
            except Forbidden as refusal:
                self._set_aside(refusal)
            except ClusterError as error:
                log.debug("could not look", extra=facts(namespace=self.name, error=str(error)))
                return
            await _within(over, self._settings.namespace_retry_s * (0.9 + 0.2 * self._jitter.random()))

    def _set_aside(self, refusal: Forbidden) -> None:
        """Leave the namespace in peace until it can be read; what is known of its feeds is forgotten, not undone."""
        if not self.unreadable:
            log.warning(
                "the namespace cannot be watched; its MarketFeeds are left as they are until it can",
                extra=facts(namespace=self.name, error=str(refusal)),
            )
            self._on_begin(self._namespace)
        self.unreadable = str(refusal)

    async def _run_once(self, over: asyncio.Event) -> None:
        self._headers, self._context = await self._cluster.static_headers(), self._cluster.ssl_context
        self._heard = {kind.plural: time.monotonic() for kind in _KINDS}
        self._listed, self._listed_anew = set(), ""
        self._opened, self._refused = set(), ""
        self._on_begin(self._namespace)
        ended: asyncio.Future[None] = self._home.create_future()
        stop = asyncio.Event()
        thread = threading.Thread(target=self._thread_main, args=(stop, ended), name=f"kopf/{self.name}", daemon=True)
        dead = _DeadWatcher(thread)
        dead.attach()
        self._checked_empty_at = time.monotonic()
        thread.start()
        try:
            while not over.is_set() and not ended.done():
                await _within(over, _LOOK_S)
                self._restart_if_blind(dead)
                await self._note_if_empty()
                self._note_if_full()
        finally:
            dead.detach()
            self._stop_kopf(stop)
            await asyncio.wait({ended}, timeout=_STOP_TIMEOUT_S)
            self._loop, self._bridge, self._heard = None, None, {}
            if not ended.done():
                log.error("kopf did not end in time; its thread is left to the end of the process")
        if self._refused:
            raise Forbidden("watch", 403, self._refused)
        if ended.done():
            ended.result()

    def _restart_if_blind(self, dead: _DeadWatcher) -> None:
        """Raise what makes `run` start kopf anew: kopf lives on without a watch that an unexpected answer ended."""
        if self._refused:
            raise Forbidden("watch", 403, self._refused)
        if self._listed_anew:
            # The indices may hold what is gone.
            raise Anew(f"deletions may have been missed: {self._listed_anew} was listed again")
        if self._cluster.ssl_context is not self._context:
            raise Anew("another authority vouches for the API server")
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
            if await self._cluster.list_metadata(MARKETFEED, self._namespace, ""):
                return
        except ClusterError as error:
            log.debug("could not list the feeds", extra=facts(error=str(error)))
            return
        bridge.full = True

    def _note_if_full(self) -> None:
        """Keep when everything was last seen; a namespace that was set aside is back once each of its watches goes."""
        bridge = self._bridge
        if bridge is None or not bridge.full:
            return
        if self.unreadable:
            if not self._opened.issuperset(kind.plural for kind in _KINDS):
                return
            log.info("the namespace is watched again", extra=facts(namespace=self.name))
            self.unreadable = ""
        self._full_at = time.monotonic()

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
        await run_kopf(bridge, self._settings, self._namespace, stop)
        if not stop.is_set():
            raise RuntimeError("kopf ended by itself")

    def _tell(self, change: Change) -> None:
        self._home.call_soon_threadsafe(self._on_change, change)

    async def _log_in(self) -> kopf.AiohttpSession:
        # kopf logs in again at once when a credential is refused; a short pause keeps that from spinning.
        since_s = time.monotonic() - self._logged_in_at
        await asyncio.sleep(max(0.0, _RELOGIN_PAUSE_S - since_s))
        self._logged_in_at = time.monotonic()
        session = watch_session(self._context, self._headers, self._cluster.token, self)
        return kopf.AiohttpSession(server=self._cluster.server, aiohttp_session=session)

    def heard(self, plural: str) -> None:
        """A watch gave a sign of life; called in kopf's thread."""
        self._heard[plural] = time.monotonic()
        self._opened.add(plural)

    def listed(self, path: str) -> None:
        """A collection is listed; called in kopf's thread. The first time is kopf's beginning."""
        if path in self._listed and path.rpartition("/")[2] in self._heard:
            self._listed_anew = path
        self._listed.add(path)

    def refused(self, request: str) -> None:
        """The API server forbade one of kopf's requests, which ends kopf; called in kopf's thread."""
        self._refused = self._refused or request

    def blind_s(self) -> float:
        """Time since everything here was last seen; reconciles wait while it grows."""
        return time.monotonic() - self._full_at

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
        """The feed and its children as last seen; no feed where it is set aside.

        Raises Unavailable while not everything is watched.
        """
        if self.unreadable and self._bridge is None:
            return Snapshot(None, ())
        return await self._read(lambda bridge: snapshot(bridge, key))

    async def _read(self, reader: Callable[[Bridge], T]) -> T:
        loop, bridge = self._loop, self._bridge
        if loop is None or bridge is None or loop.is_closed():
            raise Unavailable("watch", 0, "nothing is watched at the moment")

        if not bridge.full or self.unreadable:
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
    """Listens for kopf's word that one of its watches ended for good; kopf tells it to the log only.

    Another namespace's kopf says it in another thread.
    """

    def __init__(self, thread: threading.Thread) -> None:
        super().__init__(level=logging.ERROR)
        self._thread = thread
        self._logger = logging.getLogger("kopf._core.reactor.orchestration")
        self.said = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread.ident:
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
