"""Who speaks for which symbols, as one ingest process decides it from `<feed>.control` alone.

`Claimant` is a pure state machine. It is told every control record in order (`see`), when the log's end was reached
(`caught_up`) and when the log cannot be read (`deaf`), what the plan gives this process (`want`) and when a take-over
is finished (`went_live`); `due` says what to do next. Time is the caller's monotonic clock in seconds, always an
argument; nobody else's clock matters. A process that was stopped or deaf for a while does not take that for silence.

Rules
- An epoch is the offset of a `Claim`. Its instance gives signs of life for it: the claim itself, `Preparing`, `Alive`.
- A symbol is covered while an epoch of another process that claims it gave a sign within `QUIET_S`. Epochs below the
  highest one that was ever live for the symbol do not count: their owner has let it go. An instance's newest `Alive`
  replaces its earlier ones, so an owner that leaves orderly (`leave`) covers nothing from then on.
- Wanted symbols that are not covered are claimed; if nobody was ever heard of, that is at once. Symbols covered by a
  live owner of another shard are claimed too, for the plan gives them to us, unless that owner took them from us within
  `DISPLACED_S` and the plan has had no new revision since. From a live owner of the same shard nothing is ever taken.
- An own claim becomes an epoch when it is read back: `TakeOver` is due, then `Preparing` every second until
  `went_live`; from then on `Alive`, repeated take-overs and watermarks.
- A candidate that sees a higher claim over its symbols withdraws from them. A live owner goes on publishing and keeps
  what it publishes (`KeepBuffer`); the challenger's `Alive` makes it stop (`Yield`); without a sign of the challenger
  for `QUIET_S` it claims again and reconciles, so that a candidate's death silences nobody.
- Above `EPOCHS_MAX` epochs the whole set is claimed anew: own order, hence nothing to reconcile.

`instance` must be new with every start of a process: an own claim is known by it. A claim that was written twice gives
one epoch of two; the other is never used. `Alive` of an epoch whose claim is no longer in the log covers all symbols if
it is of our shard, none otherwise (claiming what another shard owns is harmless: it is told, and yields).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from marketfeed.domain.log import Alive, Claim, ControlBody, Preparing

QUIET_S = 5.0
ALIVE_EVERY_S = 1.0
WATERMARK_EVERY_S = 0.5
# A reader without owners learns from 60 s of log: a repeat a little sooner is in every such stretch.
TAKEOVER_EVERY_S = 50.0
EPOCHS_MAX = 4
# Two shards that hold different revisions of the plan, and both want a symbol, do not take it from each other for this
# long: enough for the newer revision to reach both.
DISPLACED_S = 60.0
# `due` is called ten times a second; a longer pause means that this process stood still and heard nothing.
STALLED_S = 1.0


@dataclass(frozen=True, slots=True)
class SendClaim:
    """Append this to `<feed>.control`."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The symbols that another process' `epoch` was the last to be live for, and what its last `Alive` said (ns)."""

    epoch: int
    symbols: tuple[str, ...]
    watermark: int
    lateness_ns: int


@dataclass(frozen=True, slots=True)
class TakeOver:
    """Stop publishing `symbols` under older epochs and buffer them; append `Takeover(epoch, …)` to their partitions.

    With `reconcile`: read back up to the markers, publish the difference, then call `went_live`. Without: it is our
    own order, call `went_live` at once and go on under the new epoch. `predecessors` were live for these symbols before
    (those that nobody held are left out): where a gap begins, and what the watermark must not fall below.
    """

    epoch: int
    symbols: tuple[str, ...]
    reconcile: bool
    predecessors: tuple[Predecessor, ...] = ()


@dataclass(frozen=True, slots=True)
class Withdraw:
    """A higher claim came before `epoch` was live: give up its take-over of `symbols`, keep buffering them."""

    epoch: int
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeepBuffer:
    """`challenger` claims `symbols`: go on publishing, and keep what is published and the 60 s before as a buffer."""

    challenger: int
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Yield:
    """Stop publishing `symbols`: their new owner `to_epoch` is live, or (None) nobody is to publish them."""

    symbols: tuple[str, ...]
    to_epoch: int | None


