"""Who claims, takes over, withdraws and yields, and when; with a clock that the test moves."""

import pytest

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
from marketfeed.domain.claims import DEFER_S, EPOCHS_MAX, PATIENCE_S, RENEW_RECORDS, SUSPECT_S, Claimant
from marketfeed.domain.heard import QUIET_S
from marketfeed.domain.log import Alive, Claim, ControlBody, Preparing


class World:
    """`<feed>.control` and the processes that follow it; every process hears every record at once."""

    def __init__(self) -> None:
        self.now = 100.0
        self.log: list[ControlBody] = []
        self.alive: dict[str, Claimant] = {}
        self.done: list[tuple[str, Action]] = []
        self.hold_live: set[str] = set()
        self.mute: set[str] = set()

    def start(self, name: str, shard: str, symbols: str, limit: int = 0) -> Claimant:
        claimant = self.alive[name] = Claimant(shard, name, symbols, limit)
        claimant.prepared(dict.fromkeys("WXYZ", 0))
        for offset, body in enumerate(self.log):
            claimant.see(offset, body, self.now)
        claimant.caught_up(self.now)
        return claimant

    def append(self, body: ControlBody) -> int:
        self.log.append(body)
        for claimant in list(self.alive.values()):
            claimant.see(len(self.log) - 1, body, self.now)
        return len(self.log) - 1

    def run(self, seconds: float) -> list[tuple[str, Action]]:
        """Let time pass in tenths; returns what was done, signs of life left out."""
        begun = len(self.done)
        for _ in range(round(seconds * 10)):
            for name in list(self.alive):
                self._act(name)
            self.now += 0.1
        return [
            (name, a) for name, a in self.done[begun:] if not isinstance(a, SendAlive | SendPreparing | SendWatermark)
        ]

    def _act(self, name: str) -> None:
        claimant = self.alive[name]
        for action in claimant.due(self.now):
            self.done.append((name, action))
            if name in self.mute:
                continue
            if isinstance(action, SendClaim):
                self.append(action.claim)
            elif isinstance(action, SendPreparing):
                self.append(Preparing(action.epoch, claimant.shard, name))
            elif isinstance(action, SendAlive):
                self.append(Alive(action.epochs, claimant.shard, name, 1000 + int(self.now), 7))
            elif isinstance(action, TakeOver) and name not in self.hold_live:
                claimant.went_live(action.epoch, self.now)


def kinds(done: list[tuple[str, Action]]) -> list[tuple[str, str]]:
    return [(name, type(action).__name__) for name, action in done]


@pytest.fixture
def world() -> World:
    return World()


def test_the_first_of_all_claims_at_once(world: World) -> None:
    """Nobody was ever heard of: claim, take over, live within two turns."""
    a = world.start("a", "0/1", "XY")
    assert a.phase == "waiting"
    done = world.run(0.3)
    assert kinds(done) == [("a", "SendClaim"), ("a", "TakeOver")]
    assert a.live_epochs() == {0: frozenset("XY")}
    assert a.phase == "live"
    assert done[1][1] == TakeOver(0, ("X", "Y"), True, ())


def test_signs_of_life_come_on_schedule(world: World) -> None:
    """Alive every second, watermarks every half, take-overs repeated within every 60 s."""
    world.start("a", "0/1", "X")
    world.run(120)
    sent = [action for _, action in world.done]
    assert sum(isinstance(a, SendAlive) for a in sent) in range(115, 122)
    assert sum(isinstance(a, SendWatermark) for a in sent) in range(230, 242)
    assert [a for a in sent if isinstance(a, RepeatTakeover)] == [RepeatTakeover(0, ("X",))] * 2


def test_a_standby_waits_for_five_silent_seconds(world: World) -> None:
    """While the owner of its shard lives it does nothing; then it claims, and knows where the owner stopped."""
    world.start("a", "0/1", "X")
    world.run(3)
    b = world.start("b", "0/1", "X")
    assert world.run(20) == []
    assert b.phase == "standby"
    del world.alive["a"]
    died = world.now
    assert world.run(QUIET_S - 1.2) == []
    done = world.run(2.5)
    assert kinds(done) == [("b", "SendClaim"), ("b", "TakeOver")]
    [predecessor] = done[1][1].predecessors  # type: ignore[union-attr]
    assert (predecessor.epoch, predecessor.symbols, predecessor.lateness_ns) == (0, ("X",), 7)
    assert 1000 + died - 2 <= predecessor.watermark <= 1000 + died


