"""What is known of other processes."""

from __future__ import annotations

from marketfeed.domain.claim_actions import Predecessor
from marketfeed.domain.heard import QUIET_S, Heard
from marketfeed.domain.log import Alive, Claim, Preparing


def alive(instance: str, shard: str, *epochs: int, watermark: int = 5) -> Alive:
    return Alive(epochs, shard, instance, watermark, 7)


def covered(heard: Heard, symbols: str, now_s: float, within_s: float | None = None) -> list[tuple[str, set[str]]]:
    return [(epoch.instance, names) for epoch, names in heard.covers(symbols, now_s, within_s)]


def test_an_epoch_covers_what_it_claims_until_it_is_silent_or_succeeded() -> None:
    """Signs are the claim, preparing and alive; a higher live epoch ends what a lower one says of a symbol."""
    heard = Heard("0")
    assert not heard.knows("XYZ")
    heard.claim(3, Claim("0", "a", ("X", "Y")), 10.0)
    assert covered(heard, "XYZ", 10.0 + QUIET_S - 0.1) == [("a", {"X", "Y"})]
    assert covered(heard, "XYZ", 10.0 + QUIET_S) == []
    heard.preparing(Preparing(3, "0", "a"), 14.0)
    assert heard.fresh(3, 18.9)
    assert heard.alive(alive("a", "0", 3), 15.0) == [3]
    assert heard.alive(alive("a", "0", 3), 16.0) == []
    assert (heard.knows("XY"), heard.knows("Z")) == (True, False)
    heard.claim(8, Claim("1", "b", ("Y",)), 16.0)
    assert heard.alive(alive("b", "1", 8), 16.0) == [8]
    assert covered(heard, "XY", 16.5) == [("a", {"X"}), ("b", {"Y"})]
    assert covered(heard, "XY", 17.5, 1.0) == []
    heard.pause(10.0, 27.0)
    assert covered(heard, "XY", 27.0) == [("a", {"X"}), ("b", {"Y"})]
    assert (heard.shard_of(8), heard.eldest_mate(27.0)) == ("1", 3)
    heard.alive(alive("a", "0"), 28.0)
    assert heard.eldest_mate(28.0) is None


def test_predecessors_are_the_last_that_were_live_for_a_symbol() -> None:
    """With what their last sign said; of an epoch whose claim is gone only our own shard's are taken to be ours."""
    heard = Heard("0")
    heard.claim(3, Claim("0", "a", ("X", "Y")), 1.0)
    heard.alive(alive("a", "0", 3, watermark=50), 2.0)
    assert heard.predecessors("XZ") == (Predecessor(3, ("X",), 50, 7, "0"),)
    assert heard.last_live("XZ") == {"X": 3}
    assert (heard.logged_until("XY"), heard.logged_until("XZ")) == (50, 0)
    heard.alive(alive("c", "1", 4), 2.0)
    assert heard.predecessors("Z") == ()
    heard.alive(alive("d", "0", 5, watermark=40), 2.0)
    assert heard.predecessors("Z") == (Predecessor(5, ("Z",), 40, 7, "0"),)
    assert heard.last_live("XZ") is None
    assert covered(heard, "Z", 2.5) == [("d", {"Z"})]


def test_epochs_that_were_succeeded_do_not_pile_up() -> None:
    """An owner that claims its own anew for days leaves one epoch behind, not thousands."""
    heard = Heard("0")
    for epoch in range(100):
        heard.claim(epoch, Claim("0", "a", ("X",)), 1.0)
        heard.alive(alive("a", "0", epoch), 1.0)
    assert len(heard._epochs) <= 2


def test_what_a_dead_candidate_contested_counts_only_up_to_its_claim() -> None:
    """Until the owner claims again, or a successor is live, nobody may listen to what it logs of these symbols."""
    heard = Heard("0")
    heard.claim(3, Claim("1", "a", ("X", "Y")), 1.0)
    heard.alive(alive("a", "1", 3, watermark=50), 2.0)
    heard.claim(7, Claim("2", "b", ("Y",)), 3.0)
    heard.alive(alive("a", "1", 3, watermark=80), 4.0)
    assert heard.predecessors("XY") == (Predecessor(3, ("Y",), 50, 7, "1"), Predecessor(3, ("X",), 80, 7, "1"))
    heard.claim(9, Claim("1", "a", ("Y",)), 9.0)
    heard.alive(alive("a", "1", 3, 9, watermark=90), 10.0)
    assert heard.predecessors("Y") == (Predecessor(9, ("Y",), 90, 7, "1"),)


def test_a_candidate_that_was_never_live_is_a_predecessor_from_the_stamp_of_its_claim() -> None:
    """Of several the lowest stamp; claims of older versions name none; who goes live takes their place."""
    heard = Heard("0")
    heard.claim(3, Claim("0", "a", ("X", "Y"), 70), 1.0)
    heard.claim(4, Claim("1", "b", ("Y",), 60), 2.0)
    heard.claim(5, Claim("0", "c", ("X", "Z"), 80), 2.0)
    heard.claim(6, Claim("0", "d", ("Z", "W")), 2.0)
    assert heard.predecessors("XYZW") == (
        Predecessor(3, ("X",), 70, 0, "0", live=False),
        Predecessor(4, ("Y",), 60, 0, "1", live=False),
        Predecessor(5, ("Z",), 80, 0, "0", live=False),
    )
    assert heard.logged_until("XY") == 0
    heard.alive(alive("a", "0", 3, watermark=90), 3.0)
    heard.claim(9, Claim("0", "e", ("X",), 10), 4.0)
    assert heard.predecessors("X") == (Predecessor(3, ("X",), 90, 7, "0"),)
    assert (heard.logged_until("XY"), heard.logged_until("XZ")) == (90, 0)


def test_an_owner_whose_claim_is_gone_may_never_have_had_what_a_candidate_claimed() -> None:
    """So the gap begins at the lower of its watermark and the candidate's stamp."""
    heard = Heard("0")
    heard.alive(alive("d", "0", 5, watermark=40), 2.0)
    heard.claim(7, Claim("0", "a", ("X",), 30), 3.0)
    heard.claim(8, Claim("0", "b", ("Y",), 50), 3.0)
    assert heard.predecessors("XY") == (Predecessor(5, ("X",), 30, 7, "0"), Predecessor(5, ("Y",), 40, 7, "0"))
