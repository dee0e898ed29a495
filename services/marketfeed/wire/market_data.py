"""Messages of `marketfeed.v1.MarketData`, made of what mds knows, and read back by the client.

The tape is the only large one: its columns go in and out as bytes, by a message with the same field numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from marketfeed.domain.bars import CLOSED, FINAL, OPEN, REVISED, BarColumns
from marketfeed.domain.tape import TapeGap, TapeTrades
from marketfeed.domain.trades import Float64Array, Int64Array
from marketfeed.wire.v1 import market_data_pb2 as pb
from marketfeed.wire.websocket import Quote, bars_of

INTERVALS: Mapping[int, str] = {
    pb.BAR_INTERVAL_1S: "1s",
    pb.BAR_INTERVAL_1M: "1m",
    pb.BAR_INTERVAL_1H: "1h",
    pb.BAR_INTERVAL_1D: "1d",
}
_SOURCES = {"live": pb.SOURCE_STATE_LIVE, "stale": pb.SOURCE_STATE_STALE, "down": pb.SOURCE_STATE_DOWN}
_TRADING = {
    "trading": pb.TRADING_STATE_TRADING,
    "halted": pb.TRADING_STATE_HALTED,
    "closed": pb.TRADING_STATE_CLOSED,
}
_STATES = {
    OPEN: pb.Bars.STATE_OPEN,
    CLOSED: pb.Bars.STATE_CLOSED,
    REVISED: pb.Bars.STATE_REVISED,
    FINAL: pb.Bars.STATE_FINAL,
}


def encode_tape(trades: TapeTrades, names: Sequence[str], position: str, sent_ts: int) -> bytes:
    """A `StreamTradesResponse` with these trades; `names` by symbol id."""
    ids, symbol_index = np.unique(trades.symbol_id, return_inverse=True)
    newest = int(np.argmax(trades.event_ts))
    stamps = pb.Stamps(
        event_ts=int(trades.event_ts[newest]),
        received_ts=trades.received_ts,
        logged_ts=trades.append_ts,
        sent_ts=sent_ts,
    )
    tape = pb.PackedTape(
        symbols=[names[i] for i in ids.tolist()],
        symbol_index=symbol_index.astype("<u4").tobytes(),
        event_ts=trades.event_ts.astype("<i8", copy=False).tobytes(),
        price=trades.price.astype("<f8", copy=False).tobytes(),
        size=trades.size.astype("<f8", copy=False).tobytes(),
        partition=trades.partition,
        offset=trades.offset.astype("<i8", copy=False).tobytes(),
        index=trades.index.astype("<u4").tobytes(),
        condition_index=trades.condition_index.astype("<u4", copy=False).tobytes(),
        condition_sets=[",".join(codes or ()) for codes in trades.condition_sets],
        stamps=stamps,
        position=position,
        oldest_logged_ts=trades.oldest_append_ts,
    )
    return pb.PackedTapeResponse(tape=tape).SerializeToString()


@dataclass(frozen=True, slots=True, eq=False)
class TapeBatch:
    """Trades of one partition in the log's order, as a client gets them. Columns are equally long.

    symbols           dictionary that `symbol_index` (uint32) points into
    event_ts          int64, Unix ns
    price, size       float64; size 0 is a price update, which is no trade
    offset, index     int64; with `partition` the identity of a trade
    conditions        dictionary of codes that `condition_index` (uint32) points into
    received_ts, logged_ts, sent_ts   stamps of the newest trade, Unix ns
    oldest_logged_ts  none of the trades was logged before it
    position          where to resume: all of this has been had
    """

    partition: int
    symbols: tuple[str, ...]
    symbol_index: np.ndarray[tuple[int], np.dtype[np.uint32]]
    event_ts: Int64Array
    price: Float64Array
    size: Float64Array
    offset: Int64Array
    index: Int64Array
    conditions: tuple[tuple[str, ...], ...]
    condition_index: np.ndarray[tuple[int], np.dtype[np.uint32]]
    received_ts: int
    logged_ts: int
    sent_ts: int
    oldest_logged_ts: int
    position: str

    def __len__(self) -> int:
        return len(self.event_ts)


def decode_tape(data: bytes) -> TapeBatch:
    """The trades of a serialized `StreamTradesResponse` that holds a tape. Raises ValueError for unequal columns."""
    tape = pb.PackedTapeResponse.FromString(data).tape
    batch = TapeBatch(
        partition=tape.partition,
        symbols=tuple(tape.symbols),
        symbol_index=np.frombuffer(tape.symbol_index, "<u4"),
        event_ts=np.frombuffer(tape.event_ts, "<i8"),
        price=np.frombuffer(tape.price, "<f8"),
        size=np.frombuffer(tape.size, "<f8"),
        offset=np.frombuffer(tape.offset, "<i8"),
        index=np.frombuffer(tape.index, "<u4").astype(np.int64),
        conditions=tuple(tuple(codes.split(",")) if codes else () for codes in tape.condition_sets),
        condition_index=np.frombuffer(tape.condition_index, "<u4"),
        received_ts=tape.stamps.received_ts,
        logged_ts=tape.stamps.logged_ts,
        sent_ts=tape.stamps.sent_ts,
        oldest_logged_ts=tape.oldest_logged_ts,
        position=tape.position,
    )
    columns = (batch.symbol_index, batch.price, batch.size, batch.offset, batch.index, batch.condition_index)
    if any(len(column) != len(batch) for column in columns):
        raise ValueError("a tape whose columns are not equally long")
    return batch


def quote_message(quote: Quote, sent_ts: int) -> pb.Quote:
    """A quote as of `sent_ts`."""
    stamps, day = quote.stamps, quote.day
    event_ts = int(quote.event_ts)
    return pb.Quote(
        symbol=quote.symbol,
        price=quote.price,
        size=quote.size,
        event_ts=event_ts,
        age_ms=(sent_ts - event_ts) // 1_000_000,
        day=None
        if day is None
        else pb.TradeDay(
            date=day.date, open=day.open, high=day.high, low=day.low, volume=day.volume, trades=day.trades
        ),
        previous_close=quote.previous_close,
        session=quote.session,
        stamps=pb.Stamps(
            event_ts=event_ts,
            received_ts=int(stamps.received_ts or 0),
            logged_ts=int(stamps.logged_ts or 0),
            sent_ts=sent_ts,
        ),
    )


def state_message(symbol: str, source: str, trading: str, since_ts: int, reason: str) -> pb.SymbolState:
    """Where a symbol stands."""
    return pb.SymbolState(
        symbol=symbol, source=_SOURCES[source], trading=_TRADING[trading], since_ts=since_ts, reason=reason
    )


def gap_message(gap: TapeGap, symbols: Sequence[str]) -> pb.GapNotice:
    """A gap, as far as it touches `symbols`."""
    return pb.GapNotice(
        symbols=symbols, from_ts=gap.from_ts, to_ts=gap.to_ts, reason=gap.reason, dropped=max(0, gap.dropped)
    )


def bars_message(symbol: str, interval: int, bars: BarColumns, filled: Sequence[int] | None = None) -> pb.Bars:
    """Bars of one symbol, sorted by start."""
    table = bars_of(bars)
    vwap = bars.vwap()
    vwap = np.where(np.isnan(vwap), bars.close, vwap)
    return pb.Bars(
        symbol=symbol,
        interval=interval,  # type: ignore[arg-type]  # a number of the enum
        start=table.start,
        open=table.open,
        high=table.high,
        low=table.low,
        close=table.close,
        volume=table.volume,
        vwap=vwap.tolist(),
        trades=table.trades,
        state=[_STATES[state] for state in table.state],
        revision=table.revision,
        incomplete=[bool(flag) for flag in table.incomplete],
        filled=[] if filled is None else [bool(flag) for flag in filled],
    )
