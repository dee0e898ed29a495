"""The HTTP side: symbols, quote, bars, configuration. Parameters in, JSON out; docs/openapi.yaml is its description.

An answer is (HTTP status, body). A refusal is `{"error": {"code", "message"}}` with a sentence that says what to do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import msgspec

from marketfeed.domain.access import Denial, Principal
from marketfeed.domain.bars import BarColumns
from marketfeed.domain.client_messages import BARS, QUOTES
from marketfeed.domain.errors import ClientError, Unavailable
from marketfeed.domain.rollup import INTERVALS
from marketfeed.domain.sessions import Calendar
from marketfeed.domain.trades import NANOS
from marketfeed.mds import metrics
from marketfeed.mds.history import LIMIT_MAX, Archive, filled_span
from marketfeed.mds.hub import Hub
from marketfeed.wire.bars_json import BarsJson
from marketfeed.wire.websocket import (
    BarsAnswer,
    ConfigAnswer,
    DaySpan,
    ErrorAnswer,
    ErrorBody,
    HistoryBars,
    ListedSymbol,
    SessionSpan,
    SymbolList,
    encode,
    history_bars_of,
)

LIMIT_DEFAULT = 50_000
SECONDS_MAX = 2**40
# Rows made into JSON before the clients of the stream get their turn: two milliseconds or three.
ROWS_AT_ONCE = 1_000

Answer = tuple[int, bytes]
Query = Mapping[str, str]

# HTTP status of each error code; everything else is the client's mistake.
_STATUS = {"unknown_symbol": 404, "no_quote": 404, "unavailable": 503, "starting": 503} | {
    denial.value: 403 if denial in (Denial.FORBIDDEN, Denial.FORBIDDEN_ORIGIN) else 401 for denial in Denial
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """Answers requests about one feed."""

    hub: Hub
    archive: Archive
    calendar: Calendar
    feed: str
    version: str
    orders_url: str | None = None

    async def answer(
        self, endpoint: Callable[[Query, Principal], Awaitable[msgspec.Struct]], query: Query, principal: Principal
    ) -> Answer:
        """The endpoint's answer for somebody, or its refusal."""
        try:
            if not self.hub.serving:
                raise ClientError("starting", "the server is waiting for the log; try again in a second")
            return 200, encode(await endpoint(query, principal))
        except ClientError as error:
            return refusal(error.code, error.message)
        except Unavailable as error:
            return refusal("unavailable", f"{error.what} is away; try again, or ask for interval=1s")

    async def symbols(self, query: Query, principal: Principal) -> SymbolList:
        """All symbols that one may see, or those of them that contain `q`; at most `limit`."""
        wanted, limit = query.get("q", "").upper(), _number(query, "limit", 10_000, 1, 10_000)
        self.hub.refresh()
        frames, listed = self.hub.frames, []
        for symbol_id, name in self.hub.state.known_symbols():
            if wanted in name.upper() and principal.may_see(name):
                quote = frames.quote(symbol_id)
                source = frames.symbol_state(symbol_id).source
                listed.append(
                    ListedSymbol(name, quote.price if quote else None, quote.event_ts if quote else None, source)
                )
                if len(listed) == limit:
                    break
        return SymbolList(self.feed, listed)

    async def quote(self, query: Query, principal: Principal) -> msgspec.Struct:
        """The quote of `symbol`."""
        symbol = self._symbol(query, principal, QUOTES)
        self.hub.refresh()
        quote = self.hub.frames.quote(self.hub.state.symbols.id(symbol))
        if quote is None:
            raise ClientError("no_quote", f"{symbol} has not traded yet")
        return quote

    async def bars(self, query: Query, principal: Principal) -> BarsAnswer:
        """Bars of `symbol` that start in [from, to)."""
        symbol = self._symbol(query, principal, BARS)
        interval = _choice(query, "interval", "1s", tuple(INTERVALS))
        fill = _choice(query, "fill", "none", ("none", "prev"))
        limit = _number(query, "limit", LIMIT_DEFAULT, 1, LIMIT_MAX)
        state = self.hub.state
        event_ts = state.last_trade_ts(state.symbols.id(symbol)) or time.time_ns()
        day_s = self.calendar.day(self.calendar.trade_date(event_ts))[0]
        from_s = _number(query, "from", day_s, 0, SECONDS_MAX, " (Unix seconds)")
        to_s = _number(query, "to", max(from_s, event_ts // NANOS + 1), from_s, SECONDS_MAX, " (Unix seconds)")
        span = await self.archive.span(symbol, interval, from_s, to_s, limit)
        bars, filled, next_from_s = span.bars, None, span.next_from_s
        if fill == "prev":
            bars, filled, next_from_s = filled_span(state, span, interval, to_s, limit)
        position = state.position.text()
        rows = await _rows(bars, filled)
        return BarsAnswer(
            symbol=symbol,
            interval=interval,
            from_=from_s,
            to=to_s,
            fill=fill,
            source=span.source,
            position=position,
            incomplete=span.incomplete,
            next_from=next_from_s,
            bars=rows,  # type: ignore[arg-type]  # the JSON of HistoryBars
        )

    async def config(self, query: Query, _: Principal) -> ConfigAnswer:
        """The feed, its calendar, and the sessions of `date` (by default of the newest trade)."""
        day = self._date(query)
        from_s, to_s = self.calendar.day(day)
        return ConfigAnswer(
            feed=self.feed,
            version=self.version,
            calendar=self.calendar.name,
            trade_date=day.isoformat(),
            day=DaySpan(from_s, to_s),
            sessions=[SessionSpan(h.session, h.start_s, h.end_s) for h in self.calendar.hours(day)],
            server_ts=str(time.time_ns()),
            orders_url=self.orders_url,
        )

    def _date(self, query: Query) -> date:
        text = query.get("date")
        if text is None:
            newest = self.hub.state.newest_stamps
            return self.calendar.trade_date(newest[0] if newest else time.time_ns())
        try:
            return date.fromisoformat(text)
        except ValueError:
            raise ClientError("bad_request", f"date is {text!r}; write it as 2025-11-24") from None

    def _symbol(self, query: Query, principal: Principal, channel: str) -> str:
        symbol = query.get("symbol")
        if not symbol:
            raise ClientError("bad_request", "symbol is missing; /v1/symbols lists them")
        if not principal.may_subscribe(symbol, channel):
            raise ClientError(Denial.FORBIDDEN, f"your token does not grant {channel} of {symbol[:64]}")
        if self.hub.state.known_id(symbol) is None:
            raise ClientError("unknown_symbol", f"the feed does not carry {symbol[:64]}; see /v1/symbols")
        return symbol


def refusal(code: str, message: str) -> Answer:
    """The answer for an error."""
    metrics.REFUSED.labels(code).inc()
    return _STATUS.get(code, 400), encode(ErrorAnswer(ErrorBody(code, message)))


async def _rows(bars: BarColumns, filled: Sequence[int] | None) -> msgspec.Raw:
    """The JSON of bars as HistoryBars; gives way to the loop every `ROWS_AT_ONCE` rows."""
    made = BarsJson(HistoryBars)
    for first in range(0, len(bars), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        made.add(history_bars_of(bars.take(rows), None if filled is None else filled[rows]))
        await asyncio.sleep(0)
    return made.raw()


def _number(query: Query, name: str, default: int, lowest: int, highest: int, unit: str = "") -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise ClientError("bad_request", f"{name} is {text[:32]!r}; it must be a whole number{unit}")
    if not lowest <= int(text) <= highest:
        raise ClientError("bad_request", f"{name} is {text}; it must be between {lowest} and {highest}{unit}")
    return int(text)


def _choice(query: Query, name: str, default: str, choices: tuple[str, ...]) -> str:
    found = query.get(name, default)
    if found not in choices:
        raise ClientError("bad_request", f"{name} is {found[:32]!r}; it must be one of {', '.join(choices)}")
    return found
