"""Bytes of the log's records <-> the values of `domain/log.py`.

A record's value is one protobuf message of `protos/marketfeed/v1/log.proto`; the header "kind" says which. Trades go
through `PackedTradeBatch`, whose fields have the numbers of `TradeBatch` but are `bytes`: packed little-endian columns
are then mapped by numpy with no loop over trades (any other language reads them as an ordinary `TradeBatch`).

What is decoded has been checked: columns are equally long, indices lie within their dictionaries, prices and sizes are
finite. Anything else is a `MalformedRecord`; bytes from the log never crash a reader. A dictionary that names a symbol
twice is accepted, as nothing depends on it. Decoded columns are read-only views into the record's bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from marketfeed.domain.errors import MalformedRecord
from marketfeed.domain.log import (
    Alive,
    Body,
    Cancel,
    Claim,
    Correction,
    Gap,
    Preparing,
    Status,
    Takeover,
    TradesRecord,
    Watermark,
)
from marketfeed.domain.trades import Conditions, TradeColumns
from marketfeed.wire.v1 import log_pb2 as pb

KIND_HEADER = "kind"
FEED_HEADER = "feed"
SHARD_HEADER = "shard"
TRACEPARENT_HEADER = "traceparent"

TRADE_BYTES = 32
"""Bytes of one trade's columns in a record; dictionaries and framing come on top."""

_INT64_MAX = (1 << 63) - 1
_U32 = np.dtype("<u4")
_I64 = np.dtype("<i8")
_F64 = np.dtype("<f8")


def encode_body(body: Body) -> tuple[str, bytes]:
    """The header `kind` and the value of a record. Raises ValueError for a trades record without trades."""
    kind, encode = _ENCODERS[type(body)]
    return kind, encode(body)


def decode_body(kind: str, value: bytes, partition: int = -1, offset: int = -1) -> Body:
    """What a record says; raises MalformedRecord (with the place given) when it cannot be read or makes no sense."""
    decode = _DECODERS.get(kind)
    if decode is None:
        raise MalformedRecord(partition, offset, f"unknown kind {kind[:40]!r}")
    try:
        return decode(value)
    except DecodeError as error:
        raise MalformedRecord(partition, offset, f"{kind}: not a protobuf message") from error
    except ValueError as error:
        raise MalformedRecord(partition, offset, f"{kind}: {error}") from error


def _encode_trades(record: TradesRecord) -> bytes:
    trades = record.trades
    if not len(trades):
        raise ValueError("a trades record holds at least one trade")
    message = pb.PackedTradeBatch(
        symbols=trades.symbols,
        symbol_index=trades.symbol_index.astype(_U32, copy=False).tobytes(),
        event_ts=trades.event_ts.astype(_I64, copy=False).tobytes(),
        price=trades.price.astype(_F64, copy=False).tobytes(),
        size=trades.size.astype(_F64, copy=False).tobytes(),
        condition_index=trades.condition_index.astype(_U32, copy=False).tobytes(),
        condition_sets=[_condition_set(codes) for codes in trades.condition_sets],
        epoch=record.epoch,
        first_seq=record.first_seq,
        received_ts=record.received_ts,
    )
    return message.SerializeToString()


def _condition_set(codes: Conditions) -> pb.ConditionSet:
    return pb.ConditionSet(absent=True) if codes is None else pb.ConditionSet(codes=codes)


def _decode_trades(value: bytes) -> TradesRecord:
    message = pb.PackedTradeBatch.FromString(value)
    event_ts_bytes = message.event_ts
    count, rest = divmod(len(event_ts_bytes), 8)
    if rest or not count:
        raise ValueError(f"{len(event_ts_bytes)} bytes of event_ts")
    symbols = tuple(message.symbols)
    sets: tuple[Conditions, ...] = tuple(None if s.absent else tuple(s.codes) for s in message.condition_sets)
    trades = TradeColumns(
        symbols,
        _column("symbol_index", message.symbol_index, _U32, count),
        np.frombuffer(event_ts_bytes, _I64),
        _column("price", message.price, _F64, count),
        _column("size", message.size, _F64, count),
        sets,
        _column("condition_index", message.condition_index, _U32, count),
    )
    _check_trades(trades)
    epoch, first_seq = _int64("epoch", message.epoch), _int64("first_seq", message.first_seq)
    _int64("last seq", first_seq + count)
    return TradesRecord(epoch, first_seq, message.received_ts, trades)


def _column(name: str, data: bytes, dtype: np.dtype[Any], count: int) -> np.ndarray[Any, Any]:
    if len(data) != count * dtype.itemsize:
        raise ValueError(f"{len(data)} bytes of {name} for {count} trades")
    return np.frombuffer(data, dtype)


