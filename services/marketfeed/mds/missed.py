"""What a client that comes back with a position has missed, or that nobody can tell any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
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

    names    the symbols that this is about
    first_s  by symbol id, from which second on bars may have changed; no entry: none has
    gaps     gaps told meanwhile
    """

    names: frozenset[str]
    version: int
    first_s: dict[int, int]
    gaps: tuple[TapeGap, ...]


async def missed_since(
    hub: Hub, recovery: Recovery, position: Position, known: Callable[[], Sequence[str]]
) -> Missed | None:
    """What was missed of the symbols that are `known` once the position is reached; None if it cannot be had whole.

    At the return the ring holds everything since the position, and will until the caller waits for something.
    """
    state = hub.state
    try:
        if not await recovery.reach(position):
            return None
        if hub.state is not state:
            return None
        names = known()
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
    return Missed(frozenset(names), state.log.version, first_s, tuple(touched.gaps))
