"""Keeps the bars of one minute that clients watch, once a second: each made of its seconds as they are now.

The seconds of a recent minute are all in memory; those of an older one, which a late trade has changed, are joined from
the store like a snapshot's. Nothing is made for symbols that nobody watches by the minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from marketfeed.domain.bars import BarColumns, stack
from marketfeed.domain.conflation import Changes
from marketfeed.domain.errors import Unavailable
from marketfeed.domain.minute_bars import MINUTE_S, Key
from marketfeed.domain.rollup import roll_up
from marketfeed.domain.trades import Int64Array
from marketfeed.mds.hub import Hub
from marketfeed.mds.live import LiveState
from marketfeed.mds.snapshot import Snapshots
from marketfeed.runtime.logs import Logger, RateLimited
from marketfeed.runtime.tasks import stopped_within

PAUSE_S = 1.0
# Older minutes read from the store in one turn.
READS_MAX = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Minutes:
    """Makes the minutes of the hub's state."""

    hub: Hub
    snapshots: Snapshots
    log: Logger

    async def run(self, stopping: asyncio.Event) -> None:
        """Until stopped."""
        limited = RateLimited(self.log, per_s=0.1)
        while not await stopped_within(stopping, PAUSE_S):
            if not self.hub.serving:
                continue
            try:
                await self.turn()
            except Unavailable as error:
                limited.warning("a minute's seconds cannot be read", reason=error.reason)

    async def turn(self) -> None:
        """Make what is due. Raises Unavailable when an older minute cannot be read; it stays due."""
        self.hub.refresh()
        state = self.hub.state
        due = state.minutes.due(state.window.watermark)
        held = [key for key in due if key[1] >= state.window.held_from_s]
        if held:
            self._put(state, held, state.bars(*_seconds_of(held)))
        for key in [key for key in due if key[1] < state.window.held_from_s][:READS_MAX]:
            symbol = state.symbols.name(key[0])
            history = await self.snapshots.history(symbol, key[1], key[1] + MINUTE_S)
            if self.hub.state is not state:
                return
            self.hub.refresh()
            if history.source == "store":
                self._put(state, [key], self.snapshots.join(symbol, key[1], history))

    def _put(self, state: LiveState, keys: Sequence[Key], seconds: BarColumns) -> None:
        ids = {key[0] for key in keys}
        watermarks = {symbol_id: state.window.watermark(symbol_id) for symbol_id in ids}
        gaps = {id(gap): gap for symbol_id in ids for gap in state.window.gaps_of(symbol_id)}
        bars = roll_up(stack([seconds]), "1m", state.calendar, watermarks, gaps.values())
        if changed := state.minutes.put(keys, bars):
            state.log.note(Changes(minutes=changed))


def _seconds_of(keys: Sequence[Key]) -> tuple[Int64Array, Int64Array]:
    """Symbol ids and starts of all seconds of these minutes."""
    starts = np.array([key[1] for key in keys], np.int64)
    ids = np.repeat(np.array([key[0] for key in keys], np.int64), MINUTE_S)
    return ids, (starts[:, None] + np.arange(MINUTE_S)).ravel()
