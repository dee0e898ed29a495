"""The scenario that every server of the serving benches plays: conflated keyed fan-out.

A feeder gives each of 40 symbols two trades every 5 ms (16,000 trades a second). Each client follows one symbol, or ten
that are drawn for it. Once a turn a server sends every client the newest quote of its symbols, so that most trades are
never sent: at turns of 50 ms 19 of 20. A delivery is one quote that one client has received. Its latency is the time at
which the client's program has the bytes, minus the feeder's stamp on the newest trade in the quote.
"""

from __future__ import annotations

import os
import re
import resource
import sys
from pathlib import Path

import msgspec

from marketfeed.wire.websocket import Day, QuoteOut, Stamps, encode

ROOT = Path(__file__).parents[3]
SYMBOLS = 40
NAMES = tuple(f"S{number:04}" for number in range(SYMBOLS))
FEED_MS = 5
TRADES_PER_BEAT = 2
MARK = b'"type":"quote"'
QUOTE = re.compile(rb'"type":"quote","symbol":"(S\d+)","price":[^,]+,"size":[^,]+,"event_ts":"(\d{19})"')
# Open files that a process needs beside its connections.
SPARE_FILES = 100

_SYMBOL, _PRICE, _EVENT, _SENT = "SYMBOL", "123.456789", "1" * 19, "2" * 19


def quote_template() -> str:
    """The quote as marketfeed writes it, with SYMBOL, PRICE, EVENT_TS and SENT_TS to be put in: what peers send."""
    stamps = Stamps(_EVENT, _EVENT, _EVENT, _SENT)
    quote = QuoteOut(
        symbol=_SYMBOL, price=float(_PRICE), size=1.0, event_ts=_EVENT, age_ms=12, previous_price=101.01, direction=1,
        day=Day("2026-11-26", 100.01, 104.87, 99.5, 123456.0, 123456), previous_close=100.0, trades_per_s=400.0,
        session="regular", stamps=stamps,
    )  # fmt: skip
    text = encode(quote).decode()
    assert msgspec.json.decode(text)["type"] == "quote"
    return text.replace(_PRICE, "PRICE").replace(_EVENT, "EVENT_TS").replace(_SENT, "SENT_TS")


def allow_files(clients: int) -> None:
    """Let this process and its children open a socket for each client. Raises RuntimeError if that is forbidden."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = clients + SPARE_FILES
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise RuntimeError(
            f"{clients} clients need {needed} open files in one process, and `ulimit -Hn` allows {hard}: raise it"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def cores() -> tuple[int | None, int | None]:
    """The cores of server and clients, so that neither takes the other's; None where it cannot be chosen."""
    if sys.platform != "linux":
        return None, None
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[1]) if len(allowed) > 1 else (None, None)
