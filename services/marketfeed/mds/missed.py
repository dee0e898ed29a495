"""What a client that comes back with a position has missed, or that nobody can tell any more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from marketfeed.domain.access import OPEN
from marketfeed.domain.errors import CallRefused, Unavailable
from marketfeed.domain.position import Position
from marketfeed.domain.tape import TapeGap
from marketfeed.mds.hub import Hub
from marketfeed.mds.recovery import Recovery
from marketfeed.mds.tape_reading import TapePlace, Touched, Wanted


@dataclass(frozen=True, slots=True)
class Missed:
    """Since a position, as of a version of the change log.

    first_s  by symbol id, from which second on bars may have changed; no entry: none has
    gaps     gaps told meanwhile
    """

    version: int
    first_s: dict[int, int]
    gaps: tuple[TapeGap, ...]


async def missed_since(hub: Hub, recovery: Recovery, position: Position, names: Sequence[str]) -> Missed | None:
    """What was missed of these symbols; None if that cannot be had as a whole.

    At the return the ring holds everything since the position, and will until the caller waits for something.
    """
    state = hub.state
    try:
        if not await recovery.reach(position):
            return None
        place = TapePlace(state, dict(position.offsets))
        touched = Touched(Wanted(state, names, len(names), OPEN), place, keeps_gaps=True)
        while touched.read():
            await asyncio.sleep(0)  # minutes of the tape are read, and others have their turn between two bites
            if hub.state is not state:
                return None
        hub.refresh()
        first_s = touched.since()
    except (CallRefused, Unavailable):
        return None  # the ring let go of the place meanwhile, or the log was replaced
    if not state.tape.covers(position.offsets):
        return None
    return Missed(state.log.version, first_s, tuple(touched.gaps))
