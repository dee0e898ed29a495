"""What `marketfeed watch` says and counts."""

import msgspec
import pytest

from marketfeed.cli.watch import Tally, count, json_line, main, text_line
from marketfeed.client.stream import Reconnected, decode
from marketfeed.wire.websocket import (
    BarOut,
    Bars,
    Drain,
    GapOut,
    Heartbeat,
    QuoteOut,
    ResumedOut,
    ServerMessage,
    Stamps,
    StatusOut,
    TradesOut,
)

STAMPS = Stamps("1763900000173000000", None, None, "1763900000200000000")
QUOTE = QuoteOut("AAPL", 189.92, 50.0, "1763900000173000000", 27, None, 0, None, None, 1.0, "regular", STAMPS)
BARS = BarOut("AAPL", Bars([1763900000], [1.0], [2.0], [1.0], [2.0], [10.0], [3], [0], [0], [0]))
TRADES = TradesOut("AAPL", ["1763900000000000000"] * 2, [1.5, 2.5], [1.0, 7.0], None, 0, [3, 3], [0, 1], STAMPS)
GAP = GapOut("AAPL", "1763900001000000000", "1763900006000000000", "restart", 0)


def test_counts_and_the_longest_pause() -> None:
    """The pause runs from price to price, and at the end from the last price to the end."""
    tally = Tally(100.0)
    came = [
        (QUOTE, 101.5),
        (BARS, 102.0),
        (QUOTE, 102.0),
        (GAP, 103.0),
        (TRADES, 103.0),
        (Reconnected(1.0, "x"), 104.0),
    ]
    for message, now_s in came:
        count(tally, message, now_s)
    count(tally, Drain("restart", 10, "p"), 104.0)
    assert tally.summary(110.0) == {
        "type": "summary",
        "seconds": 10.0,
        "first_quote_s": 1.5,
        "longest_pause_s": 7.0,
        "quotes": 3,
        "trades": 2,
        "bars": 1,
        "gaps": 1,
        "drains": 1,
        "reconnects": 1,
    }


def test_a_line_of_json_is_the_message_that_came() -> None:
    """A program reads each line as a message of the protocol; heartbeats are left out."""
    line = json_line(QUOTE)
    assert line is not None
    assert decode(line) == QUOTE
    assert json_line(Heartbeat("1", None, 0, None)) is None
    assert msgspec.json.decode(json_line(Reconnected(1.25, "restart")) or "") == {
        "type": "reconnected",
        "away_s": 1.25,
        "reason": "restart",
    }


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (QUOTE, "AAPL             189.92 x 50  12:13:20  27 ms old"),
        (BARS, "AAPL             bar 12:13:20 close 2.0 volume 10.0"),
        (TRADES, "AAPL             2 trades, last 2.5 x 7  12:13:20"),
        (ResumedOut(2, False, {}, [], 50, "fast", "p"), "what was missed cannot be had: it begins anew"),
        (ResumedOut(2, True, {}, [], 50, "fast", "p"), None),
        (GAP, "AAPL             gap 12:13:21 to 12:13:26: restart"),
        (StatusOut("AAPL", "down", "trading", "1", ""), "AAPL             down, trading"),
        (Heartbeat("1", None, 0, None), None),
    ],
)
def test_lines_for_people(message: ServerMessage, said: str | None) -> None:
    """One short line with the time of day in UTC, or none."""
    assert text_line(message) == said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--symbols: names none"),
        (["--symbols", "A", "--channels", "x"], "'x' is none"),
        (["--symbols", "A", "--for", "x"], "30s"),
    ],
)
def test_wrong_arguments_are_told(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence, exit code 2."""
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
