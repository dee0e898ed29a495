"""Who speaks for which symbols, as one ingest process decides it from `<feed>.control` alone.

`Claimant` is a pure state machine. It is told every control record in order (`see`), when the log's end was reached
(`caught_up`) and when the log cannot be read (`deaf`), what the plan gives this process (`want`), from when on it holds
everything of a symbol (`prepared`) and when a take-over is finished (`went_live`); `due` says what to do next. Time is
the caller's monotonic clock in seconds, always an argument; nobody else's clock matters. A process that was stopped or
deaf for a while does not take that for silence.

Rules
- An epoch is the offset of a `Claim`. Its instance gives signs of life for it: the claim itself, `Preparing`, `Alive`.
- A symbol is covered while an epoch of another process that claims it gave a sign within `QUIET_S` (`heard.py`). An
  instance's newest `Alive` replaces its earlier ones, so an owner that leaves orderly (`leave`) covers nothing.
- Wanted symbols that are not covered are claimed; if nobody was ever heard of, that is at once. Who has not heard all
  that a silent owner left unlogged waits `MATE_S` more, for there may be a hot standby that has.
- A live owner of another shard is succeeded when it has logged all that came before we held everything ourselves: its
  watermark has reached the stamp that `prepared` names, or `PATIENCE_S` have passed. Not if it took the symbol from us
  within `DISPLACED_S` and the plan has had no new revision since. From a live owner of the same shard, which is our
  hot standby or we are its, nothing is ever taken.
- Of the processes of one shard the eldest live one claims what the plan adds; the others leave it `DEFER_S` to do so.
  What the plan takes away they stand by for until its new owner is live (`_lingering`).
- An own claim becomes an epoch when it is read back: `TakeOver` is due, then `Preparing` every second until
  `went_live`; from then on `Alive`, repeated take-overs and watermarks.
- A candidate that sees a higher claim over its symbols withdraws from them. A live owner goes on publishing and keeps
  what it publishes (`KeepBuffer`); the challenger's `Alive` makes it stop (`Yield`); without a sign of the challenger
  for `QUIET_S` it claims again and reconciles, so that a candidate's death silences nobody.
- One connection carries at most `limit` symbols. Those held go first; a wanted one is subscribed to when there is room
  (`followed`), and not claimed before. If what is to be handed over takes the room, as much of it as is needed is given
  up first: the rest is claimed anew, and the old epoch ends where it did, which is how a successor knows of the gap.
- The whole set is claimed anew above `EPOCHS_MAX` epochs, and when a claim is `RENEW_RECORDS` old, before newcomers
  cannot find it any more: own order, hence nothing to reconcile.

`instance` must be new with every start of a process: an own claim is known by it. A claim that was written twice gives
one epoch of two; the other is never used. `Alive` of an epoch whose claim is no longer in the log covers all symbols if
it is of our shard, none otherwise (claiming what another shard owns is harmless: it is told, and yields).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from marketfeed.domain.claim_actions import (
    Action,
    KeepBuffer,
    RepeatTakeover,
    SendAlive,
    SendClaim,
    SendPreparing,
    SendWatermark,
    TakeOver,
    Withdraw,
    Yield,
)
from marketfeed.domain.heard import Heard, HeardEpoch
from marketfeed.domain.log import Claim, ControlBody, Preparing

ALIVE_EVERY_S = 1.0
WATERMARK_EVERY_S = 0.5
# A reader without owners learns from 60 s of log: a repeat a little sooner is in every such stretch.
TAKEOVER_EVERY_S = 50.0
EPOCHS_MAX = 4
RENEW_RECORDS = 10_000
# Two shards that hold different revisions of the plan, and both want a symbol, do not take it from each other for this
# long: enough for the newer revision to reach both.
DISPLACED_S = 60.0
# An owner whose watermark stands still (its connection hangs) is succeeded all the same, with a gap. A quiet feed's
# watermark moves with its ping, every 60 s, and a hung connection is cut after 75 s.
PATIENCE_S = 90.0
# The plan's file may reach one process of a shard a minute and a half after another, and it may have to be patient.
DEFER_S = 120.0
MATE_S = 1.5
# A live owner says so every second; who is silent for longer will probably have to be succeeded.
SUSPECT_S = 1.5
# `due` is called ten times a second; a longer pause means that this process stood still and heard nothing.
STALLED_S = 1.0


@dataclass(slots=True)
class _Holding:
    """Symbols of ours under one epoch, in preparation or live, and when its next repeated record is due."""

    symbols: set[str]
    repeat_s: float
    live: bool = False


class Claimant:
    """See the module's rules. Call `due` after every `see`, and ten times a second."""

    def __init__(self, shard: str, instance: str, symbols: Iterable[str] = (), limit: int = 0) -> None:
        """`limit`: the most symbols that this process' connection carries, 0 for any number."""
        self.shard = shard
        self.instance = instance
        self._limit = limit
        self._wanted = set(symbols)
        self._heard = Heard(shard)
        self._last_offset = 0
        self._holdings: dict[int, _Holding] = {}
        self._challenges: dict[int, set[str]] = {}
        self._displaced: dict[str, float] = {}  # until when (monotonic seconds) the taker is left alone
        self._missing_s: dict[str, float] = {}  # since when a wanted symbol is not held
        self._whole_from: Mapping[str, int] = {}
        self._lingering: set[str] = set()
        self._giving_up: set[str] = set()
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
        """How far the symbols wanted have come.

        following  `<feed>.control` is not read to its end
        waiting    for an owner's silence, or for an owner to have logged what we did not hear ourselves
        claiming, preparing, live
        standby    a live process of the same shard speaks for everything that this one wants and does not hold
        idle       nothing is wanted, nothing is held
        left       the end was told
        """
        if self._left:
            return "left"
        if not self._listening:
            return "following"
        if any(not holding.live for holding in self._holdings.values()):
            return "preparing"
        missing = self._wanted - self.held()
        if not missing:
            return "live" if self._holdings else "idle"
        if self._claiming:
            return "claiming"
        return "standby" if missing <= self._mates_cover(missing) else "waiting"

    def held(self) -> set[str]:
        """The symbols that are spoken for, or are about to be, under an epoch of this process."""
        return set().union(*(holding.symbols for holding in self._holdings.values()))

    def followed(self) -> frozenset[str]:
        """The symbols to be subscribed to: those held, and as many of those wanted as the connection can carry."""
        held = self.held()
        wanted = (self._wanted | self._lingering) - held
        if self._limit:
            wanted = set(sorted(wanted)[: max(0, self._limit - len(held))])
        return frozenset(held | wanted)

    def live_epochs(self) -> dict[int, frozenset[str]]:
        """The symbols that are published, by the epoch they are published under."""
        return {epoch: frozenset(held.symbols) for epoch, held in self._holdings.items() if held.live}

    def missing(self) -> frozenset[str]:
        """The symbols that are subscribed to and spoken for by another process or nobody."""
        return self.followed() - self.held()

    def foreseen(self, now_s: float) -> frozenset[str]:
        """Missing symbols that will probably be claimed within seconds: it pays to read the log back beforehand."""
        if not self._listening or self._left:
            return frozenset()
        free = set(self.missing())
        for epoch, covered in self._heard.covers(free, now_s, SUSPECT_S):
            if epoch.shard == self.shard or not epoch.live:
                free -= covered
        return frozenset(free - self._deferred(free, now_s, SUSPECT_S))

    def logged_until(self) -> int:
        """The stamp (ns) up to which the owners of all missing symbols have logged; 0 if one has no owner."""
        return self._heard.logged_until(self.missing())

    @property
    def settled(self) -> bool:
        """Whether nothing of ours is being claimed, in preparation or contested: for that is what was kept."""
        return (
            self._claiming is None and not self._challenges and all(holding.live for holding in self._holdings.values())
        )

    def last_live(self, symbols: Iterable[str]) -> dict[str, int] | None:
        """The newest live epoch of those of these symbols that ever had one, ours included; None: not all is known."""
        return self._heard.last_live(symbols)

    # What the caller reports

    def want(self, symbols: Iterable[str], nobodys: Iterable[str] = ()) -> None:
        """The symbols that a new revision of the plan gives this process; call it once per revision, changed or not.

        `nobodys` are given to no shard and dropped at once; others that are no longer ours are served until their new
        owner is live, unless the connection has no room for both them and what is wanted. What another shard took from
        us under the last revision may be claimed again.
        """
        before, self._wanted = self._wanted | self._lingering, set(symbols)
        self._lingering = self._mates_cover(before - self._wanted - set(nobodys), math.inf)
        self._displaced.clear()
        dropped = self.held() & set(nobodys) - self._wanted
        if dropped:
            self._let_go(dropped, None)
        held = self.held()
        excess = len(held | self._wanted) - self._limit if self._limit else 0
        self._giving_up = set(sorted(held - self._wanted)[: max(0, excess)])

    def prepared(self, whole_from: Mapping[str, int]) -> None:
        """Of these symbols everything is held from the stamp (ns) named on; of others not yet."""
        self._whole_from = whole_from

    def caught_up(self, now_s: float) -> None:
        """`<feed>.control` has been read to its end as of a moment ago, at the start or after `deaf`."""
        if self._deaf_s is not None:
            self._heard.pause(now_s - self._deaf_s, now_s)
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
        self._heard.went_live(epoch, holding.symbols)
        self._alive_s = self._watermark_s = now_s

    def leave(self) -> None:
        """Stop speaking, after everything was sent and acknowledged: a last `Alive` without epochs is due."""
        self._left = True
        self._holdings.clear()
        self._actions = [SendAlive(())]

    def see(self, offset: int, body: ControlBody, now_s: float) -> None:
        """A record of `<feed>.control`, our own included, in offset order."""
        self._last_offset = offset
        if body.instance == self.instance:
            if isinstance(body, Claim):
                self._own_claim(offset, body, now_s)
        elif isinstance(body, Claim):
            self._heard.claim(offset, body, now_s)
            self._challenged(offset, set(body.symbols))
        elif isinstance(body, Preparing):
            self._heard.preparing(body, now_s)
        else:
            for epoch in self._heard.alive(body, now_s):
                self._succeeded_by(epoch, now_s)

    def due(self, now_s: float) -> list[Action]:
        """What to do now, each action once, in this order."""
        if self._last_due_s is not None and now_s - self._last_due_s > STALLED_S and self._listening:
            self._heard.pause(now_s - self._last_due_s, now_s)
        self._last_due_s = now_s
        if self._listening and not self._left:
            self._claim(now_s)
        if not self._left:
            self._repeat(now_s)
        actions, self._actions = self._actions, []
        return actions

    # Others

    def _mates_cover(self, symbols: set[str], within_s: float | None = None) -> set[str]:
        """Those of the symbols that a process of our shard speaks for that was live within `within_s`."""
        covers = self._heard.covers(symbols, self._last_due_s or 0.0, within_s)
        mates: set[str] = set()
        return mates.union(*(covered for epoch, covered in covers if epoch.live and epoch.shard == self.shard))

    def _succeeded_by(self, epoch: int, now_s: float) -> None:
        """A challenger is live: what it claimed of ours is its."""
        lost = self._challenges.get(epoch)
        if lost:
            if self._heard.shard_of(epoch) != self.shard:
                self._displaced.update(dict.fromkeys(lost, now_s + DISPLACED_S))
            self._let_go(set(lost), epoch)

    def _claimable(self, symbols: set[str], now_s: float) -> set[str]:
        """Those of the symbols that may be claimed now: not covered, or another shard's that we can succeed."""
        free = symbols - self._deferred(symbols, now_s)
        for epoch, covered in self._heard.covers(free, now_s, more_s=MATE_S):
            if not epoch.fresh(now_s):
                covered = {s for s in covered if epoch.live and not self._heard_all(s, epoch)}
            elif epoch.live and epoch.shard != self.shard:
                covered = {s for s in covered if not self._may_succeed(s, epoch, now_s)}
            free -= covered
        return free

    def _heard_all(self, symbol: str, epoch: HeardEpoch) -> bool:
        """Whether we hold everything of a symbol that this epoch has not logged."""
        whole_from = self._whole_from.get(symbol)
        return whole_from is not None and self._heard.reached(symbol, epoch) >= whole_from

    def _linger(self, now_s: float) -> None:
        """Stand by for what the plan has taken from our shard until another shard's process is live for it."""
        for epoch, covered in self._heard.covers(self._lingering, now_s):
            if epoch.live and epoch.shard != self.shard:
                self._lingering -= covered

    def _may_succeed(self, symbol: str, epoch: HeardEpoch, now_s: float) -> bool:
        """Whether a live owner of another shard may be succeeded: without loss, or because that never comes."""
        if self._displaced.get(symbol, 0.0) > now_s:
            return False
        return self._heard_all(symbol, epoch) or now_s - self._missing_s.get(symbol, now_s) >= PATIENCE_S

    def _deferred(self, symbols: set[str], now_s: float, within_s: float | None = None) -> set[str]:
        """Those of the symbols that an elder process of our shard, heard of `within_s`, is to claim first."""
        eldest = self._heard.eldest_mate(now_s, within_s)
        if eldest is None or eldest > min((e for e, held in self._holdings.items() if held.live), default=eldest + 1):
            return set()
        return {s for s in symbols if now_s - self._missing_s.get(s, now_s) < DEFER_S}

    # Ourselves

    def _claim(self, now_s: float) -> None:
        """At most one claim is on its way at a time."""
        self._linger(now_s)
        missing = self.missing()
        self._missing_s = {symbol: self._missing_s.get(symbol, now_s) for symbol in missing}
        if self._claiming is not None:
            return
        silent = [epoch for epoch in self._challenges if not self._heard.fresh(epoch, now_s)]
        symbols = set().union(*(self._challenges.pop(epoch) for epoch in silent))
        if missing:
            symbols |= self._claimable(set(missing), now_s)
        reconcile = True
        if not symbols and self.settled:
            symbols, reconcile = self._own_order(), False
        if symbols:
            self._claiming = (symbols, reconcile)
            self._actions.append(SendClaim(Claim(self.shard, self.instance, tuple(sorted(symbols)))))

    def _own_order(self) -> set[str]:
        """What to claim anew without anything to reconcile, if there is reason to."""
        self._giving_up &= self.held() - self._wanted
        if self._giving_up:
            rest = self.held() - self._giving_up
            if not rest:
                self._give_up()
                self._actions.append(SendAlive(()))
            return rest
        aged = self._holdings and min(self._holdings) < self._last_offset - RENEW_RECORDS
        return self.held() if aged or len(self._holdings) > EPOCHS_MAX else set()

    def _give_up(self) -> None:
        given, self._giving_up = self._giving_up & self.held(), set()
        if given:
            self._let_go(given, None)

    def _own_claim(self, offset: int, body: Claim, now_s: float) -> None:
        """The claim on its way has become an epoch; a second copy of an earlier claim is passed over."""
        if self._claiming is None or set(body.symbols) != self._claiming[0] or self._left:
            return
        claimed, reconcile = self._claiming
        self._claiming = None
        symbols = claimed & (self._wanted | self._lingering | self.held())
        self._lingering -= symbols
        if not symbols:
            return
        reconcile = reconcile or not symbols <= self.held()
        self._remove(symbols)
        for symbol in symbols:
            self._displaced.pop(symbol, None)
        self._holdings[offset] = _Holding(symbols, now_s)
        names = tuple(sorted(symbols))
        heard = self._heard
        self._actions.append(TakeOver(offset, names, reconcile, heard.predecessors(names), heard.knows(names)))
        if not reconcile:
            self._give_up()

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
