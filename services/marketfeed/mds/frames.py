"""What clients are told of the live state, as messages and as encoded frames.

The frames of a turn are made from a few batches: `begin` takes the quotes and bars that changed and that somebody
watches out of the state in one go, so that each frame costs a slice of a list and its JSON.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

from marketfeed.domain.bars import CLOSED, BarColumns
from marketfeed.domain.conflation import ChangeLog
from marketfeed.domain.quotes import QuoteColumns
from marketfeed.domain.sessions import SESSIONS
from marketfeed.domain.tape import TapeGap
from marketfeed.domain.trades import NANOS
from marketfeed.mds.live import LiveState, SourceState
from marketfeed.mds.tape_frames import TapeFrames
from marketfeed.wire.websocket import (
    BarOut,
    Bars,
    Day,
    GapOut,
    Heartbeat,
    Quote,
    QuoteOut,
    Stamps,
    StatusOut,
    SymbolState,
    bars_of,
    encode,
)
from marketfeed.wire.websocket_frames import encode_text_frame

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Frames:
    """Messages about one live state. `begin` sets the stamp of everything made until the next call."""

    def __init__(self, state: LiveState) -> None:
        self.state = state
        self.log: ChangeLog = state.log
        self.tape = TapeFrames(state)
        self.now_s = 0.0
        self.now_ns = 0
        self.lag_ms = 0
        self._quotes: dict[int, Quote] = {}
        self._bars: dict[int, tuple[set[int], Bars]] = {}

    def begin(
        self, now_s: float, now_ns: int, watched: frozenset[int], bars_watched: frozenset[int], seen_before: int
    ) -> None:
        """A new turn: make ready what changed since version `seen_before` of the symbols that are watched."""
        self.now_s, self.now_ns = now_s, now_ns
        self.tape.begin(now_ns)
        self._quotes.clear()
        self._bars.clear()
        changes = self.log.since(seen_before)
        if ids := sorted(changes.quotes & watched):
            self._take_quotes(ids)
        if keys := sorted((i, start) for i in changes.bars.keys() & bars_watched for start in changes.bars[i]):
            self._take_bars(keys, changes.bars)

    def quote(self, symbol_id: int) -> Quote | None:
        """The newest quote of a symbol, None if it never traded."""
        if not self.state.has_quote(symbol_id):
            return None
        found = self._quotes.get(symbol_id)
        if found is None:
            self._take_quotes([symbol_id])
            found = self._quotes[symbol_id]
        return found

    def symbol_state(self, symbol_id: int) -> SymbolState:
        """Source and trading status of a symbol."""
        found = self.state.source(symbol_id, self.now_s, self.now_ns)
        return SymbolState(found.source, found.trading, str(found.since_ts), found.reason)

    def quote_frame(self, symbol_id: int) -> bytes:
        """The newest quote, empty if there is none."""
        quote = self.quote(symbol_id)
        if quote is None:
            return b""
        return encode_text_frame(encode(QuoteOut(*_FIELDS_OF_QUOTE(quote))))

    def bar_frame(self, symbol_id: int, starts: set[int], *, settled: bool = False) -> bytes:
        """The bars of these starts as they are now, only closed ones if settled; empty if there is none in memory."""
        ready = self._bars.get(symbol_id)
        if ready is not None and ready[0] == starts:
            bars = ready[1]
        else:
            ordered = np.array(sorted(starts), np.int64)
            bars = bars_of(self.state.bars(np.full(len(ordered), symbol_id, np.int64), ordered))
        return self._bars_frame(symbol_id, bars, "1s", settled=settled)

    def minute_frame(self, symbol_id: int, starts: set[int], *, settled: bool = False) -> bytes:
        """The same of one minute."""
        bars = bars_of(self.state.minutes.at(symbol_id, starts))
        return self._bars_frame(symbol_id, bars, "1m", settled=settled)

    def _bars_frame(self, symbol_id: int, bars: Bars, interval: str, *, settled: bool) -> bytes:
        if settled:
            bars = settled_of(bars)
        if not bars.start:
            return b""
        return encode_text_frame(encode(BarOut(self.state.symbols.name(symbol_id), bars, interval)))

    def news_frame(self, symbol_id: int, news: object) -> bytes:
        """A gap or a change of status."""
        symbol = self.state.symbols.name(symbol_id)
        message: msgspec.Struct
        match news:
            case TapeGap():
                message = GapOut(symbol, str(news.from_ts), str(news.to_ts), news.reason, news.dropped)
            case SourceState():
                message = StatusOut(symbol, news.source, news.trading, str(news.since_ts), news.reason)
            case _:
                raise AssertionError(f"no message for {news!r}")
        return encode_text_frame(encode(message))

    def heartbeat_frame(
        self, symbol_ids: frozenset[int], position: str | None = None, *, current: bool = True
    ) -> bytes:
        """The sign of life for a client with these symbols; the watermark only if it has had all that is known."""
        watermark = self.state.watermark(symbol_ids) if current else None
        newest = self.state.newest_stamps
        stamps = None if newest is None else self._stamps(*newest)
        mark = None if watermark is None else str(watermark)
        message = Heartbeat(str(self.now_ns), mark, self.lag_ms, stamps, position)
        return encode_text_frame(encode(message))

    def _stamps(self, event_ts: int, received_ts: int, append_ts: int) -> Stamps:
        return Stamps(
            str(event_ts),
            str(received_ts) if received_ts else None,
            str(append_ts) if append_ts else None,
            str(self.now_ns),
        )

    def _take_quotes(self, ids: list[int]) -> None:
        columns = self.state.quotes.take(np.array(ids, np.int64))
        for symbol_id, quote in zip(ids, self._made(columns), strict=True):
            self._quotes[symbol_id] = quote

    def _made(self, columns: QuoteColumns) -> list[Quote]:
        day, state = columns.day, self.state
        sessions = state.calendar.sessions(day.close_ts // NANOS).tolist()
        rows = zip(
            day.symbol_id.tolist(), day.close.tolist(), columns.size.tolist(), day.close_ts.tolist(),
            columns.trade_date.tolist(), day.open.tolist(), day.high.tolist(), day.low.tolist(),
            day.volume.tolist(), day.size_scale.tolist(), day.trades.tolist(), columns.previous_close.tolist(),
            columns.received_ts.tolist(), columns.append_ts.tolist(), sessions, strict=True,
        )  # fmt: skip
        made = []
        for i, close, size, event_ts, date, first, high, low, volume, scale, trades, before, rec, app, session in rows:
            previous, direction = state.price_before(i)
            made.append(
                Quote(
                    symbol=state.symbols.name(i),
                    price=close,
                    size=size if size == size else None,
                    event_ts=str(event_ts),
                    age_ms=(self.now_ns - event_ts) // 1_000_000,
                    previous_price=previous,
                    direction=direction,
                    day=Day(date_text(date), first, high, low, volume / 10**scale, trades),
                    previous_close=before if before == before else None,
                    trades_per_s=round(state.trades_per_s(i, self.now_s), 2),
                    session=SESSIONS[session],
                    stamps=self._stamps(event_ts, rec, app),
                )
            )
        return made

    def _take_bars(self, keys: list[tuple[int, int]], changed: dict[int, set[int]]) -> None:
        ids, starts = np.array([k[0] for k in keys], np.int64), np.array([k[1] for k in keys], np.int64)
        bars = self.state.bars(ids, starts)
        table = bars_of(bars)
        columns = {name: getattr(table, name) for name in Bars.__struct_fields__}
        edges = np.flatnonzero(np.diff(bars.symbol_id, prepend=-1, append=-1)) if len(bars) else np.empty(0, np.int64)
        for first, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            symbol_id = int(bars.symbol_id[first])
            part: dict[str, Any] = {name: column[first:stop] for name, column in columns.items()}
            self._bars[symbol_id] = (changed[symbol_id], Bars(**part))


_FIELDS_OF_QUOTE = attrgetter(*Quote.__struct_fields__)


@lru_cache(maxsize=64)
def date_text(days: int) -> str:
    """The ISO date of a number of days since 1970-01-01."""
    return (_EPOCH + timedelta(days=days)).date().isoformat()


def settled_of(bars: Bars) -> Bars:
    """Those that are closed."""
    if all(state >= CLOSED for state in bars.state):
        return bars
    rows = [row for row, state in enumerate(bars.state) if state >= CLOSED]
    return Bars(**{name: [getattr(bars, name)[row] for row in rows] for name in Bars.__struct_fields__})


def parts_of(bars: BarColumns, per_part: int) -> list[BarColumns]:
    """Bars cut into parts for a snapshot, the newest first, at least one."""
    stops = range(len(bars), 0, -per_part)
    return [bars.take(slice(max(0, stop - per_part), stop)) for stop in stops] or [bars]
