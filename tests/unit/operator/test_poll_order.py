"""Whom to ask next, in made-up time."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from marketfeed_operator.poll_order import PATIENCE, PAUSE_MAX_INTERVALS, PollOrder, Target

INTERVAL_S = 10.0
A, B, C = (Target(name, f"uid-{name}", "10.0.0.1") for name in "abc")


def asked_at(fails: range, rounds: int = 60) -> list[int]:
    """The rounds in which a pod is asked that does not answer in some of them."""
    order, found = PollOrder(INTERVAL_S), []
    for number in range(rounds):
        if order.due([A], number * INTERVAL_S):
            found.append(number)
            order.note(A, number not in fails, number * INTERVAL_S)
    return found


def test_a_pod_that_restarts_is_asked_each_time() -> None:
    """Two failures in a row are no reason to wait."""
    assert asked_at(range(5, 5 + PATIENCE)) == list(range(60))


def test_a_silent_pod_is_asked_less_and_less_often_up_to_a_cap() -> None:
    """The pauses double and then stay the same; the first answer ends them."""
    rounds = asked_at(range(1000))
    gaps = [later - earlier for earlier, later in itertools.pairwise(rounds)]
    assert gaps[:5] == [1, 1, 2, 4, 6]
    assert set(gaps[4:]) == {int(PAUSE_MAX_INTERVALS)}
    healed = asked_at(range(8))
    back = next(number for number in healed if number >= 8)
    assert back <= 8 + PAUSE_MAX_INTERVALS
    assert healed[healed.index(back) :] == list(range(back, 60))


def test_those_that_answer_come_first_and_then_who_waited_longest() -> None:
    """A round that ends early leaves out silent pods only, and not always the same."""
    order = PollOrder(INTERVAL_S)
    assert order.due([A, B, C], 0.0) == [A, B, C]
    order.note(A, False, 1.0)
    order.note(B, False, 0.5)
    order.note(C, True, 2.0)
    assert order.due([A, B, C], 10.0) == [C, B, A]


@given(st.lists(st.sets(st.sampled_from([A, B, C])), max_size=30))
def test_nothing_is_remembered_of_pods_that_are_gone(rounds: list[set[Target]]) -> None:
    """However pods come and go: each is asked at once when it is new, and memory holds only those that are there."""
    order, before = PollOrder(INTERVAL_S), set[Target]()
    for number, targets in enumerate(rounds):
        due = order.due(targets, number * INTERVAL_S)
        assert set(due) >= targets - before
        for target in due:
            order.note(target, False, number * INTERVAL_S)
        assert len(order._asked) == len(targets)
        before = targets
