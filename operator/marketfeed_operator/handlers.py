"""kopf's part: watches, and indices of what they show. Nothing here decides anything.

Of kopf's resource handlers only `on.event` and `index` are used: the others write finalizers, progress and the last
handled configuration onto resources. What changed goes to our own queue (`work_queue.py`), because kopf does not retry
what an event handler raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import kopf

from marketfeed_operator import metrics
from marketfeed_operator.kinds import MANAGED_BY, MARKETFEED, WATCHED_KINDS, Kind
from marketfeed_operator.observed_objects import Observed, feed_signature, observe
from marketfeed_operator.settings import OperatorSettings

Key = tuple[str, str]
FEED_INDEX = "feeds"


@dataclass(frozen=True, slots=True)
class Change:
    """Something that may need a reconcile of `key`.

    `source` is the kind that changed, `urgent`: the user changed the feed, `gone`: the object is deleted, `name` is it.
    """

    key: Key
    source: str
    name: str
    urgent: bool = False
    gone: bool = False


@dataclass(slots=True)
class Bridge:
    """Between kopf's thread and ours. `tell` is called in kopf's thread; `indices` are read in it only.

    `full`: the indices hold everything. The first event of any kind says so, because kopf handles none before every
    object of every kind is indexed; where there is no feed, so that there may be no event, `Watching` says so.
    """

    tell: Callable[[Change], None]
    log_in: Callable[[], Awaitable[kopf.AiohttpSession]]
    indices: Mapping[str, Any] = field(default_factory=dict)
    seen: dict[tuple[str, str], tuple[object, ...]] = field(default_factory=dict)
    full: bool = False


def child_index(kind: Kind) -> str:
    """The name of the index of a kind's objects."""
    return f"children_{kind.plural}"


def registry_of(bridge: Bridge, settings: OperatorSettings) -> kopf.OperatorRegistry:
    """All handlers of one leadership."""
    registry = kopf.OperatorRegistry()
    _add_activities(registry, bridge, settings)
    _add_feed_handlers(registry, bridge)
    for kind in WATCHED_KINDS:
        _add_child_handlers(registry, bridge, kind)
    return registry


def _add_activities(registry: kopf.OperatorRegistry, bridge: Bridge, own: OperatorSettings) -> None:
    @kopf.on.startup(registry=registry)
    async def start(settings: kopf.OperatorSettings, **kwargs: Any) -> None:
        configure(settings, own)
        bridge.indices = {name: kwargs[name] for name in (FEED_INDEX, *map(child_index, WATCHED_KINDS))}

    @kopf.on.login(registry=registry, retries=1)
    async def log_in(**_: Any) -> kopf.AiohttpSession:
        return await bridge.log_in()


def configure(settings: kopf.OperatorSettings, own: OperatorSettings) -> None:
    """kopf's settings: it writes nothing (no events, no finalizers), and no request of it waits for long."""
    settings.posting.enabled = False
    settings.process.ultimate_exiting_timeout = None
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.networking.request_timeout = own.request_timeout_s
    settings.networking.connect_timeout = 5.0
    settings.networking.error_backoffs = (0.5, 1, 2, 3, 5)
    # The API server takes whole seconds only; a fraction would be refused with 400.
    settings.watching.server_timeout = int(own.watch_timeout_s)
    settings.watching.client_timeout = own.watch_timeout_s + 30.0
    settings.watching.connect_timeout = 5.0
    settings.watching.inactivity_timeout = own.watch_silence_s
    settings.watching.reconnect_backoff = 0.5
    settings.watching.chunk_size = 500
    settings.queueing.idle_timeout = 1.0
    settings.queueing.error_delays = (1, 2, 5, 10)
    for kind in WATCHED_KINDS:
        settings.watching.label_selectors[kind.group, kind.version, kind.plural] = MANAGED_BY


