"""Encodes slices of the market as WebSocket frames of Finnhub's JSON, by patching what was encoded before.

Rules of this file
- A `Template` is the text of one pattern for one choice of symbols: complete frames, with noughts where stamps and
  prices go. It is made once, with Python's own joins; from then on sending a slice costs a few numpy calls that write
  digits into the text, and one copy. No loop over trades.
- Digits are written as words: a table holds the texts of all numbers of 1, 2, 3 or 4 digits, and a view of the text as
  overlapping 1, 2 and 4 byte words at every byte takes them. Prices and stamps have a fixed number of digits.
- No two frames of a slice may be equal whatever the digits (`market.py` has the reason): frames whose symbols, sizes
  and conditions all agree are joined.

Pure: no socket, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

from marketfeed.domain.trades import Int64Array
from marketfeed.generator.market import CONDITION_SETS, Pages, Slice, mix
from marketfeed.generator.universe import Layout, Universe
from marketfeed.wire.websocket_frames import encode_text_frame

HEAD = b'{"data":['
TAIL = b'],"type":"trade"}'
_STAMP = b"0000000000000"
_VOLUME = b',"v":'

Positions = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class _Chunk:
    """A part of a number's digits: written `offset` bytes into it as one word from `table`."""

    offset: int
    divisor: int
    modulus: int
    table: npt.NDArray[np.unsignedinteger]


@cache
def _digits(width: int, ending: bytes = b"") -> npt.NDArray[np.unsignedinteger]:
    """The texts of 0 … 10^width - 1, padded with noughts and followed by `ending`, as words."""
    size = width + len(ending)
    text = b"".join(b"%0*d" % (width, number) + ending for number in range(10**width))
    return np.frombuffer(text, np.dtype(f"<u{size}"))


_STAMP_CHUNKS = (
    _Chunk(0, 10**12, 10, _digits(1)),
    _Chunk(1, 10**8, 10**4, _digits(4)),
    _Chunk(5, 10**4, 10**4, _digits(4)),
    _Chunk(9, 1, 10**4, _digits(4)),
)


@cache
def _price_chunks(layout: Layout) -> tuple[_Chunk, ...]:
    """How ticks become the digits of a layout; three digits before the point go with it as one word of four bytes."""
    chunks, unit = [], 10**layout.decimals
    end = layout.int_digits
    if layout.int_digits >= 3:
        end -= 3
        chunks.append(_Chunk(end, unit, 1000, _digits(3, b".")))
        unit *= 1000
    chunks += _plain_chunks(0, end, unit)
    chunks += _plain_chunks(layout.int_digits + 1, layout.decimals, 1)
    return tuple(chunks)


def _plain_chunks(offset: int, width: int, unit: int) -> list[_Chunk]:
    chunks = []
    while width:
        part = next(size for size in (4, 2, 1) if size <= width)
        width -= part
        chunks.append(_Chunk(offset + width, unit, 10**part, _digits(part)))
        unit *= 10**part
    return chunks


@dataclass(frozen=True, slots=True, eq=False)
class _Prices:
    """The prices of one layout in a template: which trades of it, and where in the text."""

    chunks: tuple[_Chunk, ...]
    trades: Positions
    at: Positions


class Template:
    """The frames of one pattern for the chosen trades.

    count         trades in it
    frame_starts  where each frame begins in the text, and the text's length as the last entry
    """

    __slots__ = ("_chosen", "_prices", "_stamps_at", "_text", "_words", "count", "frame_starts")

    def __init__(
        self,
        frames: Sequence[bytes],
        chosen: Positions | None,
        stamps_at: Positions,
        prices: tuple[_Prices, ...],
    ) -> None:
        self._text = bytearray(b"".join(frames))
        self._chosen = chosen
        self._stamps_at = stamps_at
        self._prices = prices
        self._words = {size: _word_view(self._text, size) for size in (1, 2, 4)}
        self.count = len(stamps_at)
        self.frame_starts = np.cumsum([0, *(len(frame) for frame in frames)]).tolist()

    def patch(self, made: Slice) -> bytes:
        """The frames with the stamps and prices of a slice of this pattern."""
        chosen = self._chosen
        stamps = made.stamp_ms if chosen is None else made.stamp_ms[chosen]
        ticks = made.price_ticks if chosen is None else made.price_ticks[chosen]
        for chunk in _STAMP_CHUNKS:
            self._write(self._stamps_at, chunk, stamps)
        for prices in self._prices:
            of_layout = ticks[prices.trades]
            for chunk in prices.chunks:
                self._write(prices.at, chunk, of_layout)
        return bytes(self._text)

    def _write(self, at: Positions, chunk: _Chunk, numbers: Int64Array) -> None:
        part = numbers // chunk.divisor if chunk.divisor > 1 else numbers
        self._words[chunk.table.itemsize][at + chunk.offset] = chunk.table[part % chunk.modulus]


def _word_view(text: bytearray, size: int) -> npt.NDArray[np.unsignedinteger]:
    """The text as words of `size` bytes, one beginning at every byte."""
    return np.ndarray((len(text) - size + 1,), np.dtype(f"<u{size}"), text, strides=(1,))