@dataclass(frozen=True, slots=True)
class SendPreparing:
    """Append `Preparing(epoch)` to `<feed>.control`."""

    epoch: int


@dataclass(frozen=True, slots=True)
class SendAlive:
    """Append `Alive(epochs)` with the acknowledged watermark and the lateness to `<feed>.control`."""

    epochs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RepeatTakeover:
    """Append `Takeover(epoch, …)` once more to the partitions of `symbols`."""

    epoch: int
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SendWatermark:
    """Append `Watermark(epochs)` to every partition of our symbols, after all trades accepted so far."""

    epochs: tuple[int, ...]


Action = (
    SendClaim | TakeOver | Withdraw | KeepBuffer | Yield | SendPreparing | SendAlive | RepeatTakeover | SendWatermark
)


@dataclass(slots=True)
class _Other:
    """What was heard of another process' epoch; `symbols` is None when its claim is no longer in the log."""

    shard: str
    instance: str
    symbols: frozenset[str] | None
    sign_s: float
    live: bool = False
    ended: bool = False
    watermark: int = 0
    lateness_ns: int = 0


@dataclass(slots=True)
class _Holding:
    """Symbols of ours under one epoch, in preparation or live, and when its next repeated record is due."""

    symbols: set[str]
    repeat_s: float
    live: bool = False