def _add_feed_handlers(registry: kopf.OperatorRegistry, bridge: Bridge) -> None:
    where = (MARKETFEED.group, MARKETFEED.version, MARKETFEED.plural)

    @kopf.index(*where, id=FEED_INDEX, registry=registry, errors=kopf.ErrorsMode.IGNORED)
    async def feeds(*, body: kopf.Body, **_: Any) -> dict[Key, Observed]:
        seen = observe(MARKETFEED, raw_of(body))
        return {(seen.namespace, seen.name): seen}

    @kopf.on.event(*where, registry=registry, id="feed_event")
    async def feed_event(*, event: kopf.RawEvent, body: kopf.Body, **_: Any) -> None:
        bridge.full = True
        name = str(body.metadata["name"])
        key = (str(body.metadata["namespace"]), name)
        gone = event["type"] == "DELETED"
        if _is_news(bridge, (MARKETFEED.plural, str(body.metadata.get("uid"))), feed_signature(raw_of(body)), gone):
            bridge.tell(Change(key, MARKETFEED.name, name, urgent=True, gone=gone))
        else:
            metrics.EVENTS_IGNORED.labels(MARKETFEED.name).inc()


def _add_child_handlers(registry: kopf.OperatorRegistry, bridge: Bridge, kind: Kind) -> None:
    where = (kind.group, kind.version, kind.plural)

    @kopf.index(*where, id=child_index(kind), registry=registry, errors=kopf.ErrorsMode.IGNORED)
    async def index(*, body: kopf.Body, **_: Any) -> dict[Key, Observed]:
        seen = observe(kind, raw_of(body))
        return {(seen.namespace, seen.feed): seen} if seen.feed else {}

    @kopf.on.event(*where, registry=registry, id=f"event_{kind.plural}")
    async def child_event(*, event: kopf.RawEvent, body: kopf.Body, **_: Any) -> None:
        bridge.full = True
        seen = observe(kind, raw_of(body))
        gone = event["type"] == "DELETED"
        which = (kind.plural, seen.uid)
        # The first listing tells nothing: each feed is looked at once then, with all of its children. A later one (a
        # watch had to start anew) tells what changed meanwhile.
        listed_first = event["type"] is None and which not in bridge.seen
        news = _is_news(bridge, which, (seen.fingerprint, seen.signature), gone)
        if news and seen.feed and not listed_first:
            bridge.tell(Change((seen.namespace, seen.feed), kind.name, seen.name, gone=gone))
        elif not news:
            metrics.EVENTS_IGNORED.labels(kind.name).inc()


def _is_news(bridge: Bridge, which: tuple[str, str], state: tuple[object, ...], gone: bool) -> bool:
    if gone:
        bridge.seen.pop(which, None)
        return True
    if bridge.seen.get(which) == state:
        return False
    bridge.seen[which] = state
    return True


def raw_of(body: kopf.Body) -> dict[str, Any]:
    """The plain object behind kopf's view of it."""
    return dict(body)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A feed and its children as the watches last showed them; `feed` is None when it is gone."""

    feed: Observed | None
    children: tuple[Observed, ...]


def snapshot(bridge: Bridge, key: Key) -> Snapshot:
    """Read the indices; only in kopf's thread, whose event loop changes them."""
    feeds = _values(bridge, FEED_INDEX, key)
    children = [child for kind in WATCHED_KINDS for child in _values(bridge, child_index(kind), key)]
    return Snapshot(feeds[-1] if feeds else None, tuple(children))


def _values(bridge: Bridge, index: str, key: Key) -> list[Observed]:
    found: Iterable[Observed] = bridge.indices[index].get(key, ()) if index in bridge.indices else ()
    return list(found)


async def run_kopf(bridge: Bridge, settings: OperatorSettings, namespace: str | None, stop: asyncio.Event) -> None:
    """kopf's whole life, in the running loop, until `stop`, for a namespace or all. Raises what ends kopf otherwise."""
    await kopf.operator(
        registry=registry_of(bridge, settings),
        settings=kopf.OperatorSettings(),
        standalone=True,
        clusterwide=namespace is None,
        namespaces=[] if namespace is None else [namespace],
        stop_flag=stop,
    )
