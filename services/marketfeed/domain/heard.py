"""What one ingest has heard of the others on `<feed>.control`: who claims what, who is live, how long ago.

Times are the listener's monotonic seconds. An epoch counts for a symbol only if it is not below the highest one that
was ever live for it: a lower one's owner has let the symbol go.

A candidate that dies after its marker has published what counts, although nobody heard that it was live. If the symbol
had a live owner before, what the candidate took with it lies above that owner's watermark. If not, it lies above the
stamp that the claim names, and of several candidates' claims above the lowest. The claim is in the log before the
marker, as its offset is the marker's epoch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from marketfeed.domain.claim_actions import Predecessor
from marketfeed.domain.log import Alive, Claim, Preparing

QUIET_S = 5.0


@dataclass(slots=True)
class HeardEpoch:
    """An epoch of another process; `symbols` is None when its claim is no longer in the log."""

    shard: str
    instance: str
    symbols: frozenset[str] | None
    sign_s: float
    live: bool = False
    ended: bool = False
    watermark: int = 0
    lateness_ns: int = 0

    def fresh(self, now_s: float, within_s: float | None = None) -> bool:
        """Whether it gave a sign within `within_s` (None: `QUIET_S`) and has not been ended by its own process."""
        return not self.ended and now_s - self.sign_s < (QUIET_S if within_s is None else within_s)


class Heard:
    """Epochs of other processes. `ever_live` has our own, too: symbol -> the highest epoch that was live for it."""

    def __init__(self, shard: str) -> None:
        self._shard = shard
        self._epochs: dict[int, HeardEpoch] = {}
        self._contested: dict[str, int] = {}
        # Symbols that had no live owner so far: the lowest stamp (ns) that a candidate named, and its epoch.
        self._held_from: dict[str, tuple[int, int]] = {}
        self.ever_live: dict[str, int] = {}

    def claim(self, offset: int, body: Claim, now_s: float) -> None:
        """Another process' claim, whose offset is its epoch."""
        self._epochs[offset] = HeardEpoch(body.shard, body.instance, frozenset(body.symbols), now_s)
        for symbol in body.symbols:
            owner = self._epochs.get(self.ever_live.get(symbol, -1))
            if owner is not None:
                self._contested.setdefault(symbol, owner.watermark)
            elif symbol not in self.ever_live and body.held_from_ts > 0:
                named = body.held_from_ts, offset
                self._held_from[symbol] = min(named, self._held_from.get(symbol, named))

    def preparing(self, body: Preparing, now_s: float) -> None:
        """A candidate is at work."""
        self._epoch(body.epoch, body).sign_s = now_s

    def alive(self, body: Alive, now_s: float) -> list[int]:
        """An owner lives; returns the epochs that are live for the first time. Its earlier epochs are over."""
        new = []
        for number in body.epochs:
            epoch = self._epoch(number, body)
            epoch.sign_s, epoch.watermark, epoch.lateness_ns = now_s, body.watermark, body.lateness_ns
            if not epoch.live:
                epoch.live = True
                new.append(number)
                self.went_live(number, epoch.symbols or ())
        for number, epoch in self._epochs.items():
            if epoch.instance == body.instance and epoch.live and number not in body.epochs:
                epoch.ended = True
        if new:
            self._forget_succeeded()
        return new

    def went_live(self, number: int, symbols: Iterable[str]) -> None:
        """An epoch, ours or another's, is live for these symbols."""
        for symbol in symbols:
            if number > self.ever_live.get(symbol, -1):
                self.ever_live[symbol] = number
                self._contested.pop(symbol, None)
                self._held_from.pop(symbol, None)

    def reached(self, symbol: str, epoch: HeardEpoch) -> int:
        """The watermark up to which what a live epoch logged of a symbol counts for sure.

        From the claim of a candidate on it may not: who dies between its marker and going live leaves an owner that
        publishes for nobody until it claims again.
        """
        return min(epoch.watermark, self._contested.get(symbol, epoch.watermark))

    def pause(self, duration_s: float, now_s: float) -> None:
        """Time in which nothing could be heard is no silence."""
        for epoch in self._epochs.values():
            epoch.sign_s = min(epoch.sign_s + duration_s, now_s)

    def knows(self, symbols: Iterable[str]) -> bool:
        """Whether anybody was ever heard of who may have published one of these symbols, ourselves included."""
        wanted = frozenset(symbols)
        if not wanted.isdisjoint(self.ever_live):
            return True
        return any(e.symbols is None or not wanted.isdisjoint(e.symbols) for e in self._epochs.values())

    def last_live(self, symbols: Iterable[str]) -> dict[str, int] | None:
        """The newest live epoch of those of these symbols that have one; None if one's may be of a claim not known."""
        if self._nameless() >= 0:
            return None
        return {symbol: epoch for symbol in symbols if (epoch := self.ever_live.get(symbol)) is not None}

    def shard_of(self, number: int) -> str:
        """The shard of an epoch."""
        return self._epochs[number].shard

    def fresh(self, number: int, now_s: float) -> bool:
        """Whether an epoch that was heard of still gives signs of life."""
        return self._epochs[number].fresh(now_s)

    def covers(
        self, symbols: Iterable[str], now_s: float, within_s: float | None = None, more_s: float = 0.0
    ) -> list[tuple[HeardEpoch, set[str]]]:
        """The epochs with a sign of life within `within_s` (None: `QUIET_S`) or `more_s` longer, and whose they are.

        Without its claim an epoch of our shard is taken to speak for all symbols, another shard's for none.
        """
        wanted = frozenset(symbols)
        within_s = (QUIET_S if within_s is None else within_s) + more_s
        found = []
        for number, epoch in self._epochs.items():
            if not epoch.fresh(now_s, within_s):
                continue
            if epoch.symbols is None:
                covered = set(wanted) if epoch.shard == self._shard else set()
            else:
                covered = {s for s in wanted & epoch.symbols if number >= self.ever_live.get(s, -1)}
            if covered:
                found.append((epoch, covered))
        return found

    def eldest_mate(self, now_s: float, within_s: float | None = None) -> int | None:
        """The lowest live epoch of the other processes of our shard, None when none of them lives."""
        mates = (n for n, e in self._epochs.items() if e.shard == self._shard and e.live and e.fresh(now_s, within_s))
        return min(mates, default=None)

    def predecessors(self, symbols: Iterable[str]) -> tuple[Predecessor, ...]:
        """Who was last to speak for these symbols, if it was not this process."""
        found: dict[tuple[int, int], list[str]] = {}
        fallback = self._nameless()
        for symbol in symbols:
            number = max(self.ever_live.get(symbol, -1), fallback)
            held_from, candidate = self._held_from.get(symbol, (None, -1))
            if number in self._epochs:
                reached = self.reached(symbol, self._epochs[number])
                # Who is only taken to be the owner, as its claim is gone, may never have had this symbol.
                place = number, reached if held_from is None else min(reached, held_from)
            elif held_from is not None:
                place = candidate, held_from
            else:
                continue
            found.setdefault(place, []).append(symbol)
        return tuple(
            self._predecessor(number, watermark, names) for (number, watermark), names in sorted(found.items())
        )

    def logged_until(self, symbols: Iterable[str]) -> int:
        """The watermark (ns) up to which the last owners of all these symbols have logged; 0 if one has no owner."""
        names = tuple(symbols)
        owners = [one for one in self.predecessors(names) if one.live]
        if sum(len(one.symbols) for one in owners) < len(names):
            return 0
        return min((one.watermark for one in owners), default=0)

    def _nameless(self) -> int:
        """The newest live epoch of our shard whose claim is not known, -1 if there is none."""
        numbers = (n for n, e in self._epochs.items() if e.symbols is None and e.live and e.shard == self._shard)
        return max(numbers, default=-1)

    def _predecessor(self, number: int, watermark: int, names: list[str]) -> Predecessor:
        epoch = self._epochs[number]
        return Predecessor(number, tuple(names), watermark, epoch.lateness_ns, epoch.shard, epoch.live)

    def _epoch(self, number: int, body: Preparing | Alive) -> HeardEpoch:
        epoch = self._epochs.get(number)
        if epoch is None:
            epoch = self._epochs[number] = HeardEpoch(body.shard, body.instance, None, 0.0)
        return epoch

    def _forget_succeeded(self) -> None:
        """Drop ended epochs that nobody can have as a predecessor any more, so that they do not pile up."""
        last = set(self.ever_live.values())
        over = [n for n, e in self._epochs.items() if e.ended and e.symbols is not None and n not in last]
        for number in over:
            del self._epochs[number]