def test_an_orderly_leave_makes_way_at_once(world: World) -> None:
    """The last `Alive` names no epochs: a successor need not wait."""
    a = world.start("a", "0/1", "X")
    world.run(2)
    a.leave()
    world.run(0.2)
    del world.alive["a"]
    assert a.phase == "left"
    world.start("b", "0/1", "X")
    assert kinds(world.run(0.2)) == [("b", "SendClaim"), ("b", "TakeOver")]


def test_two_standbys_claim_and_the_higher_wins(world: World) -> None:
    """The lower claim withdraws; one owner remains."""
    for name in "ab":
        world.start(name, "0/1", "X")
    for name in "ab":
        for action in world.alive[name].due(world.now):
            assert isinstance(action, SendClaim)
            world.log.append(action.claim)
    for offset, body in enumerate(list(world.log)):
        for claimant in world.alive.values():
            claimant.see(offset, body, world.now)
    done = world.run(10)
    assert kinds(done) == [("a", "TakeOver"), ("a", "Withdraw"), ("b", "TakeOver")]
    assert done[1][1] == Withdraw(0, ("X",))
    assert (world.alive["a"].live_epochs(), world.alive["b"].live_epochs()) == ({}, {1: frozenset("X")})


def test_another_shards_symbol_is_taken_over_and_yielded_when_the_newcomer_is_alive(world: World) -> None:
    """Resharding: the owner buffers at the claim and stops at the `Alive`; it does not take the symbol back."""
    a = world.start("a", "0/2", "XY")
    world.run(2)
    world.hold_live.add("b")
    b = world.start("b", "1/2", "Y")
    done = world.run(8)
    assert kinds(done) == [("b", "SendClaim"), ("a", "KeepBuffer"), ("b", "TakeOver")]
    assert done[1][1] == KeepBuffer(done[2][1].epoch, ("Y",))  # type: ignore[union-attr]
    assert a.live_epochs()[0] == frozenset("XY")
    [epoch] = [action.epoch for _, action in done if isinstance(action, TakeOver)]
    b.went_live(epoch, world.now)
    done = world.run(30)
    assert done == [("a", Yield(("Y",), epoch))]
    assert (a.live_epochs(), b.live_epochs()) == ({0: frozenset("X")}, {epoch: frozenset("Y")})
    del world.alive["b"]
    assert kinds(world.run(8)) == [("a", "SendClaim"), ("a", "TakeOver")]  # the plan still says it is ours


def test_a_candidate_that_dies_silences_nobody(world: World) -> None:
    """Five seconds without a sign of the challenger: the owner claims again and reconciles."""
    a = world.start("a", "0/2", "XY")
    world.run(2)
    challenger = world.append(Claim("1/2", "b", ("Y",)))
    world.run(3)
    world.append(Preparing(challenger, "1/2", "b"))
    assert world.run(4.5) == []
    assert not a.settled
    world.now += 0.6
    [claim] = [action for action in a.due(world.now) if isinstance(action, SendClaim)]
    assert not a.settled  # what was kept meanwhile is still needed
    world.append(claim.claim)
    done = [("a", claim), *world.run(2)]
    assert a.settled
    assert [type(action) for _, action in done] == [SendClaim, TakeOver]
    assert isinstance(done[1][1], TakeOver)
    assert (done[1][1].symbols, done[1][1].reconcile, done[1][1].predecessors) == (("Y",), True, ())
    assert sorted(map(sorted, a.live_epochs().values())) == [["X"], ["Y"]]
    world.append(Alive((challenger,), "1/2", "b", 0, 0))  # a zombie's late sign changes nothing
    assert world.run(10) == []


def test_a_symbol_that_nobody_gets_is_dropped_at_once_others_are_served_on(world: World) -> None:
    """A plan's change: no owner means stop; another owner means serve until it is alive."""
    a = world.start("a", "0/2", "XYZ")
    world.run(1)
    a.want("X", nobodys="Z")
    assert world.run(1) == [("a", Yield(("Z",), None))]
    assert a.live_epochs() == {0: frozenset("XY")}


def test_more_than_four_epochs_become_one(world: World) -> None:
    """Gained symbols get epochs of their own; the fifth makes a whole new claim without reconciliation."""
    a = world.start("a", "0/1", "A")
    for upto in range(2, EPOCHS_MAX + 2):
        world.run(0.3)
        assert len(a.live_epochs()) == upto - 1
        a.want("ABCDEFG"[:upto])
    done = world.run(0.5)
    assert isinstance(done[-1][1], TakeOver)
    assert (done[-1][1].symbols, done[-1][1].reconcile) == (tuple("ABCDE"), False)
    assert list(a.live_epochs().values()) == [frozenset("ABCDE")]