class Encoder:
    """Makes templates of a market's patterns."""

    def __init__(self, universe: Universe, pages: Pages, frame_trades: int) -> None:
        """`frame_trades`: mean number of trades in a frame."""
        self._universe = universe
        self._pages = pages
        self._frame_trades = frame_trades
        self._openings = [b'{"c":%s,"p":' % msgspec.json.encode(codes) for codes in CONDITION_SETS]
        self._middles = [
            universe.layouts[layout].placeholder + b',"s":' + msgspec.json.encode(name) + b',"t":' + _STAMP + _VOLUME
            for name, layout in zip(universe.symbols, universe.layout.tolist(), strict=True)
        ]
        self._opening_bytes = np.array([len(text) for text in self._openings])
        self._middle_bytes = np.array([len(text) for text in self._middles])

    def template(self, pattern: int, wanted: npt.NDArray[np.bool_] | None) -> Template | None:
        """The frames of a pattern for the symbols of a mask (None: all of the universe); None if no trade is left."""
        first = pattern * self._pages.per_slice
        symbol = self._pages.symbol[first : first + self._pages.per_slice]
        chosen = None
        if wanted is not None:
            mask = wanted[symbol]
            if not mask.all():
                chosen = np.flatnonzero(mask)
                symbol = symbol[chosen]
        if not len(symbol):
            return None
        at = slice(first, first + self._pages.per_slice) if chosen is None else first + chosen
        condition, size_units = self._pages.condition[at], self._pages.size_units[at]
        endings = self._endings(symbol, size_units)
        texts = [
            self._openings[c] + self._middles[s] + ending
            for c, s, ending in zip(condition.tolist(), symbol.tolist(), endings, strict=True)
        ]
        frames, in_frame = self._frames(texts, pattern)
        starts = _starts(texts, frames, in_frame)
        prices_at = starts + self._opening_bytes[condition]
        stamps_at = prices_at + self._middle_bytes[symbol] - len(_STAMP + _VOLUME)
        return Template(frames, chosen, stamps_at, self._prices(symbol, prices_at))

    def _prices(self, symbol: npt.NDArray[np.int32], at: Positions) -> tuple[_Prices, ...]:
        layout = self._universe.layout[symbol]
        grouped = []
        for number in np.unique(layout).tolist():
            trades = np.flatnonzero(layout == number)
            grouped.append(_Prices(_price_chunks(self._universe.layouts[number]), trades, at[trades]))
        return tuple(grouped)

    def _endings(self, symbol: npt.NDArray[np.int32], size_units: Int64Array) -> list[bytes]:
        scales = self._universe.size_scale[symbol].tolist()
        return [b"%s}" % size_text(units, scale) for units, scale in zip(size_units.tolist(), scales, strict=True)]

    def _frames(self, texts: list[bytes], pattern: int) -> tuple[list[bytes], list[int]]:
        """The trades in frames of varying length, and how many are in each."""
        edges, number = [0], 0
        while edges[-1] < len(texts):
            number += 1
            length = 1 + mix(pattern, number) % max(2 * self._frame_trades - 1, 1)
            edges.append(min(edges[-1] + length, len(texts)))
        payloads: list[bytes] = []
        lengths: list[int] = []
        seen: set[bytes] = set()
        for begin, end in pairwise(edges):
            body = b",".join(texts[begin:end])
            count = end - begin
            # The noughts are still in the text, so equal bodies are frames that could become equal: join, never repeat.
            while body in seen and payloads:
                body = payloads.pop() + b"," + body
                count += lengths.pop()
            seen.add(body)
            payloads.append(body)
            lengths.append(count)
        return [encode_text_frame(HEAD + body + TAIL) for body in payloads], lengths


def _starts(texts: list[bytes], frames: list[bytes], in_frame: list[int]) -> Positions:
    """Where each trade's text begins in the joined frames."""
    sizes = np.array([len(text) + 1 for text in texts])
    starts = np.cumsum(sizes) - sizes
    first_trade = np.cumsum([0, *in_frame[:-1]])
    frame_bytes = np.array([len(frame) for frame in frames])
    frame_starts = np.cumsum(frame_bytes) - frame_bytes
    bodies = np.add.reduceat(sizes, first_trade) - 1
    body_starts = frame_starts + frame_bytes - len(TAIL) - bodies
    moved = np.repeat(body_starts - starts[first_trade], in_frame)
    return np.asarray(starts + moved, np.intp)


def size_text(units: int, scale: int) -> bytes:
    """A size as JSON's shortest decimal: size_text(12300, 6) is b"0.0123"."""
    if scale == 0:
        return b"%d" % units
    whole, part = divmod(units, 10**scale)
    decimals = (b"%0*d" % (scale, part)).rstrip(b"0")
    return b"%d.%s" % (whole, decimals) if decimals else b"%d" % whole


def payload_of(frame: bytes) -> bytes:
    """The text inside one frame of ours."""
    size = frame[1]
    return frame[2 if size < 126 else 4 if size == 126 else 10 :]
