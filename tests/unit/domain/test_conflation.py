"""What clients have not seen yet, against the plain model: a queue per client, newest state wins."""

from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain.conflation import ChangeLog, Changes, Receipt

symbol = st.integers(0, 3)
change = st.tuples(
    st.just("change"), st.frozensets(symbol), st.dictionaries(symbol, st.frozensets(st.integers(0, 5), min_size=1))
)
look = st.tuples(st.just("look"), st.integers(0, 2))
step = st.one_of(change, look, st.just(("forget",)))


@given(st.lists(step, max_size=40))
@settings(max_examples=40)
def test_every_client_gets_every_change_once_whatever_its_pace(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    """Three clients that look at different times each get exactly what changed since their own last look."""
    log = ChangeLog()
    seen = [0, 0, 0]
    news = 0
    news_seen = [0, 0, 0]
    quotes: list[set[int]] = [set(), set(), set()]
    bars: list[set[tuple[int, int]]] = [set(), set(), set()]
    for taken in steps:
        if taken[0] == "change":
            news += 1
            log.note(Changes(set(taken[1]), {k: set(v) for k, v in taken[2].items()}, [(0, news)]))
            for client in range(3):
                quotes[client] |= taken[1]
                bars[client] |= {(k, start) for k, starts in taken[2].items() for start in starts}
        elif taken[0] == "look":
            client = taken[1]
            changes = log.since(seen[client])
            assert changes.quotes == quotes[client]
            assert {(k, start) for k, starts in changes.bars.items() for start in starts} == bars[client]
            assert changes.news == [(0, n) for n in range(news_seen[client] + 1, news + 1)]
            assert bool(changes) == (news > news_seen[client])
            seen[client], news_seen[client] = log.version, news
            quotes[client], bars[client] = set(), set()
        else:
            log.forget(min(seen))
            assert len(log) == log.version - min(seen)


def test_clients_in_step_share_one_answer() -> None:
    """The union is made once per version, so a thousand clients in step cost one."""
    log = ChangeLog()
    log.note(Changes({1}, {1: {10}}))
    assert log.since(0) is log.since(0)
    assert log.since(log.version).quotes == set()


def test_a_receipt_counts_what_was_merged_and_how_old_it_became() -> None:
    """Skipped turns add up, the oldest one gives the age; taking it starts anew; an empty turn is no loss."""
    receipt = Receipt()
    receipt.skip(0, 1.0)
    assert receipt.take(1.5) is None
    receipt.skip(3, 2.0)
    receipt.skip(2, 2.5)
    assert receipt.take(3.25) == (5, 1250)
    assert receipt.take(4.0) is None