def test_standing_still_or_deaf_is_not_taken_for_silence(world: World) -> None:
    """A process that slept, or could not read the log, waits its five seconds anew."""
    world.start("a", "0/1", "X")
    world.run(1)
    b = world.start("b", "0/1", "X")
    world.run(2)
    world.now += 60  # both stood still; b is the first to wake
    assert b.due(world.now) == []
    b.deaf(world.now)
    world.now += 60
    assert b.due(world.now) == []
    b.caught_up(world.now)
    assert b.due(world.now) == []
    del world.alive["a"]
    assert kinds(world.run(QUIET_S + 0.5)) == [("b", "SendClaim"), ("b", "TakeOver")]


def test_a_claim_written_twice_gives_one_epoch(world: World) -> None:
    """The second copy of a re-sent claim is passed over by its writer."""
    a = world.start("a", "0/1", "X")
    [claim] = [action for action in a.due(world.now) if isinstance(action, SendClaim)]
    world.append(claim.claim)
    world.append(claim.claim)
    assert kinds(world.run(3)) == [("a", "TakeOver")]
    assert a.live_epochs() == {0: frozenset("X")}


def test_an_owner_whose_claim_was_trimmed_covers_its_own_shard_only(world: World) -> None:
    """`Alive` of an unknown epoch keeps its standbys waiting, and no other shard."""
    world.log = [Alive((0,), "0/2", "a", 5, 6)]
    b = world.start("b", "0/2", "X")
    c = world.start("c", "1/2", "Y")
    for _ in range(12):
        world.run(1)
        world.append(Alive((0,), "0/2", "a", 5, 6))
    assert (b.phase, c.phase) == ("standby", "live")
    [done] = [action for _, action in world.run(8) if isinstance(action, TakeOver)]
    assert [(p.epoch, p.watermark) for p in done.predecessors] == [(0, 5)]


def test_every_silent_owner_is_succeeded_by_exactly_one_live_owner(world: World) -> None:
    """Three processes of a shard, killed one after the other, hand the symbols on."""
    for name in "abc":
        world.start(name, "0/1", "XY")
    for _ in range(3):
        world.run(15)
        owners = [name for name, claimant in world.alive.items() if claimant.live_epochs()]
        assert len(owners) == 1
        del world.alive[owners[0]]


def test_another_shards_owner_is_succeeded_when_it_has_logged_what_we_did_not_hear(world: World) -> None:
    """Not before its watermark reaches our first stamp; if that never happens, after a patience longer than a ping."""
    a = world.start("a", "0", "XY")
    world.run(2)
    a.want("")
    b = world.start("b", "1", "Y")
    b.prepared({})
    assert world.run(5) == []
    assert b.phase == "waiting"
    assert b.foreseen(world.now) == {"Y"}
    b.prepared({"Y": 1000 + int(world.now) + 3})
    assert world.run(2) == []
    assert kinds(world.run(3))[0] == ("b", "SendClaim")
    c = world.start("c", "2", "X")
    c.prepared({})
    assert {kind for _, kind in kinds(world.run(PATIENCE_S - 1))} == {"RepeatTakeover"}
    assert ("c", "SendClaim") in kinds(world.run(2))


def test_the_standby_leaves_what_the_plan_adds_to_the_live_process_of_its_shard(world: World) -> None:
    """Only if that one does not take it does the standby."""
    a = world.start("a", "0", "X")
    world.run(2)
    b = world.start("b", "0", "X")
    world.run(1)
    assert b.phase == "standby"
    assert b.foreseen(world.now) == frozenset()
    b.want("XY")
    assert world.run(3) == []
    a.want("XY")
    assert kinds(world.run(1)) == [("a", "SendClaim"), ("a", "TakeOver")]
    b.want("XYZ")
    assert {name for name, _ in world.run(DEFER_S - 1)} == {"a"}
    assert [kind for kind in kinds(world.run(2)) if kind[0] == "b"] == [("b", "SendClaim"), ("b", "TakeOver")]
    assert list(b.live_epochs().values()) == [frozenset("Z")]
    assert b.phase == "standby"


