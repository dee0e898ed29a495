"""Which quotes the latency probe counts."""

import msgspec
import pytest

from marketfeed.local.probe import HOPS, WHOLE, Hop, Samples, is_late_on_purpose
from marketfeed.wire.websocket import QuoteOut, Stamps

MS = 1_000_000


def quote(symbol: str, event_ms: int, size: float = 100.0) -> QuoteOut:
    """A quote of a trade stamped at `event_ms`."""
    stamp = str(event_ms * MS)
    stamps = {"event_ts": stamp, "received_ts": None, "logged_ts": None, "sent_ts": stamp}
    fields = {
        "symbol": symbol,
        "price": 1.0,
        "size": size,
        "event_ts": stamp,
        "age_ms": 0,
        "previous_price": None,
        "direction": 0,
    }
    rest = {"day": None, "previous_close": None, "trades_per_s": 1.0, "session": "regular", "stamps": stamps}
    return msgspec.convert({"type": "quote", **fields, **rest}, QuoteOut)


@pytest.mark.parametrize(("size", "late"), [(100.0, False), (13.0, True), (107.0, True), (0.0, False), (0.25, False)])
def test_the_generator_marks_what_it_sends_late(size: float, late: bool) -> None:
    """The last digit of a size tells."""
    assert is_late_on_purpose(size) is late


def test_only_news_after_the_warm_up_counts() -> None:
    """A quote repeated for another reason, one before the warm-up's end and one late on purpose are left out."""
    samples = Samples(warm_until_s=10.0)
    samples.take(quote("A", 1000), 1050 * MS, 9.0)
    samples.take(quote("A", 2000), 2060 * MS, 10.0)
    samples.take(quote("A", 2000), 2160 * MS, 10.1)
    samples.take(quote("B", 1990, size=17.0), 9000 * MS, 10.2)
    samples.take(quote("B", 2100), 2140 * MS, 10.3)
    found = samples.summary(clients=1, symbols=2)
    assert found.samples == 2
    assert found.hops[0] == Hop(WHOLE, 50.0, found.hops[0].p99_ms, 60.0)
    assert [hop.p50_ms for hop in found.hops[1:]] == [None] * len(HOPS)


def test_the_parts_of_the_way_add_up() -> None:
    """With all stamps there, each hop has its time."""
    samples = Samples(warm_until_s=0.0)
    one = quote("A", 1000)
    one.stamps = Stamps(str(1000 * MS), str(1003 * MS), str(1010 * MS), str(1040 * MS))
    samples.take(one, 1041 * MS, 1.0)
    whole, *parts = (hop.p50_ms for hop in samples.summary(1, 1).hops)
    assert whole == 41.0
    assert parts == [3.0, 7.0, 30.0, 1.0]


def test_nothing_seen_is_no_latency() -> None:
    """Without a sample there are no figures, not zeros."""
    assert Samples(0.0).summary(1, 1).hops[0].p99_ms is None
