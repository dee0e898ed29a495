"""What a client has missed since its position: all of it, or nothing."""

from __future__ import annotations

from typing import Any

from marketfeed.domain.errors import Unavailable
from marketfeed.domain.position import Position
from marketfeed.mds import missed
from marketfeed.mds.missed import missed_since
from marketfeed.mds.recovery import Recovery

T0 = 1_790_000_000


class Away:
    """No store."""

    async def read_owners(self, feed: str, start: Any) -> Any:
        raise Unavailable("PostgreSQL", feed, "away")


class Unread:
    """A log that is not read."""

    async def close(self) -> None:
        return None


def recovery(market: Any) -> Recovery:
    return Recovery(market.hub, Away(), "feed", Unread)  # type: ignore[arg-type]  # nothing of it is called but close


async def test_what_the_ring_holds_is_found(market: Any) -> None:
    """The version of the change log belongs to the seconds."""
    market.log.own("A")
    market.log.trade("A", 1000, 1.0)
    found = await missed_since(market.hub, recovery(market), Position("topic", {0: 1}), lambda: ["A"])
    assert found is not None
    assert found.names == {"A"}
    assert (found.first_s, found.version) == ({0: T0 + 100}, market.hub.state.log.version)


async def test_what_the_ring_lets_go_of_meanwhile_is_not_found(market: Any, monkeypatch: Any) -> None:
    """Not even the part that is still there."""
    market.log.own("A")
    market.log.trade("A", 1, 1.0)

    def pushed_out(touched: Any) -> dict[int, int]:
        market.hub.state.tape.forget(0, 2)
        return {}

    monkeypatch.setattr(missed.Touched, "since", pushed_out)
    assert await missed_since(market.hub, recovery(market), Position("topic", {0: 1}), lambda: ["A"]) is None


async def test_what_lies_before_the_ring_needs_the_store(market: Any) -> None:
    """Without it there is no recovery."""
    market.log.own("A")
    market.log.trade("A", 1, 1.0)
    market.hub.state.tape.forget(0, 2)
    assert await missed_since(market.hub, recovery(market), Position("topic", {0: 1}), lambda: ["A"]) is None