def _check_trades(trades: TradeColumns) -> None:
    """Raises ValueError unless indices lie within their dictionaries, prices are finite and sizes finite and >= 0."""
    if int(trades.symbol_index.max()) >= len(trades.symbols):
        raise ValueError("symbol_index beyond the dictionary")
    if int(trades.condition_index.max()) >= len(trades.condition_sets):
        raise ValueError("condition_index beyond the dictionary")
    # A maximum or minimum of a column with a NaN is NaN, which no comparison lets pass.
    if not (trades.price.max() < np.inf and trades.price.min() > -np.inf):
        raise ValueError("a price is not finite")
    if not (trades.size.max() < np.inf and trades.size.min() >= 0):
        raise ValueError("a size is negative or not finite")
    if int(trades.event_ts.min()) <= 0:
        raise ValueError("an event_ts is not positive")


def _int64(name: str, value: int) -> int:
    if value > _INT64_MAX:
        raise ValueError(f"{name} {value} does not fit 63 bits")
    return value


def _decode_takeover(value: bytes) -> Takeover:
    message = pb.Takeover.FromString(value)
    return Takeover(_int64("epoch", message.epoch), tuple(message.symbols))


def _decode_watermark(value: bytes) -> Watermark:
    message = pb.Watermark.FromString(value)
    return Watermark(tuple(_int64("epoch", e) for e in message.epochs), message.event_ts)


def _decode_gap(value: bytes) -> Gap:
    message = pb.Gap.FromString(value)
    dropped = _int64("dropped", message.dropped)
    return Gap(tuple(message.symbols), message.from_ts, message.to_ts, message.reason, dropped)


def _decode_status(value: bytes) -> Status:
    message = pb.Status.FromString(value)
    return Status(tuple(message.symbols), message.status, message.event_ts, message.reason)


def _decode_correction(value: bytes) -> Correction:
    message = pb.Correction.FromString(value)
    if not (np.isfinite(message.price) and 0 <= message.size < np.inf):
        raise ValueError("a price or size is not finite")
    epoch, seq = _int64("epoch", message.epoch), _int64("seq", message.seq)
    return Correction(epoch, seq, message.symbol, message.event_ts, message.price, message.size)


def _decode_cancel(value: bytes) -> Cancel:
    message = pb.Cancel.FromString(value)
    return Cancel(_int64("epoch", message.epoch), _int64("seq", message.seq), message.symbol)


def _decode_claim(value: bytes) -> Claim:
    message = pb.Claim.FromString(value)
    return Claim(message.shard, message.instance, tuple(message.symbols), message.held_from_ts)


def _decode_preparing(value: bytes) -> Preparing:
    message = pb.Preparing.FromString(value)
    return Preparing(_int64("epoch", message.epoch), message.shard, message.instance)


def _decode_alive(value: bytes) -> Alive:
    m = pb.Alive.FromString(value)
    epochs = tuple(_int64("epoch", e) for e in m.epochs)
    return Alive(epochs, m.shard, m.instance, m.watermark, m.lateness_ns)


def _fields_to(message: type[Any], *names: str) -> Callable[[Any], bytes]:
    """An encoder for a value whose fields have the names of the message's fields."""

    def encode(body: Any) -> bytes:
        encoded: bytes = message(**{name: getattr(body, name) for name in names}).SerializeToString()
        return encoded

    return encode


_ENCODERS: dict[type[Any], tuple[str, Callable[[Any], bytes]]] = {
    TradesRecord: ("trades", _encode_trades),
    Takeover: ("takeover", _fields_to(pb.Takeover, "epoch", "symbols")),
    Watermark: ("watermark", _fields_to(pb.Watermark, "epochs", "event_ts")),
    Gap: ("gap", _fields_to(pb.Gap, "symbols", "from_ts", "to_ts", "reason", "dropped")),
    Status: ("status", _fields_to(pb.Status, "symbols", "status", "event_ts", "reason")),
    Correction: ("correction", _fields_to(pb.Correction, "epoch", "seq", "symbol", "event_ts", "price", "size")),
    Cancel: ("cancel", _fields_to(pb.Cancel, "epoch", "seq", "symbol")),
    Claim: ("claim", _fields_to(pb.Claim, "shard", "instance", "symbols", "held_from_ts")),
    Preparing: ("preparing", _fields_to(pb.Preparing, "epoch", "shard", "instance")),
    Alive: ("alive", _fields_to(pb.Alive, "epochs", "shard", "instance", "watermark", "lateness_ns")),
}

_DECODERS: dict[str, Callable[[bytes], Body]] = {
    "trades": _decode_trades,
    "takeover": _decode_takeover,
    "watermark": _decode_watermark,
    "gap": _decode_gap,
    "status": _decode_status,
    "correction": _decode_correction,
    "cancel": _decode_cancel,
    "claim": _decode_claim,
    "preparing": _decode_preparing,
    "alive": _decode_alive,
}
