"""Which pods of a feed are asked next: those that answered first, and the silent ones less and less often. Pure.

A pod that fails to answer several times in a row is asked again after a pause that doubles, up to a cap: each silent
pod costs a whole time-out, and thousands of them would leave no turn for anybody else. One answer ends the pause.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# So many failures in a row are an ordinary restart, and change nothing.
PATIENCE = 2
PAUSE_MAX_INTERVALS = 6.0


@dataclass(frozen=True, slots=True)
class Target:
    """A pod to ask: its name and uid, and its address in the pods' network."""

    pod: str
    uid: str
    address: str


@dataclass(slots=True)
class _Asked:
    failures: int = 0
    at: float = float("-inf")
    not_before: float = float("-inf")


class PollOrder:
    """What is remembered of the pods of one feed, by uid; of no pod that is gone. Times are monotonic seconds."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._asked: dict[str, _Asked] = {}

    def due(self, targets: Iterable[Target], now: float) -> list[Target]:
        """The pods to ask now, in this order; of the silent ones first who was not asked for longest."""
        kept = {target.uid: (target, self._asked.get(target.uid, _Asked())) for target in targets}
        self._asked = {uid: asked for uid, (_, asked) in kept.items()}
        waiting = [(target, asked) for target, asked in kept.values() if asked.not_before <= now]
        return [target for target, _ in sorted(waiting, key=lambda one: (one[1].failures > 0, one[1].at))]

    def note(self, target: Target, answered: bool, now: float) -> None:
        """A pod answered, or did not."""
        asked = self._asked.setdefault(target.uid, _Asked())
        asked.at, asked.failures = now, 0 if answered else asked.failures + 1
        intervals = min(PAUSE_MAX_INTERVALS, 2.0 ** min(asked.failures - PATIENCE, 8)) if asked.failures else 0.0
        asked.not_before = now + intervals * self._interval_s if asked.failures > PATIENCE else now
