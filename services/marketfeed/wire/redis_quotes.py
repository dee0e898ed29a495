"""Quotes as hashes of the hot cache: `QuoteColumns` <-> text fields.

price event_ts size              the last trade; size 0 is a price update; size is absent while unknown
trade_date session               its trading day (YYYY-MM-DD) and session (pre | regular | post | closed)
day_open day_high day_low day_volume   that trading day so far; the volume is an exact decimal
previous_close                   of the trading day before; absent while unknown
partition offset index           the last trade's place in the log
received_ts append_ts            newest arrival at ingest and in the log of what was applied; all stamps Unix ns
resume                           what a writer needs beside these to go on, as JSON; not for readers
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np

from marketfeed.domain.bars import COLUMNS, DTYPES, BarColumns
from marketfeed.domain.decimals import from_decimal, to_decimal
from marketfeed.domain.quotes import DAY_S, QuoteColumns
from marketfeed.domain.sessions import SESSIONS, Calendar
from marketfeed.domain.trades import NANOS

_EPOCH_DAY = date(1970, 1, 1).toordinal()
Fields = dict[str, str | int | float]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[int, ...]).decode


class QuoteEncoder:
    """Encodes the quotes of one writer, and leaves out slow fields that it has encoded before.

    Half of a hash changes with every trade, the other half some times a day: what is not sent costs nothing.
    """

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self._slow: dict[int, tuple[object, ...]] = {}

    def encode(self, quotes: QuoteColumns, names: Sequence[str]) -> dict[str, Fields]:
        """The fields to write by symbol; `names` by symbol_id. Costs per quote."""
        day = quotes.day
        fast = zip(*(column.tolist() for column in _fast_columns(quotes)), strict=True)
        slow = zip(
            *(column.tolist() for column in _slow_columns(quotes, self._calendar)),
            *(column.tolist() for column in _resume_columns(quotes)),
            strict=True,
        )
        volumes = zip(day.volume.tolist(), day.size_scale.tolist(), strict=True)
        encoded: dict[str, Fields] = {}
        for symbol_id, row, more, volume in zip(quotes.symbol_id.tolist(), fast, slow, volumes, strict=True):
            fields: Fields = dict(zip(_FAST, row, strict=True))
            fields["day_volume"] = f"{to_decimal(*volume):f}"
            if self._slow.get(symbol_id) != more:
                self._slow[symbol_id] = more
                _add_slow(fields, more)
            if fields["size"] != fields["size"]:
                del fields["size"]
            encoded[names[symbol_id]] = fields
        return encoded


_FAST = ("price", "event_ts", "size", "offset", "index", "received_ts", "append_ts")
_SLOW = ("day_open", "day_high", "day_low", "partition", "previous_close", "session", "trade_date")


def _fast_columns(quotes: QuoteColumns) -> tuple[np.ndarray[Any, Any], ...]:
    day = quotes.day
    place = (day.close_offset, day.close_index)
    return (day.close, day.close_ts, quotes.size, *place, quotes.received_ts, quotes.append_ts)


def _slow_columns(quotes: QuoteColumns, calendar: Calendar) -> tuple[np.ndarray[Any, Any], ...]:
    day = quotes.day
    session = calendar.sessions(day.close_ts // NANOS)
    range_ = (day.open, day.high, day.low)
    # None in place of NaN, which would not equal itself the next time.
    previous_close = quotes.previous_close.astype(object)
    previous_close[np.isnan(quotes.previous_close)] = None
    return (*range_, quotes.partition, previous_close, session, quotes.trade_date)


def _resume_columns(quotes: QuoteColumns) -> tuple[np.ndarray[Any, Any], ...]:
    day = quotes.day
    before = (quotes.previous_date, quotes.previous_ts, quotes.previous_offset, quotes.previous_index)
    return (day.open_ts, day.open_offset, day.open_index, *before, day.price_scale)


def _add_slow(fields: Fields, row: tuple[Any, ...]) -> None:
    fields.update(zip(_SLOW, row, strict=False))  # what follows in the row is for `resume`
    fields["session"] = SESSIONS[row[_SLOW.index("session")]]
    fields["trade_date"] = date.fromordinal(_EPOCH_DAY + row[_SLOW.index("trade_date")]).isoformat()
    fields["resume"] = _encode(row[len(_SLOW) :]).decode()
    if fields["previous_close"] is None:
        del fields["previous_close"]


def decode_quotes(hashes: Mapping[str, Mapping[str, str]], ids: Mapping[str, int]) -> QuoteColumns:
    """The quotes that the hashes hold, by rising id. Raises ValueError or KeyError for hashes of another kind."""
    rows = sorted((ids[symbol], fields) for symbol, fields in hashes.items())
    bars: dict[str, list[object]] = {name: [] for name in COLUMNS}
    rest: dict[str, list[float]] = {}
    for symbol_id, fields in rows:
        open_ts, open_offset, open_index, date_, ts, offset, index, price_scale = _decode(fields["resume"])
        volume, size_scale = from_decimal(Decimal(fields["day_volume"]))
        row = dict.fromkeys(COLUMNS, 0) | {
            "symbol_id": symbol_id,
            "start_s": (date.fromisoformat(fields["trade_date"]).toordinal() - _EPOCH_DAY) * DAY_S,
            "open": float(fields["day_open"]),
            "high": float(fields["day_high"]),
            "low": float(fields["day_low"]),
            "close": float(fields["price"]),
            "open_ts": open_ts,
            "open_offset": open_offset,
            "open_index": open_index,
            "close_ts": int(fields["event_ts"]),
            "close_offset": int(fields["offset"]),
            "close_index": int(fields["index"]),
            "volume": volume,
            "size_scale": size_scale,
            "price_scale": price_scale,
        }
        for name, value in row.items():
            bars[name].append(value)
        more = {
            "size": float(fields.get("size", "nan")),
            "previous_close": float(fields.get("previous_close", "nan")),
            "previous_date": date_,
            "previous_ts": ts,
            "previous_offset": offset,
            "previous_index": index,
            **{name: int(fields[name]) for name in ("partition", "received_ts", "append_ts")},
        }
        for name, number in more.items():
            rest.setdefault(name, []).append(number)
    day = BarColumns(**{name: np.array(bars[name], DTYPES[name]) for name in COLUMNS})
    return _quotes(day, rest)


def _quotes(day: BarColumns, rest: Mapping[str, Sequence[float]]) -> QuoteColumns:
    def column(name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array(rest.get(name, ()), np.int64)

    return QuoteColumns(
        day=day,
        size=np.array(rest.get("size", ()), np.float64),
        previous_close=np.array(rest.get("previous_close", ()), np.float64),
        previous_date=column("previous_date"),
        previous_ts=column("previous_ts"),
        previous_offset=column("previous_offset"),
        previous_index=column("previous_index"),
        partition=column("partition"),
        received_ts=column("received_ts"),
        append_ts=column("append_ts"),
    )
