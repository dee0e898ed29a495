"""Whether a symbol's last price is one to trade by. It fails closed: whatever is not known to be right is a refusal.

The age that matters is that of the watermark: up to there it is known that no trade is missing, so the last price of a
quiet symbol is as good as a busy one's. A known gap that no trade has followed may hide a newer price.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class NoPrice(enum.StrEnum):
    """Why there is none; part of the public API."""

    NO_TRADE = "NO_TRADE"
    HALTED = "HALTED"
    SESSION_CLOSED = "SESSION_CLOSED"
    STALE = "STALE"
    FEED_GAP = "FEED_GAP"


@dataclass(frozen=True, slots=True)
class PriceFacts:
    """What is known of a symbol. Stamps are Unix nanoseconds; None: there is none.

    source    live | stale | down
    trading   trading | halted | closed, as the feed says
    session   of the feed's calendar now: pre | regular | post | closed
    gap_to_ts end of the known gap that ends last
    """

    price: float | None
    event_ts: int | None
    watermark_ts: int | None
    source: str
    trading: str
    session: str
    gap_to_ts: int | None


def refusal(facts: PriceFacts, now_ns: int, max_age_ns: int) -> tuple[NoPrice, str] | None:
    """The first reason against the price, with a sentence; None if it may be used.

    >>> facts = PriceFacts(1.5, 900, 990, "live", "trading", "regular", None)
    >>> refusal(facts, 1000, 10) is None
    True
    >>> refusal(facts, 1001, 10)[0].value
    'STALE'
    """
    if facts.price is None or facts.event_ts is None:
        return NoPrice.NO_TRADE, "the symbol has never traded"
    if facts.trading == "halted":
        return NoPrice.HALTED, "trading is halted"
    if facts.session == "closed" or facts.trading == "closed":
        return NoPrice.SESSION_CLOSED, "the market is closed"
    if facts.source != "live" or facts.watermark_ts is None:
        return NoPrice.STALE, f"the source is {facts.source}"
    if now_ns - facts.watermark_ts > max_age_ns:
        age_ms = (now_ns - facts.watermark_ts) // 1_000_000
        return NoPrice.STALE, f"what is known of the symbol is {age_ms} ms old, allowed are {max_age_ns // 1_000_000}"
    if facts.gap_to_ts is not None and facts.event_ts <= facts.gap_to_ts:
        return NoPrice.FEED_GAP, "trades may be missing since the last one"
    return None
