"""A look at everything every two minutes, whatever events said: what a lost event hid comes to light here.

Compares fresh lists of the children with what was applied. kopf's indices cannot tell this, if it missed an event.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from marketfeed_operator.child_writer import ChildKey, ChildWriter, Key
from marketfeed_operator.cluster import Cluster
from marketfeed_operator.cluster_errors import ClusterError
from marketfeed_operator.kinds import CHILD_KINDS, FEED_LABEL, MANAGED_BY
from marketfeed_operator.logs import facts

log = logging.getLogger("operator.resync")


def by_feed(kind: str, listed: Iterable[Mapping[str, Any]]) -> dict[Key, set[ChildKey]]:
    """Which feed has which children of a kind, from their metadata. Pure."""
    found: dict[Key, set[ChildKey]] = defaultdict(set)
    for child in listed:
        metadata = child["metadata"]
        feed = (metadata.get("labels") or {}).get(FEED_LABEL)
        if feed and "deletionTimestamp" not in metadata:
            found[metadata["namespace"], feed].add((kind, metadata["name"]))
    return dict(found)


class Resync:
    """The periodic look of one leadership. `ask(key, after_s)` puts a feed into the queue."""

    def __init__(
        self,
        cluster: Cluster,
        children: ChildWriter,
        namespaces: tuple[str, ...],
        interval_s: float,
        ask: Callable[[Key, float], None],
    ) -> None:
        self._cluster = cluster
        self._children = children
        self._namespaces: tuple[str | None, ...] = namespaces or (None,)
        self._interval_s = interval_s
        self._ask = ask
        self._jitter = random.Random()

    async def run(self, feeds: Callable[[], Iterable[Key]]) -> None:
        """Look for ever; ends by cancellation. A namespace that cannot be listed is tried again with the next look."""
        while True:
            await asyncio.sleep(self._interval_s * (0.9 + 0.2 * self._jitter.random()))
            await self.look(list(feeds()))

    async def look(self, feeds: list[Key]) -> None:
        """Ask for every feed, spread over a quarter of the interval; at once for those that lost a child unseen."""
        existing: dict[Key, set[ChildKey]] = defaultdict(set)
        unseen = set[str | None]()
        for namespace in self._namespaces:
            try:
                await self._list(namespace, existing)
            except (ClusterError, TimeoutError) as error:
                # One namespace that is gone or forbidden must not hide the others.
                unseen.add(namespace)
                log.warning("could not list", extra=facts(namespace=namespace, error=str(error) or "timed out"))
        for key in feeds:
            self._children.recheck_unwatched(key)
            hidden = None in unseen or key[0] in unseen
            lost = not hidden and self._children.missing(key, frozenset(existing[key]))
            if lost:
                log.warning("a child vanished unseen", extra=facts(feed="/".join(key)))
            self._ask(key, 0.0 if lost else self._jitter.random() * self._interval_s / 4)

    async def _list(self, namespace: str | None, existing: dict[Key, set[ChildKey]]) -> None:
        """Put the children of a namespace into `existing`. Raises ClusterError, TimeoutError."""
        for kind in CHILD_KINDS:
            listed = await self._cluster.list_metadata(kind, namespace, MANAGED_BY)
            for key, children in by_feed(kind.name, listed).items():
                existing[key] |= children
