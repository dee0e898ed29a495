"""Finnhub's JSON frames -> columns.

Mechanism: frames are parsed by msgspec into typed structs that live for one chunk only, and each field of a chunk
leaves as one list comprehension. Small frames are joined to chunks of a few kilobytes, so that a frame of one trade
does not pay for a parser call of its own (1 trade a frame: 0.56 -> 1.2 M trades/s; 20 trades: 1.5 M either way).
Larger chunks are slower: the structs fall out of the processor's cache before they are read.

Rules of this file
- The fast path handles what is right. Whatever it refuses goes, frame by frame and then object by object, through the
  slow path, which keeps the good trades of a bad frame and reports the rest as `Rejected`.
- Nothing here grows with what a stranger sends: unknown symbols get no id, the dictionary of conditions starts anew
  when it is large, samples are cut.

It does not judge values (`domain/intake.py`), and does not look for repeats (`domain/repeats.py`).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from marketfeed.domain.trades import Conditions, Float64Array, Int64Array, UInt32Array

N = TypeVar("N", bound=np.generic)

# Id of a trade whose symbol was not asked for.
UNKNOWN_SYMBOL = -1
# So many refusals are kept apart until they are drained; more are only counted.
REJECTED_MAX = 1000
# A sample of something refused keeps this many bytes.
SAMPLE_BYTES = 512

_CHUNK_BYTES = 4096
_ALONE_BYTES = 1024
_CONDITION_SETS_MAX = 4096

# What the parser raises for bytes that are not what they should be; the last for brackets nested without end.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

# Trades are flat objects; conditions are a list of strings. Text with braces inside a string is refused, not guessed.
_FLAT_OBJECT = re.compile(rb"\{[^{}]*\}")
_BACK_TO_BACK = re.compile(rb"^[\s,\[\]]*$")


# There are 41 codes of one or two characters. Longer lists or texts are garbage, and would swell records without bound.
_Code = Annotated[str, msgspec.Meta(max_length=16)]
_Codes = Annotated[tuple[_Code, ...], msgspec.Meta(max_length=16)]


class _Trade(msgspec.Struct, gc=False):
    s: str
    p: float
    t: float  # milliseconds; a float holds them exactly, and no integer of a stranger can overflow it
    v: float
    c: _Codes | None = None


class _Frame(msgspec.Struct, gc=False):
    type: str
    data: list[_Trade] | None = None
    msg: str = ""


class _LooseFrame(msgspec.Struct, gc=False):
    type: str
    data: msgspec.Raw = msgspec.Raw(b"")


@dataclass(frozen=True, slots=True)
class Rejected:
    """What could not be read, `count` times.

    `reason` is a metric's label, `detail` the parser's word, `sample` how it starts.
    """

    reason: str
    detail: str
    sample: bytes
    count: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What the frames since the last drain held, trades in order of arrival as equally long arrays.

    symbol_id        int64, the id given by the caller; UNKNOWN_SYMBOL for others, whose names are `unknown` in order
    stamp_ms         float64, the vendor's stamp in Unix milliseconds as it came
    price, size      float64 as they came
    condition_index  uint32, position in `condition_sets`
    pings, errors    in-band messages: how many pings, the texts of errors
    """

    symbol_id: Int64Array
    stamp_ms: Float64Array
    price: Float64Array
    size: Float64Array
    condition_index: UInt32Array
    condition_sets: tuple[Conditions, ...]
    unknown: tuple[str, ...]
    pings: int
    errors: tuple[str, ...]
    rejected: tuple[Rejected, ...]

    def __len__(self) -> int:
        return len(self.price)


class _SymbolIds(dict[str, int]):
    """Symbol -> id; a name that is not there is noted, in order, and is UNKNOWN_SYMBOL."""

    __slots__ = ("unknown",)

    def __init__(self, ids: Mapping[str, int]) -> None:
        super().__init__(ids)
        self.unknown: list[str] = []

    def __missing__(self, name: str) -> int:
        self.unknown.append(name[:64])
        return UNKNOWN_SYMBOL


class _ConditionIds(dict[Conditions, int]):
    """Condition set -> position, given at first sight."""

    __slots__ = ()

    def __missing__(self, codes: Conditions) -> int:
        position = self[codes] = len(self)
        return position