class Claimant:
    """See the module's rules. Call `due` after every `see`, and ten times a second."""

    def __init__(self, shard: str, instance: str, symbols: Iterable[str] = ()) -> None:
        self.shard = shard
        self.instance = instance
        self._wanted = set(symbols)
        self._others: dict[int, _Other] = {}
        self._ever_live: dict[str, int] = {}
        self._holdings: dict[int, _Holding] = {}
        self._challenges: dict[int, set[str]] = {}
        self._displaced: dict[str, float] = {}  # until when (monotonic seconds) the taker is left alone
        self._claiming: tuple[set[str], bool] | None = None  # symbols, reconcile
        self._actions: list[Action] = []
        self._listening = False
        self._left = False
        self._alive_s = 0.0
        self._watermark_s = 0.0
        self._last_due_s: float | None = None
        self._deaf_s: float | None = None

    # What the caller asks

    @property
    def phase(self) -> str:
        """following | standby | claiming | preparing | live | left: how far the symbols wanted have come."""
        if self._left:
            return "left"
        if not self._listening:
            return "following"
        if any(not holding.live for holding in self._holdings.values()):
            return "preparing"
        if self._holdings and not self._wanted - self._held():
            return "live"
        return "claiming" if self._claiming else "standby"

    def live_epochs(self) -> dict[int, frozenset[str]]:
        """The symbols that are published, by the epoch they are published under."""
        return {epoch: frozenset(held.symbols) for epoch, held in self._holdings.items() if held.live}

    # What the caller reports

    def want(self, symbols: Iterable[str], nobodys: Iterable[str] = ()) -> None:
        """The symbols that a new revision of the plan gives this process; call it once per revision, changed or not.

        `nobodys` are given to no shard and dropped at once; others that are no longer ours are served until their new
        owner is live. What another shard took from us under the last revision may be claimed again.
        """
        self._wanted = set(symbols)
        self._displaced.clear()
        dropped = self._held() & set(nobodys) - self._wanted
        if dropped:
            self._let_go(dropped, None)

    def caught_up(self, now_s: float) -> None:
        """`<feed>.control` has been read to its end as of a moment ago, at the start or after `deaf`."""
        if self._deaf_s is not None:
            self._pause(now_s - self._deaf_s, now_s)
            self._deaf_s = None
        self._listening = True
        self._last_due_s = now_s

    def deaf(self, now_s: float) -> None:
        """`<feed>.control` cannot be read: silence proves nothing until `caught_up` is called again."""
        if self._listening:
            self._listening = False
            self._deaf_s = now_s

    def went_live(self, epoch: int, now_s: float) -> None:
        """The take-over of `epoch` is finished: its trades are being published. No effect after a full withdrawal."""
        holding = self._holdings.get(epoch)
        if holding is None or holding.live:
            return
        holding.live = True
        holding.repeat_s = now_s + TAKEOVER_EVERY_S
        self._ever_live.update(dict.fromkeys(holding.symbols, epoch))
        self._alive_s = self._watermark_s = now_s

    def leave(self) -> None:
        """Stop speaking, after everything was sent and acknowledged: a last `Alive` without epochs is due."""
        self._left = True
        self._holdings.clear()
        self._actions = [SendAlive(())]

    def see(self, offset: int, body: ControlBody, now_s: float) -> None:
        """A record of `<feed>.control`, our own included, in offset order."""
        if body.instance == self.instance:
            if isinstance(body, Claim):
                self._own_claim(offset, body, now_s)
        elif isinstance(body, Claim):
            self._others[offset] = _Other(body.shard, body.instance, frozenset(body.symbols), now_s)
            self._challenged(offset, set(body.symbols))
        elif isinstance(body, Preparing):
            self._other(body.epoch, body).sign_s = now_s
        else:
            self._alive(body, now_s)

    def due(self, now_s: float) -> list[Action]:
        """What to do now, each action once, in this order."""
        if self._last_due_s is not None and now_s - self._last_due_s > STALLED_S and self._listening:
            self._pause(now_s - self._last_due_s, now_s)
        self._last_due_s = now_s
        if self._listening and not self._left:
            self._claim(now_s)
        if not self._left:
            self._repeat(now_s)
        actions, self._actions = self._actions, []
        return actions

    # Others

    def _other(self, epoch: int, body: Preparing | Alive) -> _Other:
        other = self._others.get(epoch)
        if other is None:
            other = self._others[epoch] = _Other(body.shard, body.instance, None, 0.0)
        return other

    def _alive(self, body: Alive, now_s: float) -> None:
        for epoch in body.epochs:
            other = self._other(epoch, body)
            other.sign_s, other.watermark, other.lateness_ns = now_s, body.watermark, body.lateness_ns
            if not other.live:
                other.live = True
                self._note_live(epoch, other, now_s)
        for epoch, other in self._others.items():
            if other.instance == body.instance and other.live and epoch not in body.epochs:
                other.ended = True

    def _note_live(self, epoch: int, other: _Other, now_s: float) -> None:
        for symbol in other.symbols or ():
            if epoch > self._ever_live.get(symbol, -1):
                self._ever_live[symbol] = epoch
        lost = self._challenges.get(epoch)
        if lost:
            if other.shard != self.shard:
                self._displaced.update(dict.fromkeys(lost, now_s + DISPLACED_S))
            self._let_go(set(lost), epoch)

    def _pause(self, duration_s: float, now_s: float) -> None:
        """Time in which nothing could be heard is no silence."""
        for other in self._others.values():
            other.sign_s = min(other.sign_s + duration_s, now_s)

    def _fresh(self, other: _Other, now_s: float) -> bool:
        return not other.ended and now_s - other.sign_s < QUIET_S

    def _claimable(self, symbols: set[str], now_s: float) -> set[str]:
        """Those of the symbols that may be claimed now: not covered, or another shard's that the plan gives us."""
        free = set(symbols)
        for epoch, other in self._others.items():
            if not free or not self._fresh(other, now_s):
                continue
            ours = other.shard == self.shard
            if other.symbols is None:
                covered = set(free) if ours else set()
            else:
                covered = {s for s in free & other.symbols if epoch >= self._ever_live.get(s, -1)}
            if other.live and not ours:
                covered = {s for s in covered if self._displaced.get(s, 0.0) > now_s}
            free -= covered
        return free

    # Ourselves

    def _predecessors(self, symbols: Iterable[str]) -> tuple[Predecessor, ...]:
        """Who was last to be live for these symbols, if it was not this process."""
        nameless = [e for e, o in self._others.items() if o.symbols is None and o.live and o.shard == self.shard]
        fallback = max(nameless, default=-1)
        found: dict[int, list[str]] = {}
        for symbol in symbols:
            epoch = max(self._ever_live.get(symbol, -1), fallback)
            if epoch in self._others:
                found.setdefault(epoch, []).append(symbol)
        return tuple(
            Predecessor(epoch, tuple(names), self._others[epoch].watermark, self._others[epoch].lateness_ns)
            for epoch, names in sorted(found.items())
        )

    def _held(self) -> set[str]:
        return set().union(*(holding.symbols for holding in self._holdings.values()))

    def _claim(self, now_s: float) -> None:
        """At most one claim is on its way at a time."""
        if self._claiming is not None:
            return
        silent = [epoch for epoch in self._challenges if not self._fresh(self._others[epoch], now_s)]
        symbols = set().union(*(self._challenges.pop(epoch) for epoch in silent))
        missing = self._wanted - self._held()
        if missing:
            symbols |= self._claimable(missing, now_s)
        reconcile = True
        if not symbols and self._too_many_epochs():
            symbols, reconcile = self._held(), False
        if symbols:
            self._claiming = (symbols, reconcile)
            self._actions.append(SendClaim(Claim(self.shard, self.instance, tuple(sorted(symbols)))))

    def _too_many_epochs(self) -> bool:
        settled = not self._challenges and all(holding.live for holding in self._holdings.values())
        return settled and len(self._holdings) > EPOCHS_MAX

    def _own_claim(self, offset: int, body: Claim, now_s: float) -> None:
        """The claim on its way has become an epoch; a second copy of an earlier claim is passed over."""
        if self._claiming is None or set(body.symbols) != self._claiming[0] or self._left:
            return
        claimed, reconcile = self._claiming
        self._claiming = None
        symbols = claimed & (self._wanted | self._held())
        if not symbols:
            return
        reconcile = reconcile or not symbols <= self._held()
        self._remove(symbols)
        for symbol in symbols:
            self._displaced.pop(symbol, None)
        self._holdings[offset] = _Holding(symbols, now_s)
        names = tuple(sorted(symbols))
        self._actions.append(TakeOver(offset, names, reconcile, self._predecessors(names)))

    def _challenged(self, challenger: int, claimed: set[str]) -> None:
        """Another process claims symbols of ours, with a higher epoch as it comes later in the log."""
        for epoch, holding in list(self._holdings.items()):
            contested = holding.symbols & claimed
            if not contested:
                continue
            names = tuple(sorted(contested))
            if holding.live:
                self._challenges.setdefault(challenger, set()).update(contested)
                self._actions.append(KeepBuffer(challenger, names))
            else:
                holding.symbols -= contested
                self._actions.append(Withdraw(epoch, names))
                if not holding.symbols:
                    del self._holdings[epoch]

    def _let_go(self, symbols: set[str], to_epoch: int | None) -> None:
        self._remove(symbols)
        self._actions.append(Yield(tuple(sorted(symbols)), to_epoch))

    def _remove(self, symbols: set[str]) -> None:
        """Take symbols out of all holdings and challenges."""
        for group in (self._challenges, {epoch: holding.symbols for epoch, holding in self._holdings.items()}):
            for names in group.values():
                names -= symbols
        self._challenges = {epoch: names for epoch, names in self._challenges.items() if names}
        self._holdings = {epoch: holding for epoch, holding in self._holdings.items() if holding.symbols}

    def _repeat(self, now_s: float) -> None:
        """Signs of life, repeated take-overs and watermarks. What is late is sent once, never caught up."""
        for epoch, holding in self._holdings.items():
            if now_s < holding.repeat_s:
                continue
            if holding.live:
                self._actions.append(RepeatTakeover(epoch, tuple(sorted(holding.symbols))))
                holding.repeat_s = _next(holding.repeat_s, now_s, TAKEOVER_EVERY_S)
            else:
                self._actions.append(SendPreparing(epoch))
                holding.repeat_s = _next(holding.repeat_s, now_s, ALIVE_EVERY_S)
        live = tuple(sorted(epoch for epoch, holding in self._holdings.items() if holding.live))
        if live and now_s >= self._watermark_s:
            self._actions.append(SendWatermark(live))
            self._watermark_s = _next(self._watermark_s, now_s, WATERMARK_EVERY_S)
        if live and now_s >= self._alive_s:
            self._actions.append(SendAlive(live))
            self._alive_s = _next(self._alive_s, now_s, ALIVE_EVERY_S)


def _next(due_s: float, now_s: float, every_s: float) -> float:
    """The next due time on a steady beat; a missed beat is left out."""
    return due_s + every_s if now_s < due_s + every_s else now_s + every_s
