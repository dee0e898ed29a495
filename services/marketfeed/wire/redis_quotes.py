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

import msgspec
import numpy as np

from marketfeed.domain.bars import COLUMNS, DTYPES, BarColumns
from marketfeed.domain.decimals import from_decimal, to_decimal
from marketfeed.domain.quotes import DAY_S, NO_DAY, QuoteColumns
from marketfeed.domain.sessions import SESSIONS, Calendar
from marketfeed.domain.trades import NANOS, Int64Array

_EPOCH_DAY = date(1970, 1, 1).toordinal()
Fields = dict[str, str | int | float]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[int, ...]).decode


def encode_quotes(quotes: QuoteColumns, names: Sequence[str], calendar: Calendar) -> dict[str, Fields]:
    """Fields by symbol; `names` by symbol_id. Costs per quote."""
    day = quotes.day
    session = calendar.sessions(day.close_ts // NANOS).tolist()
    dates = quotes.trade_date.astype("datetime64[D]").astype(str).tolist()
    scales = zip(day.price_scale.tolist(), day.size_scale.tolist(), strict=True)
    resume = zip(
        *(column.tolist() for column in (day.open_ts, day.open_offset, day.open_index)),
        *(getattr(quotes, f"previous_{name}").tolist() for name in ("date", "ts", "offset", "index")),
        strict=True,
    )
    plain = {
        "price": day.close,
        "event_ts": day.close_ts,
        "day_open": day.open,
        "day_high": day.high,
        "day_low": day.low,
        "partition": quotes.partition,
        "offset": day.close_offset,
        "index": day.close_index,
        "received_ts": quotes.received_ts,
        "append_ts": quotes.append_ts,
    }
    rows = zip(*(column.tolist() for column in plain.values()), strict=True)
    sizes, closes = quotes.size.tolist(), quotes.previous_close.tolist()
    encoded: dict[str, Fields] = {}
    for place, (symbol_id, row, scale, more) in enumerate(
        zip(quotes.symbol_id.tolist(), rows, scales, resume, strict=True)
    ):
        fields: Fields = dict(zip(plain, row, strict=True))
        fields["trade_date"] = dates[place]
        fields["session"] = SESSIONS[session[place]]
        fields["day_volume"] = f"{to_decimal(day.volume[place], scale[1]):f}"
        fields["resume"] = _encode((*more, scale[0])).decode()
        if sizes[place] == sizes[place]:  # not NaN
            fields["size"] = sizes[place]
        if closes[place] == closes[place]:
            fields["previous_close"] = closes[place]
        encoded[names[symbol_id]] = fields
    return encoded


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


def quotes_of_days(day: BarColumns, previous: Mapping[int, tuple[int, float]], partition: Int64Array) -> QuoteColumns:
    """Quotes made of stored day bars (start_s = trade_date * 86400) and (date, close) of the days before, by id."""
    known = [previous.get(symbol_id) for symbol_id in day.symbol_id.tolist()]
    count = len(day)
    rest: dict[str, list[float]] = {
        "size": [float("nan")] * count,
        "previous_close": [float("nan") if k is None else k[1] for k in known],
        "previous_date": [NO_DAY if k is None else k[0] for k in known],
        **{name: [0] * count for name in ("previous_ts", "previous_offset", "previous_index")},
        "partition": partition.tolist(),
        **{name: [0] * count for name in ("received_ts", "append_ts")},
    }
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
