"""The watches of one leadership: one `Watching` for each namespace that is served, or one for all of them.

Each is a kopf of its own, so that a namespace that is gone, forbidden or slow keeps no other from being watched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from marketfeed_operator.cluster import Cluster
from marketfeed_operator.handlers import Change, Key, Snapshot
from marketfeed_operator.settings import OperatorSettings
from marketfeed_operator.watching import Watching


class Watches:
    """Everything that is watched. `on_begin(namespace)`: what exists there is told as if it were new, None is all."""

    def __init__(
        self,
        cluster: Cluster,
        settings: OperatorSettings,
        on_change: Callable[[Change], None],
        on_begin: Callable[[str | None], None],
    ) -> None:
        self._everywhere = not settings.namespaces
        self._of = {
            namespace: Watching(cluster, settings, namespace, on_change, on_begin)
            for namespace in settings.namespaces or (None,)
        }

    async def run(self, over: asyncio.Event) -> None:
        """Watch until `over`."""
        async with asyncio.TaskGroup() as group:
            for watching in self._of.values():
                group.create_task(watching.run(over), name=f"operator/watching/{watching.name}")

    async def snapshot(self, key: Key) -> Snapshot:
        """The feed and its children as last seen. Raises Unavailable while not everything there is watched."""
        return await self._of[None if self._everywhere else key[0]].snapshot(key)

    def ages_s(self) -> dict[str, float]:
        """For each watched kind the longest time since one of its watches said anything, bookmarks included."""
        ages: dict[str, float] = {}
        for watching in self._of.values():
            for plural, age_s in watching.ages_s().items():
                ages[plural] = max(age_s, ages.get(plural, 0.0))
        return ages

    def blind_s(self) -> dict[str, float]:
        """For each namespace the time since everything in it was last seen.

        What is set aside does not count beside others, as no restart would mend it, but does if there is nothing else.
        """
        readable = [watching for watching in self._of.values() if not watching.unreadable]
        return {watching.name: watching.blind_s() for watching in readable or self._of.values()}

    def unreadable(self) -> dict[str, str]:
        """The namespaces that are set aside, and why."""
        return {watching.name: watching.unreadable for watching in self._of.values() if watching.unreadable}