class FrameDecoder:
    """Collects frames with `feed` and hands their trades out as columns with `drain`."""

    def __init__(self, symbol_ids: Mapping[str, int]) -> None:
        """`symbol_ids`: the symbols subscribed to, each with an id not below 0."""
        self._decode_one = msgspec.json.Decoder(_Frame).decode
        self._decode_many = msgspec.json.Decoder(list[_Frame]).decode
        self._decode_loose = msgspec.json.Decoder(_LooseFrame).decode
        self._decode_trade = msgspec.json.Decoder(_Trade).decode
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._symbols = _SymbolIds(symbol_ids)
        self._conditions = _ConditionIds()
        self._clear()

    def _clear(self) -> None:
        self._symbol_id: list[int] = []
        self._stamp_ms: list[float] = []
        self._price: list[float] = []
        self._size: list[float] = []
        self._condition: list[int] = []
        self._pings = 0
        self._errors: list[str] = []
        self._rejected: list[Rejected] = []
        self._rejected_more: dict[str, int] = {}
        # Bytes fed since the last drain: what the caller bounds a flush by.
        self.bytes_fed = 0

    def set_symbols(self, symbol_ids: Mapping[str, int]) -> None:
        """Replace the known symbols; frames fed before are read with the old ones."""
        self._decode_waiting()
        unknown = self._symbols.unknown
        self._symbols = _SymbolIds(symbol_ids)
        self._symbols.unknown = unknown

    def feed(self, frame: bytes) -> None:
        """Take one frame as it came. Never raises for what is in it."""
        size = len(frame)
        self.bytes_fed += size
        if size >= _ALONE_BYTES and not self._waiting:
            self._decode_frame(frame)
            return
        self._waiting.append(frame)
        self._waiting_bytes += size
        if self._waiting_bytes >= _CHUNK_BYTES:
            self._decode_waiting()

    def drain(self) -> Decoded:
        """Everything fed since the last call."""
        self._decode_waiting()
        decoded = Decoded(
            _column("q", self._symbol_id, np.int64),
            _column("d", self._stamp_ms, np.float64),
            _column("d", self._price, np.float64),
            _column("d", self._size, np.float64),
            _column("I", self._condition, np.uint32),
            tuple(self._conditions),
            tuple(self._symbols.unknown),
            self._pings,
            tuple(self._errors),
            (*self._rejected, *(Rejected(reason, "more", b"", n) for reason, n in self._rejected_more.items())),
        )
        self._clear()
        self._symbols.unknown.clear()
        if len(self._conditions) > _CONDITION_SETS_MAX:
            self._conditions.clear()
        return decoded

    def _decode_waiting(self) -> None:
        frames, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if len(frames) == 1:
            self._decode_frame(frames[0])
        elif frames:
            try:
                parsed = self._decode_many(b"[" + b",".join(frames) + b"]")
            except _UNREADABLE:
                parsed = []
            # A frame of several values, or none, would shift what belongs to whom; then each is read alone.
            if len(parsed) == len(frames):
                self._take([trade for frame in parsed for trade in self._trades_of(frame)])
            else:
                for frame in frames:
                    self._decode_frame(frame)

    def _decode_frame(self, frame: bytes) -> None:
        try:
            trades = self._trades_of(self._decode_one(frame))
        except _UNREADABLE as error:
            trades = self._salvage(frame, str(error))
        self._take(trades)

    def _trades_of(self, frame: _Frame) -> list[_Trade]:
        if frame.type == "trade":
            return frame.data or []
        if frame.type == "ping":
            self._pings += 1
        elif frame.type == "error":
            self._errors.append(frame.msg[:SAMPLE_BYTES])
        else:
            self._reject("unknown_type", f"type is {frame.type[:64]!r}", msgspec.json.encode(frame))
        return []

    def _take(self, trades: list[_Trade]) -> None:
        """The hot loop: one pass per column over structs that were made just now."""
        if not trades:
            return
        ids, conditions = self._symbols, self._conditions
        self._symbol_id += [ids[trade.s] for trade in trades]
        self._stamp_ms += [trade.t for trade in trades]
        self._price += [trade.p for trade in trades]
        self._size += [trade.v for trade in trades]
        self._condition += [conditions[trade.c] for trade in trades]

    def _salvage(self, frame: bytes, problem: str) -> list[_Trade]:
        """The readable trades of a frame that the parser refused as a whole; the rest is reported."""
        try:
            kind = self._decode_loose(frame).type
        except _UNREADABLE:
            # Not even JSON (NaN is not): go by its trades, if the frame does not name another type.
            named = re.search(rb'"type"\s*:\s*"(\w{0,64})"', frame)
            kind = named.group(1).decode() if named else "trade"
        if kind != "trade":
            self._reject("unknown_type" if kind not in ("ping", "error") else "malformed_frame", problem, frame)
            return []
        reported = self._rejections
        kept: list[_Trade] = []
        objects = _FLAT_OBJECT.findall(_inside(frame))
        for text in objects:
            try:
                kept.append(self._decode_trade(text))
            except _UNREADABLE as error:
                self._reject("malformed_trade", str(error), text)
        # The parser had a reason to refuse the frame; if no trade was it, the frame itself is.
        if self._rejections == reported or not _BACK_TO_BACK.match(_FLAT_OBJECT.sub(b"", _inside(frame))):
            self._reject("malformed_frame", problem, frame)
        return kept

    @property
    def _rejections(self) -> int:
        return len(self._rejected) + sum(self._rejected_more.values())

    def _reject(self, reason: str, detail: str, sample: bytes) -> None:
        if len(self._rejected) < REJECTED_MAX:
            self._rejected.append(Rejected(reason, detail, sample[:SAMPLE_BYTES]))
        else:
            self._rejected_more[reason] = self._rejected_more.get(reason, 0) + 1


def subscribe_message(symbol: str) -> bytes:
    """The message that subscribes to one symbol; the vendor never acknowledges it."""
    return msgspec.json.encode({"type": "subscribe", "symbol": symbol})


def unsubscribe_message(symbol: str) -> bytes:
    """The message that ends a subscription."""
    return msgspec.json.encode({"type": "unsubscribe", "symbol": symbol})


def _column(code: str, values: Sequence[float], dtype: type[N]) -> npt.NDArray[N]:
    """A list of numbers as a (read-only) array; packing costs a third of what numpy takes to look at each of them."""
    return np.frombuffer(struct.pack(f"={len(values)}{code}", *values), dtype)


def _inside(frame: bytes) -> bytes:
    """What stands between the brackets of `data`, as far as they are there."""
    start = frame.find(b"[")
    if start < 0:
        return b""
    end = frame.rfind(b"]")
    return frame[start + 1 : end if end > start else len(frame)]
