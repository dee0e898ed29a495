"""Seeded histories of whole ingest processes: every trade counts exactly once, or lies inside a gap that says so.

HISTORIES=1000 runs that many of each kind, HISTORY_SEED=n one; a failing history names its command. All of it is in
virtual time (`world.py`), so a minute of a history costs a fraction of a second.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.ingest.world import (
    EPOCH_S,
    LATE_MS,
    PARTITIONS,
    SYMBOLS,
    Process,
    World,
    partitions_used,
    records_of,
    virtual_time,
)

from marketfeed.domain.errors import Unavailable
from marketfeed.domain.log import Alive, Claim, ControlBody, Gap
from marketfeed.domain.trades import NANOS

ONE_SEED = os.environ.get("HISTORY_SEED")
SEEDS = [int(ONE_SEED)] if ONE_SEED else list(range(int(os.environ.get("HISTORIES", "2"))))
# What plays each step of a history gets a quarter of the seeds, as it takes so many times longer.
STEPPED_SEEDS = SEEDS[::4]
SHARDS = ("0", "1", "2")
# Long enough for silence, a take-over, and a symbol that two revisions of the plan fought over.
QUIET_END_S = 85.0
# A process is whole again so long after it was disturbed, if Kafka takes what it sends.
RECOVERED_S = 12.0


class History:
    """Faults in a world, until they end and everything comes to rest."""

    def __init__(self, world: World, members: int, shards: int) -> None:
        self.world = world
        self.rng = world.rng
        self.members = members
        self.shards = SHARDS[:shards]
        self.disturbed_s: dict[str, float] = {}  # by shard: when one of its processes was last disturbed
        self.happened: Counter[str] = Counter()
        self.owners: dict[str, list[str]] = {}
        self.publishers: dict[str, int] = {}
        world.replan(self.plan_of(len(SYMBOLS)))
        for shard in self.shards:
            for member in range(members):
                world.start(shard, member)
        # A symbol's history begins with its first claim: what was received by one who died before, nobody knows of.
        while not self.all_claimed():
            world.step()
        world.run(self.rng.uniform(0, 4))

    def all_claimed(self) -> bool:
        """Whether each symbol was claimed."""
        claims = (r.body for r in self.world.log.get(("f.control", 0), []) if isinstance(r.body, Claim))
        return set(SYMBOLS) == {symbol for claim in claims for symbol in claim.symbols}

    def go(self) -> None:
        for _ in range(self.rng.randint(200, 450)):
            self.world.step()
            if self.rng.random() < 0.03:
                self.fault()
            if self.rng.random() < 0.15:
                self.restart()
        self.rest()

    def rest(self) -> None:
        """No more faults: whoever is missing comes back, plans are followed, what is owed is paid."""
        for shard in self.shards:
            while self.missing_members(shard):
                self.restart(shard)
        for _ in range(round(QUIET_END_S / 5)):
            self.world.run(5)
            if self.at_rest():
                break

    def at_rest(self) -> bool:
        """Everybody publishes what the plan says, and nothing is on its way."""
        served = all(shards == [self.world.plan[symbol]] for symbol, shards in self.world.owners().items())
        awake = all(p.still_until_s < self.world.clock.now_s and not p.pipeline._owed for p in self.world.processes)
        settled = all(p.claimant.settled and p.revision == self.world.revision for p in self.world.processes)
        return served and awake and settled

    def missing_members(self, shard: str) -> list[int]:
        running = {p.member for p in self.world.processes if p.shard == shard}
        return [member for member in range(self.members) if member not in running]

    def restart(self, shard: str | None = None) -> None:
        shard = shard or self.rng.choice(self.shards)
        if missing := self.missing_members(shard):
            self.world.start(shard, missing[0])
            self.disturbed_s[shard] = self.world.clock.now_s

    def fault(self) -> None:
        kinds: list[Callable[[Process], None]] = [
            self.kill, self.kill, self.stand_still, self.disconnect, self.fail_over, self.kafka_away,
            self.move, self.move, self.kill_candidate, self.kill_in_a_move,
        ]  # fmt: skip
        kind = self.rng.choice(kinds)
        if self.world.processes:
            kind(self.rng.choice(self.world.processes))

    def may_disturb(self, process: Process) -> bool:
        """With hot standbys: only while the other one is there and has recovered; what it has not heard nobody has."""
        if self.members > 1:
            quiet_s = self.world.clock.now_s - self.disturbed_s.get(process.shard, 0.0)
            if quiet_s < RECOVERED_S or self.missing_members(process.shard):
                return False
        self.disturbed_s[process.shard] = self.world.clock.now_s
        return True

    def kill(self, process: Process) -> None:
        if self.may_disturb(process):
            self.world.kill(process)
            self.happened["kill"] += 1

    def kill_candidate(self, _: Process) -> None:
        """One that is between its claim and going live, if there is one."""
        for process in self.world.processes:
            if process.claimant.phase in ("claiming", "preparing"):
                if self.may_disturb(process):
                    self.world.kill(process)
                    self.happened["candidate killed"] += 1
                return

    def kill_in_a_move(self, process: Process) -> None:
        """The plan takes symbols from a process, which dies before anybody has taken them over."""
        if owned := [symbol for symbol in process.cutter.owned if self.world.plan[symbol] == process.shard]:
            self.world.replan(self.plan_of(len(owned)))
            self.world.run(self.rng.uniform(0, 1.5))
            if process in self.world.processes and self.may_disturb(process):
                self.world.kill(process)
                self.happened["killed in a move"] += 1

    def stand_still(self, process: Process) -> None:
        """For up to twelve seconds, and then on as before: a zombie, for what it knows."""
        if self.may_disturb(process):
            process.still_until_s = self.world.clock.now_s + self.rng.uniform(0.5, 12)
            self.disturbed_s[process.shard] = process.still_until_s
            self.happened["still"] += 1

    def disconnect(self, process: Process) -> None:
        """Of a live process that is a gap of its own, whatever its standby holds; so with standbys only theirs."""
        if not (self.members > 1 and process.cutter.owned) and self.may_disturb(process):
            until_s = self.world.clock.now_s + self.rng.uniform(0.1, 4)
            process.disconnect(until_s)
            self.disturbed_s[process.shard] = until_s
            self.happened["disconnect"] += 1

    def fail_over(self, process: Process) -> None:
        process.sender.producer.failure = Unavailable("Kafka", "here", "fatal")
        self.happened["fail over"] += 1

    def kafka_away(self, _: Process) -> None:
        now_s = self.world.clock.now_s
        self.world.broker_away_until_s = now_s + self.rng.uniform(0.2, 4)
        for shard in self.shards:  # a watermark that stands still proves nothing: standbys recover later
            self.disturbed_s[shard] = max(self.disturbed_s.get(shard, 0.0), self.world.broker_away_until_s)
        self.happened["kafka away"] += 1

    def move(self, _: Process) -> None:
        """A new plan, also while the last one is still being carried out."""
        self.world.replan(self.plan_of(self.rng.randint(1, 3)))
        self.happened["move"] += 1

    def plan_of(self, moved: int) -> dict[str, str]:
        """The plan with so many symbols moved at random, none beyond the room of its shard."""
        while True:
            plan = dict(self.world.plan)
            for symbol in self.rng.sample(SYMBOLS, moved):
                plan[symbol] = self.rng.choice(self.shards)
            if not self.world.limit or max(Counter(plan.values()).values()) <= self.world.limit:
                return plan

    def check(self, again: str) -> None:
        trades, gaps = self.world.counted()
        double = trades - self.world.emitted
        assert not double, f"counted too often: {dict(double)}; {again}"
        lost = self.world.emitted - trades
        if self.members == 1:
            lost -= self.world.excused(lost, gaps)
        assert not lost, f"lost: {dict(lost)}; {[(g.symbols, g.reason, g.from_ts, g.to_ts) for g in gaps]}; {again}"
        for symbol, shards in self.owners.items():
            assert shards == [self.world.plan[symbol]], f"{symbol} is published by {shards}; {again}"
            assert self.publishers[symbol] == 1, f"{symbol} is published by several; {again}"


def history(seed: int, folder: Path, kind: str) -> History:
    members, shards, limit = {"standbys": (2, 2, 0), "restarts": (1, 3, 0), "full": (1, 3, 3)}[kind]
    with virtual_time(short=seed % 2 == 1) as clock:
        world = World(seed, clock, folder / f"{kind}-{seed}", limit)
        if members == 1:
            world.very_late_ms = LATE_MS
        made = History(world, members, shards)
        made.go()
        world.drain()
        made.owners = world.owners()
        made.publishers = {symbol: world.publishers(symbol) for symbol in SYMBOLS}
        world.stop()
    return made


@pytest.mark.timeout(24 * 3600)
@pytest.mark.parametrize("kind", ["standbys", "restarts", "full"])
def test_every_trade_counts_once_or_lies_in_a_gap(kind: str, tmp_path: Path) -> None:
    """With hot standbys always once; without, what a kill took lies in a gap, or what waited for room on a full key."""
    happened: Counter[str] = Counter()
    for seed in SEEDS:
        made = history(seed, tmp_path, kind)
        made.check(f"HISTORY_SEED={seed} pytest tests/unit/ingest/test_histories.py -k {kind}")
        happened += made.happened
        assert records_of(made.world) > 50
    print(f"\n{len(SEEDS)} histories of {kind}: {dict(happened)}")


class FirstOwner:
    """The first owner of some symbols dies so many steps after its claim is logged, perhaps its successor, too."""

    def __init__(self, world: World, kind: str) -> None:
        self.world = world
        self.new = SYMBOLS if kind in ("start", "pair") else SYMBOLS[3:]
        self.survivor: Process | None = None
        world.replan({symbol: "0" for symbol in SYMBOLS if symbol not in self.new})
        for member in range(2 if kind in ("pair", "added to a pair") else 1):
            world.start("0", member)
        if self.new != SYMBOLS:
            world.run(8)
        world.replan(dict.fromkeys(SYMBOLS, "0"))

    def go(self, after: int) -> bool:
        """False when everybody knew of the first owner before that many steps were over."""
        rng = self.world.rng
        for death in range(rng.choice([1, 1, 2])):
            owner = self.until_claimed()
            for _ in range(after if death == 0 else rng.randint(0, 10)):
                if self.was_live(owner):
                    return death > 0
                self.world.step()
                owner = self.claimant() or owner
            self.world.kill(owner)
            self.survivor = next(iter(self.world.processes), None)
            self.world.run(rng.choice([0.1, 0.5, 8.0]))
            if self.survivor is not None:
                break
            self.world.start("0")
        self.world.run(6)
        while not all(p.claimant.phase == "live" and not p.pipeline._owed for p in self.world.processes):
            self.world.run(1)
            assert self.world.clock.now_s < 90, "the successor is not live"
        return True

    def until_claimed(self) -> Process:
        while (found := self.claimant()) is None:
            self.world.step()
            assert self.world.clock.now_s < 60, "nobody claims"
        return found

    def claimant(self) -> Process | None:
        """Who claimed the new symbols last."""
        claims = [body for body in self.control() if isinstance(body, Claim) and set(self.new) <= set(body.symbols)]
        return next((p for p in self.world.processes if claims and p.name == claims[-1].instance), None)

    def was_live(self, process: Process) -> bool:
        """Whether the log says so of all its epochs."""
        mine = [(epoch, body) for epoch, body in enumerate(self.control()) if body.instance == process.name]
        alive = [body for _, body in mine if isinstance(body, Alive)]
        return bool(alive) and {epoch for epoch, body in mine if isinstance(body, Claim)} <= set(alive[-1].epochs)

    def needless(self, gaps: list[Gap]) -> list[Gap]:
        """Gaps over more than a second or two of what the survivor has heard."""
        assert self.survivor is not None
        heard_s = max(self.survivor.subscribed[symbol] for symbol in self.new) + 2
        return [gap for gap in gaps if gap.to_ts > (EPOCH_S + heard_s) * NANOS]

    def control(self) -> list[ControlBody]:
        return [r.body for r in self.world.log.get(("f.control", 0), []) if isinstance(r.body, ControlBody)]


@pytest.mark.timeout(24 * 3600)
@pytest.mark.parametrize("kind", ["start", "pair", "added", "added to a pair"])
def test_what_a_first_owner_took_with_it_lies_in_a_gap(kind: str, tmp_path: Path) -> None:
    """Dead at any step between its claim and its first sign of life; what its hot standby heard is in no gap."""
    for seed in STEPPED_SEEDS:
        again = f"HISTORY_SEED={seed} pytest tests/unit/ingest/test_histories.py -k 'first_owner and {kind}'"
        for after in range(100):
            with virtual_time(short=seed % 2 == 1) as clock:
                world = World(seed, clock, tmp_path / f"{seed}-{after}")
                if kind.startswith("added"):  # Others of the process' symbols have the gaps of any owner.
                    world.very_late_ms = LATE_MS
                played = FirstOwner(world, kind)
                if not (early := played.go(after)):
                    world.stop()
                    break
                world.drain()
                world.stop()
            trades, gaps = world.counted()
            assert not trades - world.emitted, f"counted too often, {after} steps; {again}"
            lost = world.emitted - trades
            lost -= world.excused(lost, gaps)
            told = [(gap.symbols, gap.from_ts, gap.to_ts) for gap in gaps]
            assert not lost, f"lost: {dict(lost)}, {after} steps; {told}; {again}"
            if played.survivor is not None:
                assert not played.survivor.received - trades, f"a standby had it, {after} steps; {again}"
                assert not played.needless(gaps), f"a standby had it, {after} steps; {again}"
        assert not early
        print(f"\nseed {seed}, {kind}: dead after 0 to {after - 1} steps")


def test_a_seed_makes_one_history(tmp_path: Path) -> None:
    """So that a failure can be looked at again and again; and both partitions are used."""
    logs = []
    for run in range(2):
        made = history(3, tmp_path / str(run), "restarts")
        logs.append([(r.offset, r.append_ts, type(r.body)) for p in range(PARTITIONS)
                     for r in made.world.log["f.trades", p]])  # fmt: skip
        assert any(isinstance(r.body, Claim) for r in made.world.log["f.control", 0])
    assert logs[0] == logs[1]
    assert partitions_used() == {0, 1}