def test_a_silent_owner_is_foreseen_to_be_succeeded(world: World) -> None:
    """So that the log is read back while the five seconds pass; also how far that owner had logged is known."""
    world.start("a", "0", "X")
    world.run(2)
    b = world.start("b", "0", "X")
    world.run(3)
    assert b.foreseen(world.now) == frozenset()
    assert b.logged_until() == 1000 + int(world.now - 0.1)
    del world.alive["a"]
    world.run(SUSPECT_S + 1)
    assert b.foreseen(world.now) == {"X"}
    assert b.logged_until() > 0
    assert Claimant("0", "c", "Q").logged_until() == 0


def test_a_full_connection_lets_go_first(world: World) -> None:
    """Two full shards swap a symbol each: each gives its own up, and the successor knows where that was."""
    a, b = world.start("a", "0", "WX", 2), world.start("b", "1", "YZ", 2)
    world.run(3)
    a.want("WY")
    assert a.followed() == frozenset("WX")
    done = world.run(2)
    assert kinds(done) == [("a", "SendClaim"), ("a", "TakeOver"), ("a", "Yield"), ("a", "SendClaim"),
                           ("b", "KeepBuffer"), ("a", "TakeOver"), ("b", "Yield")]  # fmt: skip
    assert isinstance(done[1][1], TakeOver)
    assert (done[1][1].symbols, done[1][1].reconcile) == (("W",), False)
    assert done[2][1] == Yield(("X",), None)
    assert a.followed() == frozenset("WY")
    gone = world.now
    world.run(5)
    b.want("XZ")
    take_over = next(action for name, action in world.run(2) if name == "b" and isinstance(action, TakeOver))
    [before] = take_over.predecessors
    assert (before.symbols, before.shard) == (("X",), "0")
    assert before.watermark <= 1000 + gone - 1
    assert (a.phase, b.phase) == ("live", "live")


def test_nothing_is_subscribed_to_or_claimed_beyond_the_connections_room(world: World) -> None:
    """A plan that gives too much is followed as far as it goes; the last symbol given up ends the epoch at once."""
    a = world.start("a", "0", "XYZ", 2)
    world.run(1)
    assert a.live_epochs() == {0: frozenset("XY")}
    assert a.phase == "waiting"
    a.want("WZ")
    assert a.followed() == frozenset("XY")
    world.run(2)
    assert a.followed() == frozenset("WZ")
    assert set(a.held()) == set("WZ")


def test_a_claim_is_renewed_before_newcomers_cannot_find_it(world: World) -> None:
    """Own order, nothing to reconcile: what is older than some thousands of records is not read at a start."""
    a = world.start("a", "0", "X")
    world.run(1)
    for _ in range(RENEW_RECORDS):
        world.log.append(Preparing(10**9, "9", "nobody"))
    world.append(Preparing(10**9, "9", "nobody"))
    [(_, claim), (_, take_over)] = world.run(0.5)
    assert isinstance(claim, SendClaim)
    assert isinstance(take_over, TakeOver)
    assert (take_over.reconcile, set(a.live_epochs())) == (False, {take_over.epoch})


def test_a_standby_serves_what_was_to_be_handed_over_when_its_owner_dies_before(world: World) -> None:
    """The gaining shard has not heard everything yet: it leaves the symbol to the standby that has."""
    a0 = world.start("a0", "0", "XY")
    world.run(1)
    a1 = world.start("a1", "0", "XY")
    world.run(2)
    b = world.start("b", "1", "")
    for one, wanted in ((a0, "X"), (a1, "X"), (b, "Y")):
        one.want(wanted)
    b.prepared({"Y": 1000 + int(world.now) + 1})
    assert a1.followed() == frozenset("XY")
    del world.alive["a0"]
    done = [(name, kind) for name, kind in kinds(world.run(10)) if kind in ("SendClaim", "TakeOver", "Yield")]
    assert done == [("a1", "SendClaim"), ("a1", "TakeOver"), ("b", "SendClaim"), ("b", "TakeOver"), ("a1", "Yield")]
    assert (list(a1.live_epochs().values()), list(b.live_epochs().values())) == ([frozenset("X")], [frozenset("Y")])
    assert a1.followed() == frozenset("X")


def test_a_standby_forgets_what_was_handed_over(world: World) -> None:
    """Once the new owner is live there is nothing to stand by for."""
    a0 = world.start("a0", "0", "XY")
    world.run(1)
    a1, b = world.start("a1", "0", "XY"), world.start("b", "1", "")
    world.run(1)
    for one, wanted in ((a0, "X"), (a1, "X"), (b, "Y")):
        one.want(wanted)
    assert a1.followed() == frozenset("XY")
    world.run(2)
    assert (a1.followed(), b.phase) == (frozenset("X"), "live")
