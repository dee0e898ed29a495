"""`marketfeed watch`: a client of `/v1/stream` on the terminal, or for programs as one JSON message a line.

A summary ends it, so that a script can tell a stream that flowed from one that stood still: how much came, how often
the connection was lost, and the longest time without a quote.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from marketfeed.client.stream import Reconnected, Stream
from marketfeed.domain.client_messages import CHANNELS
from marketfeed.domain.errors import ClientError, MarketfeedError, SettingError
from marketfeed.domain.trades import NANOS
from marketfeed.runtime.settings import parse_duration
from marketfeed.wire.websocket import (
    BarOut,
    Drain,
    ErrorOut,
    GapOut,
    Heartbeat,
    Quote,
    QuoteOut,
    ResumedOut,
    ServerMessage,
    Snapshot,
    StatusOut,
    SubscribedOut,
    TradesOut,
    encode,
)

TOKEN_VARIABLE = "MARKETFEED_CLIENT_TOKEN"
DEFAULT_URL = "ws://127.0.0.1:8080/v1/stream"
_EXAMPLES = """\
examples:
  marketfeed watch --symbols AAPL                     its price, until Ctrl-C
  marketfeed watch --symbols AAPL,MSFT --for 2s       exit code 0 if a price came within that time
  marketfeed watch --symbols AAPL --channels quotes,bars_1s --format json    every message as it came

exit codes: 0 at least one price came, 1 none did or the server is away, 2 an argument is wrong or the server refuses
"""

Write = Callable[[str], object]


@dataclass(slots=True)
class Tally:
    """What has come so far. Instants are monotonic seconds; a pause runs from quote to quote and to the end."""

    started_s: float
    first_quote_s: float | None = None
    last_quote_s: float | None = None
    longest_pause_s: float = 0.0
    quotes: int = 0
    trades: int = 0
    bars: int = 0
    gaps: int = 0
    drains: int = 0
    reconnects: int = 0

    def quote_at(self, now_s: float) -> None:
        """A price came."""
        self._pause_until(now_s)
        self.first_quote_s = now_s if self.first_quote_s is None else self.first_quote_s
        self.last_quote_s = now_s
        self.quotes += 1

    def _pause_until(self, now_s: float) -> None:
        if self.last_quote_s is not None:
            self.longest_pause_s = max(self.longest_pause_s, now_s - self.last_quote_s)

    def summary(self, now_s: float) -> dict[str, object]:
        """The last line of a watch."""
        self._pause_until(now_s)
        first = None if self.first_quote_s is None else round(self.first_quote_s - self.started_s, 3)
        return {
            "type": "summary",
            "seconds": round(now_s - self.started_s, 3),
            "first_quote_s": first,
            "longest_pause_s": round(self.longest_pause_s, 3),
            "quotes": self.quotes,
            "trades": self.trades,
            "bars": self.bars,
            "gaps": self.gaps,
            "drains": self.drains,
            "reconnects": self.reconnects,
        }


def count(tally: Tally, message: ServerMessage | Reconnected, now_s: float) -> None:
    """Add a message to the tally. A snapshot's quote is a price that came, and so are trades."""
    match message:
        case QuoteOut():
            tally.quote_at(now_s)
        case Snapshot(quote=Quote()):
            tally.quote_at(now_s)
        case TradesOut():
            tally.quote_at(now_s)
            tally.trades += len(message.price)
        case BarOut():
            tally.bars += len(message.bars.start)
        case GapOut():
            tally.gaps += 1
        case Drain():
            tally.drains += 1
        case Reconnected():
            tally.reconnects += 1


def json_line(message: ServerMessage | Reconnected) -> str | None:
    """A message as one line; None for heartbeats, which say nothing to who reads lines."""
    if isinstance(message, Reconnected):
        body = {"type": "reconnected", "away_s": round(message.away_s, 3), "reason": message.reason}
        return msgspec.json.encode(body).decode()
    return None if isinstance(message, Heartbeat) else encode(message).decode()


def text_line(message: ServerMessage | Reconnected) -> str | None:
    """What a person wants to know of a message; None for what they do not."""
    match message:
        case Snapshot(quote=Quote() as quote):
            return _quote_line(quote)
        case QuoteOut():
            return _quote_line(message)
        case BarOut():
            bars = message.bars
            return f"{message.symbol:<16} bar {_clock(bars.start[-1])} close {bars.close[-1]} volume {bars.volume[-1]}"
        case TradesOut():
            last = f"{message.price[-1]} x {message.size[-1]:g}  {_clock(int(message.event_ts[-1]) // NANOS)}"
            return f"{message.symbol:<16} {len(message.price)} trades, last {last}"
        case ResumedOut(recovered=False):
            return "what was missed cannot be had: it begins anew"
        case GapOut():
            span = f"{_clock(int(message.from_ts) // NANOS)} to {_clock(int(message.to_ts) // NANOS)}"
            return f"{message.symbol:<16} gap {span}: {message.reason}"
        case StatusOut():
            return f"{message.symbol:<16} {message.source}, {message.trading} {message.reason}".rstrip()
        case SubscribedOut():
            odd = [f"{symbol} ({state.status})" for symbol, state in message.symbols.items() if state.status != "ok"]
            return f"not subscribed to {', '.join(odd)}" if odd else None
        case Drain():
            return f"the server restarts ({message.reason}), back in {message.reconnect_after_ms} ms"
        case ErrorOut():
            return f"the server says: {message.message}"
        case Reconnected():
            return f"connected again after {message.away_s:.1f} s: {message.reason}"
        case _:
            return None


