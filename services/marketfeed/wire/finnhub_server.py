"""Finnhub's stream as its server speaks it: what programs written for it send, and what they expect.

One frame carries trades of one symbol: programs must take frames of many trades anyway, and so the bytes can be shared.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from marketfeed.domain.tape_cut import SymbolTape
from marketfeed.wire.websocket_frames import encode_text_frame

# Texts that programs for Finnhub know.
TOO_MANY_SYMBOLS = "Subscribing to too many symbols"
NO_ACCESS = "You don't have access to this resource."
INVALID_MESSAGE = "Invalid message"

PING_FRAME = encode_text_frame(b'{"type":"ping"}')
_NANOS_PER_MS = 1_000_000


class Order(msgspec.Struct):
    """What a client asks for; news and press releases have types of their own, which are none of ours."""

    type: Literal["subscribe", "unsubscribe"]
    symbol: str


class _Trade(msgspec.Struct, gc=False):
    c: tuple[str, ...] | None
    p: float
    s: str
    t: int
    v: float


class _Frame(msgspec.Struct):
    data: list[_Trade]
    type: str = "trade"


_decoder = msgspec.json.Decoder(Order)
_encoder = msgspec.json.Encoder()


def decode_order(message: str | bytes) -> Order | None:
    """What a message asks for; None for anything else."""
    try:
        return _decoder.decode(message)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def trade_frame(symbol: str, tape: SymbolTape) -> bytes:
    """These trades as one frame; stamps are cut to milliseconds, as Finnhub's are."""
    count = len(tape)
    stamps_ms = [ts // _NANOS_PER_MS for ts in tape.event_ts]
    columns = (tape.conditions or [None] * count, tape.price, [symbol] * count, stamps_ms, tape.size)
    return encode_text_frame(_encoder.encode(_Frame(list(map(_Trade, *columns)))))


def error_frame(text: str) -> bytes:
    """Something that cannot be had; the connection goes on."""
    return encode_text_frame(_encoder.encode({"msg": text, "type": "error"}))
