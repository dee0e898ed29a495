"""Event time as an owner tells it: watermark, lateness, and the extent of a gap.

The watermark is the highest accepted stamp, or the arrival of the feed's last ping less 5 s if that is later. It never
falls and stands still while nothing arrives. `Watermark` records must be sent after every trade accepted before them,
and `Alive` carries only what `AckedWatermark` says: then the gap that a successor opens at an owner's last `Alive`
covers all that the owner held only in memory. Times are Unix nanoseconds and always arguments.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from marketfeed.domain.log import Gap
from marketfeed.domain.trades import NANOS, Int64Array

PING_SLACK_NS = 5 * NANOS
LATENESS_KEPT_NS = 900 * NANOS
DELAY_MAX_NS = 60 * NANOS
_MINUTE_NS = 60 * NANOS


class WatermarkClock:
    """The watermark of one process' symbols and the greatest lateness of the last 15 minutes."""

    def __init__(self) -> None:
        self._value = 0
        self._late: deque[tuple[int, int]] = deque()  # (minute, greatest lateness in it)

    @property
    def value(self) -> int:
        """The watermark, 0 while there is none."""
        return self._value

    def succeed(self, watermark: int, lateness_ns: int, now_ns: int) -> None:
        """Go on from a predecessor: its watermark, and a lateness that our own few trades may not have shown yet."""
        self._value = max(self._value, watermark)
        self._note_lateness(lateness_ns, now_ns)

    def accept(self, event_ts: Int64Array, now_ns: int) -> None:
        """Take in the stamps (int64) of accepted trades in the order of arrival; `now_ns` is their arrival."""
        if not len(event_ts):
            return
        reached = np.maximum.accumulate(event_ts)
        np.maximum(reached, self._value, out=reached)
        self._note_lateness(int((reached - event_ts).max()), now_ns)
        self._value = int(reached[-1])

    def ping(self, arrived_ns: int) -> None:
        """The feed gave a sign of life: what it has not sent by now, less 5 s, it will not send."""
        self._value = max(self._value, arrived_ns - PING_SLACK_NS)

    def lateness_ns(self, now_ns: int) -> int:
        """The greatest lateness of the last 15 minutes: how far below the watermark a trade arrived."""
        self._forget(now_ns)
        return max((lateness for _, lateness in self._late), default=0)

    def _note_lateness(self, lateness: int, now_ns: int) -> None:
        self._forget(now_ns)
        minute = now_ns // _MINUTE_NS
        if self._late and self._late[-1][0] == minute:
            self._late[-1] = (minute, max(lateness, self._late[-1][1]))
        elif lateness > 0:
            self._late.append((minute, lateness))

    def _forget(self, now_ns: int) -> None:
        oldest = (now_ns - LATENESS_KEPT_NS) // _MINUTE_NS
        while self._late and self._late[0][0] < oldest:
            self._late.popleft()


class AckedWatermark:
    """The watermark up to which every partition's trades are in the log.

    A partition's order makes the acknowledgement of a `Watermark` record speak for all trades sent before it.
    """

    def __init__(self, partitions: Iterable[int], floor_ts: int = 0) -> None:
        """`floor_ts`: what is known of these partitions without an acknowledgement."""
        self._acked = dict.fromkeys(partitions, floor_ts)

    def acked(self, partition: int, event_ts: int) -> None:
        """Kafka has acknowledged a `Watermark(event_ts)` in this partition; one that is no longer ours says nothing."""
        if partition in self._acked:
            self._acked[partition] = max(self._acked[partition], event_ts)

    @property
    def value(self) -> int:
        """The lowest of the partitions' watermarks, 0 while one has none."""
        return min(self._acked.values(), default=0)

    def speak_for(self, partitions: Iterable[int], floor_ts: int) -> None:
        """From now on for these partitions; `floor_ts` is what is known of those that are new."""
        self._acked = {partition: self._acked.get(partition, floor_ts) for partition in partitions}

    def lowered(self, floor_ts: int) -> AckedWatermark:
        """A new one, no higher than `floor_ts`: what is on its way to be acknowledged says nothing about why."""
        return AckedWatermark(self._acked, min(self.value, floor_ts))


@dataclass(slots=True)
class _Settling:
    """Symbols asked for together: when that is in force, and the watermark then (None: not yet)."""

    symbols: set[str]
    due_ts: int
    reached: int | None = None


class WholeSince:
    """From which stamp on everything of a symbol has come over the present connection.

    Subscriptions are not acknowledged, so one is taken to be in force some time after it was sent. What an owner's
    watermark has to reach is that instant, or the first stamp that raised our own watermark after it if that is later:
    a vendor's clock may be ahead of ours. Of a delayed feed, whose stamps are far behind our clock, it is that stamp
    and `DELAY_MAX_NS`, as the trade that bore it may have been late.
    """

    def __init__(self, settling_ns: int) -> None:
        self._settling_ns = settling_ns
        self._settling: list[_Settling] = []
        self._whole: dict[str, int] = {}

    def subscribed(self, symbols: Iterable[str], now_ns: int) -> None:
        """These symbols were asked for just now, on a connection that stands."""
        names = set(symbols)
        self.unsubscribed(names)
        self._settling.append(_Settling(names, now_ns + self._settling_ns))

    def unsubscribed(self, symbols: Iterable[str]) -> None:
        """These symbols do not come any more."""
        gone = set(symbols)
        for group in self._settling:
            group.symbols -= gone
        for symbol in gone & self._whole.keys():
            del self._whole[symbol]

    def lost(self) -> None:
        """Nothing comes any more."""
        self._settling.clear()
        self._whole.clear()

    def reached(self, watermark: int, now_ns: int) -> None:
        """Our own watermark is this now; called whenever something came."""
        if not self._settling:
            return
        for group in self._settling:
            if group.reached is None and group.due_ts <= now_ns:
                group.reached = watermark
            elif group.reached is not None and watermark > group.reached:
                stamp = min(max(group.due_ts, watermark), watermark + DELAY_MAX_NS)
                self._whole.update(dict.fromkeys(group.symbols, stamp))
                group.symbols.clear()
        self._settling = [group for group in self._settling if group.symbols]

    def due(self, symbols: Iterable[str]) -> dict[str, int]:
        """Of those of these symbols that are not whole yet: when (our clock, ns) their subscription is in force."""
        asked = frozenset(symbols)
        return {symbol: group.due_ts for group in self._settling for symbol in group.symbols & asked}

    def since(self, symbols: Iterable[str]) -> dict[str, int]:
        """The stamps of those of these symbols that are whole by now."""
        return {symbol: stamp for symbol in symbols if (stamp := self._whole.get(symbol)) is not None}


def gap(
    symbols: Sequence[str], watermark: int, lateness_ns: int, first_ts: int, reason: str, dropped: int = 0
) -> Gap | None:
    """The gap between a connection (or owner) that ended at `watermark` and one whose first stamp is `first_ts`.

    It begins below the watermark by the greatest lateness seen: a late trade may have been on its way. None when there
    is nothing to be missed: no watermark was ever reached. It must stand in the log before a watermark jumps over it.
    """
    if watermark <= 0 or not symbols:
        return None
    from_ts = watermark - lateness_ns
    return Gap(tuple(symbols), from_ts, max(first_ts, from_ts), reason, dropped)