def _quote_line(quote: Quote) -> str:
    size = "" if quote.size is None else f" x {quote.size:g}"
    return f"{quote.symbol:<16} {quote.price}{size}  {_clock(int(quote.event_ts) // NANOS)}  {quote.age_ms} ms old"


def _clock(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%H:%M:%S")


async def watch(
    stream: Stream,
    write: Write,
    line_of: Callable[[ServerMessage | Reconnected], str | None],
    quotes_max: int,
    duration_s: float | None,
    tally: Tally,
) -> None:
    """Write messages until time or count are over. Raises ClientError when the server refuses for good."""
    try:
        async with asyncio.timeout(duration_s):
            async for message in stream.messages():
                count(tally, message, time.monotonic())
                if (line := line_of(message)) is not None:
                    write(line + "\n")
                if isinstance(message, ErrorOut):
                    raise ClientError(message.code, message.message, fatal=True)
                if quotes_max and tally.quotes >= quotes_max:
                    return
    except TimeoutError:
        return


def main(argv: Sequence[str] | None = None) -> int:
    """`marketfeed watch`."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        stream, duration_s = _stream(options), parse_duration(options.duration)
        tally = Tally(time.monotonic())
        with asyncio.Runner() as runner:
            runner.run(_until_told(watch(stream, _write, _LINES[options.form], options.count, duration_s, tally)))
    except MarketfeedError as error:
        sys.stderr.write(f"marketfeed watch: {error}\n")
        return 2 if isinstance(error, SettingError | ClientError) else 1
    summary = tally.summary(time.monotonic())
    _write(msgspec.json.encode(summary).decode() + "\n" if options.form == "json" else _summary_line(summary))
    return 0 if tally.quotes else 1


async def _until_told(work: Coroutine[None, None, None]) -> None:
    """Run `work` until it ends or the process is told to; either way the summary follows."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await work
    except asyncio.CancelledError:
        task.uncancel()


_LINES = {"json": json_line, "text": text_line}


def _write(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()


def _summary_line(summary: dict[str, object]) -> str:
    if not summary["quotes"]:
        return f"no price came in {summary['seconds']} s\n"
    return (
        f"{summary['quotes']} prices in {summary['seconds']} s, the first after {summary['first_quote_s']} s, "
        f"longest pause {summary['longest_pause_s']} s, {summary['gaps']} gaps, {summary['reconnects']} reconnects\n"
    )


def _stream(options: argparse.Namespace) -> Stream:
    symbols, channels = _names(options.symbols), _names(options.channels)
    if not symbols:
        raise SettingError("--symbols", "names none; give some, such as AAPL,MSFT")
    if odd := [channel for channel in channels if channel not in CHANNELS]:
        raise SettingError("--channels", f"{odd[0]!r} is none; there are {', '.join(CHANNELS)}")
    return Stream(
        options.url, symbols, channels=channels, token=os.environ.get(TOKEN_VARIABLE) or None, on_lost=_Complaint()
    )


class _Complaint:
    """Says on stderr that there is no connection, once for each reason in a row."""

    def __init__(self) -> None:
        self._said = ""

    def __call__(self, problem: str) -> None:
        if problem != self._said:
            self._said = problem
            sys.stderr.write(f"marketfeed watch: {problem}; trying again\n")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="marketfeed watch",
        description="Show live prices of a running mds, as its clients get them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--url", default=DEFAULT_URL, metavar="URL", help=f"the stream (default {DEFAULT_URL})")
    parser.add_argument("--symbols", default="", metavar="A,B,…", help="what to watch")
    parser.add_argument(
        "--channels", default="quotes", metavar="A,B,…", help=f"what of it: {', '.join(CHANNELS)} (default quotes)"
    )
    parser.add_argument(
        "--for", dest="duration", default="", metavar="TIME", help="end after 2s, 5m, 1h (default: never)"
    )
    parser.add_argument("--count", type=int, default=0, metavar="N", help="end after so many prices (never)")
    parser.add_argument("--format", dest="form", default="text", choices=sorted(_LINES), help="(default text)")
    parser.epilog = f"{_EXAMPLES}\nA server that asks for a token gets the one in {TOKEN_VARIABLE}.\n"
    return parser
