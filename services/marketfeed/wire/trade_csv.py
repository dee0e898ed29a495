"""Trades as CSV: the documented format of files (`docs/history-csv.md`), read as columns.

    symbol,event_ts,price,size,conditions
    AAPL,1741615800000,187.43,100,@|T

Mechanism: separators of a whole block of lines are found by comparing bytes, and each column is decoded for all lines
at once (`byte_fields`). A line of unusual form (quotes, an exponent, another time zone, more digits, a wrong number of
fields) is left out of that and read by itself, by the standard library; it gives a trade or the reason why not.

Both ways give the same trade: a price or size is the float that Python reads in its text.
It does not sort, and does not know which symbols are wanted.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime
from io import StringIO
from typing import Any

import numpy as np
import numpy.typing as npt

from marketfeed.domain.decimals import POWERS
from marketfeed.domain.errors import MarketfeedError
from marketfeed.domain.intake import Limits
from marketfeed.domain.trades import NANOS, BoolArray, Conditions, Int64Array, TradeColumns
from marketfeed.wire.byte_fields import FIELD_BYTES_MAX, PAD, Bytes, FieldIds, Words, digits, padded

REQUIRED = ("symbol", "event_ts", "price", "size")
CONDITIONS = "conditions"
# A stamp of 0 is a missing one; the year 2200 bounds what can be meant.
STAMP_MAX = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp()) * NANOS
AnyArray = npt.NDArray[Any]
_LIMITS = Limits()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COMMA, _NEWLINE, _RETURN, _QUOTE, _DOT, _DASH, _Z = b',\n\r".-Z'
_TIME_MASK = np.uint64(int.from_bytes(b"00:00:00", "little"))
_COLONS = np.uint64(int.from_bytes(b"\0\0\xff\0\0\xff\0\0", "little"))
_MILLION = 1_000_000


class HeaderError(MarketfeedError):
    """A file's first line is not the header of this format; the message says what is expected."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that gave no trade: its number in the file (the header is 1), why, and its text."""

    line: int
    reason: str
    text: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """The trades of a block in the order of its lines, the line number of each (int64), the lines left out, and how
    many lines the block had."""

    trades: TradeColumns
    line: Int64Array
    bad: list[BadLine]
    lines: int


class TradeCsv:
    """Decodes the blocks of one file, or of several with the same columns.

    Dictionaries grow from block to block: a symbol keeps its index, so the batches' `symbols` extend each other.
    """

    def __init__(self, header: bytes) -> None:
        """`header` is the first line. Raises HeaderError if it does not name the columns of this format."""
        names = [name.strip().lower() for name in header.decode("utf-8-sig", "replace").strip().split(",")]
        missing = [name for name in REQUIRED if name not in names]
        unknown = [name for name in names if name not in (*REQUIRED, CONDITIONS)]
        if missing or unknown or len(set(names)) != len(names):
            shown = header[:80].decode("utf-8", "replace").strip()
            raise HeaderError(
                f"the first line is {shown!r}; it must name symbol, event_ts, price, size and may name conditions"
            )
        self.columns = {name: place for place, name in enumerate(names)}
        self._symbol_fields = FieldIds()
        self._symbols: list[str] = []
        self._usable: BoolArray = np.zeros(0, np.bool_)
        self._condition_fields = FieldIds()
        self._condition_sets: list[Conditions] = []
        self._no_conditions = self._condition_fields.id(b"")
        self._dates = FieldIds()
        self._days: list[int] = []

    def decode(self, block: bytes, first_line: int) -> Decoded:
        """The trades of whole lines, of which the first has the number `first_line`. Empty lines are passed over."""
        if not block.endswith(b"\n"):
            block += b"\n"
        buffer, words = padded(block)
        lines = _Lines(buffer, len(self.columns))
        plain, columns = self._plain(buffer, words, lines)
        number, event_ts, price, size, symbol, conditions = columns
        bad: list[BadLine] = []
        odd = np.flatnonzero(~plain & (lines.end > lines.start))
        if len(odd):
            rows = [row for row in (self._odd(buffer, lines, at, first_line, bad) for at in odd.tolist()) if row]
            if rows:
                more = (np.array(column) for column in zip(*rows, strict=True))
                joined = [np.concatenate([a, b]) for a, b in zip(columns, more, strict=True)]
                order = np.argsort(joined[0], kind="stable")
                number, event_ts, price, size, symbol, conditions = (column[order] for column in joined)
        trades = TradeColumns(
            tuple(self._symbols), symbol.astype(np.uint32), event_ts, price, size,
            tuple(self._condition_sets), conditions.astype(np.uint32),
        )  # fmt: skip
        if not self._usable.all():
            trades = trades.take(np.ones(len(trades), np.bool_))
        return Decoded(trades, number + first_line, bad, len(lines))

    def _plain(self, buffer: Bytes, words: Words, lines: _Lines) -> tuple[BoolArray, tuple[AnyArray, ...]]:
        """Which lines are of usual form, and for those (position, event_ts, price, size, symbol, conditions)."""
        at = np.flatnonzero(lines.whole)
        start, end = lines.fields(at)
        of = {name: (start[place], end[place]) for name, place in self.columns.items()}
        dots = np.append(np.flatnonzero(buffer == _DOT), len(buffer))
        event_ts, stamped = self._stamps(buffer, words, *of["event_ts"])
        price, priced = _decimals(words, dots, *of["price"])
        size, sized = _decimals(words, dots, *of["size"])
        good = stamped & priced & sized
        good &= (price > 0) & (price <= _LIMITS.price_max) & (size <= _LIMITS.size_max)
        symbol_start, symbol_end = of["symbol"]
        good &= symbol_end - symbol_start <= FIELD_BYTES_MAX
        if CONDITIONS in of:
            good &= of[CONDITIONS][1] - of[CONDITIONS][0] <= FIELD_BYTES_MAX
        at, event_ts, price, size = at[good], event_ts[good], price[good], size[good]
        symbol = self._symbol_fields.ids(words, symbol_start[good], (symbol_end - symbol_start)[good])
        if CONDITIONS in of:
            first, last = of[CONDITIONS]
            conditions = self._condition_fields.ids(words, first[good], (last - first)[good])
        else:
            conditions = np.full(len(at), self._no_conditions, np.int64)
        self._learn()
        columns: tuple[AnyArray, ...] = (at, event_ts, price, size, symbol, conditions)
        usable = self._usable[symbol]
        if not usable.all():
            columns = tuple(column[usable] for column in columns)
        plain = np.zeros(len(lines), np.bool_)
        plain[columns[0]] = True
        return plain, columns

    def _learn(self) -> None:
        """Read the values that the last block brought: symbols, which must be text without blanks, and conditions."""
        for value in self._symbol_fields.values[len(self._symbols) :]:
            text = value.decode("utf-8", "replace")
            usable = bool(text) and text.isprintable() and " " not in text and "�" not in text
            self._symbols.append(text)
            self._usable = np.append(self._usable, usable)
        for value in self._condition_fields.values[len(self._condition_sets) :]:
            self._condition_sets.append(_conditions_of(value.decode("utf-8", "replace")))

    def _stamps(self, buffer: Bytes, words: Words, start: Int64Array, end: Int64Array) -> tuple[Int64Array, BoolArray]:
        """Unix nanoseconds of each field, and whether it was one of the usual forms."""
        length = end - start
        value, plain = digits(words, end, np.clip(length, 0, 19))
        plain &= (length >= 12) & (length <= 19)
        shortest, longest = int(length.min(initial=19)), int(length.max(initial=0))
        if not (shortest == longest == 19):
            value = value * np.where(length <= 14, _MILLION, np.where(length <= 17, 1000, 1))
        dated = np.flatnonzero((length >= 20) & (buffer[start + 4] == _DASH))
        if len(dated):
            value[dated], plain[dated] = self._iso(buffer, words, start[dated], end[dated])
        plain &= (value > 0) & (value < STAMP_MAX)
        return value, plain

    def _iso(self, buffer: Bytes, words: Words, start: Int64Array, end: Int64Array) -> tuple[Int64Array, BoolArray]:
        """Stamps of the form 2025-03-10T14:30:00.123456789Z, fraction optional, "T" or a blank."""
        day_of = self._dates.ids(words, start, np.full(len(start), 10, np.int64))
        for value in self._dates.values[len(self._days) :]:
            self._days.append(_day_number(value))
        day = np.array(self._days, np.int64)[day_of]
        clock = words[start + 11] ^ _TIME_MASK
        parts = [((clock >> np.uint64(8 * i)) & np.uint64(0xFF)).view(np.int64) for i in (0, 1, 3, 4, 6, 7)]
        hour, minute, second = (10 * tens + ones for tens, ones in zip(parts[::2], parts[1::2], strict=True))
        plain = (day >= 0) & (clock & _COLONS == 0) & (buffer[end - 1] == _Z)
        for part in parts:
            plain &= part <= 9
        plain &= (hour < 24) & (minute < 60) & (second < 60)
        plain &= (buffer[start + 10] == ord("T")) | (buffer[start + 10] == ord(" "))
        places = np.clip(end - start - 21, 0, None)
        plain &= (end - start == 20) | ((buffer[start + 19] == _DOT) & (places >= 1) & (places <= 9))
        places = np.clip(places, 0, 9)
        fraction, fraction_plain = digits(words, end - 1, places)
        plain &= fraction_plain
        nanos = fraction * POWERS[9 - places].astype(np.int64)
        return (day * 86_400 + hour * 3600 + minute * 60 + second) * NANOS + nanos, plain

    def _odd(
        self, buffer: Bytes, lines: _Lines, at: int, first_line: int, bad: list[BadLine]
    ) -> tuple[int, int, float, float, int, int] | None:
        """A line by itself: its row as in `_plain`, or None with the reason added to `bad`."""
        text = buffer[lines.start[at] : lines.end[at]].tobytes()
        try:
            symbol, event_ts, price, size, conditions = self._read(text)
        except _Refused as refused:
            bad.append(BadLine(first_line + at, str(refused), text))
            return None
        symbol_id = self._symbol_fields.id(symbol.encode())
        condition_id = self._condition_fields.id(conditions.encode())
        self._learn()
        return at, event_ts, price, size, symbol_id, condition_id

    def _read(self, line: bytes) -> tuple[str, int, float, float, str]:
        """The values of a line. Raises _Refused with the reason."""
        try:
            fields = next(csv.reader(StringIO(line.decode("utf-8")), strict=True), [])
        except UnicodeDecodeError:
            raise _Refused("not_utf8") from None
        except csv.Error:
            raise _Refused("bad_quotes") from None
        if len(fields) != len(self.columns):
            raise _Refused("field_count")
        value = {name: fields[place].strip() for name, place in self.columns.items()}
        symbol = value["symbol"]
        if not symbol or not symbol.isprintable() or " " in symbol or len(symbol) > 64:
            raise _Refused("bad_symbol")
        event_ts = read_stamp(value["event_ts"])
        if event_ts is None:
            raise _Refused("bad_stamp")
        price = _number(value["price"], "price")
        size = _number(value["size"], "size")
        if price <= 0:
            raise _Refused("price_not_positive")
        if not _LIMITS.price_min <= price <= _LIMITS.price_max:
            raise _Refused("price_absurd")
        if size < 0:
            raise _Refused("size_negative")
        if size > _LIMITS.size_max or 0 < size < _LIMITS.size_min:
            raise _Refused("size_absurd")
        return symbol, event_ts, price, size, value.get(CONDITIONS, "")


class _Refused(Exception):
    """Why a line gives no trade: the word used in counters and in the quarantine file."""


class _Lines:
    """Where the lines of a block are (without their ends), and their fields if they are `whole`: right in number."""

    def __init__(self, buffer: Bytes, columns: int) -> None:
        newlines = np.flatnonzero(buffer == _NEWLINE)
        self.start: Int64Array = np.concatenate([[PAD], newlines[:-1] + 1])
        self.end: Int64Array = newlines - (buffer[newlines - 1] == _RETURN)
        self._between = columns - 1
        self._commas = np.flatnonzero(buffer == _COMMA)
        self._first = np.searchsorted(self._commas, self.start)
        self.whole: BoolArray = np.diff(np.append(self._first, len(self._commas))) == self._between
        quotes = np.flatnonzero(buffer == _QUOTE)
        if len(quotes):
            self.whole[np.searchsorted(self.start, quotes, "right") - 1] = False

    def __len__(self) -> int:
        return len(self.start)

    def fields(self, at: npt.NDArray[np.intp]) -> tuple[list[Int64Array], list[Int64Array]]:
        """Start and end of each field, column by column, of the whole lines at these positions."""
        first = self._first[at]
        commas = [self._commas[first + i] for i in range(self._between)]
        return [self.start[at], *(comma + 1 for comma in commas)], [*commas, self.end[at]]


def read_stamp(text: str) -> int | None:
    """Unix nanoseconds of a stamp in any form of the format, None if it is none.

    12 to 14 digits are milliseconds, 15 to 17 microseconds, 18 or 19 nanoseconds; ISO 8601 needs a zone ("Z" or an
    offset) and may have up to nine places.

    >>> read_stamp("2025-03-10T10:30:00.5-04:00")
    1741617000500000000
    """
    if text.isascii() and text.isdigit():
        unit = {12: _MILLION, 13: _MILLION, 14: _MILLION, 15: 1000, 16: 1000, 17: 1000, 18: 1, 19: 1}.get(len(text), 0)
        value = int(text) * unit
    else:
        value = _iso_stamp(text) or 0
    return value if 0 < value < STAMP_MAX else None


def _iso_stamp(text: str) -> int | None:
    """ISO 8601 with a zone; the fraction is read by hand because datetime ends at microseconds."""
    whole, dot, rest = text.partition(".")
    places = len(rest) - len(rest.lstrip("0123456789"))
    if (dot and not 1 <= places <= 9) or len(whole) < len("2025-03-10T14:30:00"):
        return None
    try:
        moment = datetime.fromisoformat(whole + rest[places:])
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * NANOS + int((rest[:places] or "0").ljust(9, "0"))


def _decimals(
    words: Words, dots: Int64Array, start: Int64Array, end: Int64Array
) -> tuple[npt.NDArray[np.float64], BoolArray]:
    """The numbers of fields like 187.43 or 100, float64, and whether they were of that form, of at most 15 digits.

    Both parts are integers and the quotient is of two exact floats, so it is correctly rounded: what float() gives.
    """
    dot = dots[np.searchsorted(dots, start)]
    dotted = dot < end
    whole_end = np.where(dotted, dot, end)
    whole_length = whole_end - start
    places = np.where(dotted, end - dot - 1, 0)
    fits = (whole_length >= 1) & (whole_length + places <= 15) & ((places > 0) | ~dotted)
    places = np.where(fits, places, 0)
    whole, plain = digits(words, whole_end, np.where(fits, whole_length, 0))
    plain &= fits
    if not dotted.any():
        return whole.astype(np.float64), plain
    fraction, fraction_plain = digits(words, end, places)
    plain &= fraction_plain
    power = POWERS[places]
    return (whole * power + fraction) / power, plain


def _conditions_of(text: str) -> Conditions:
    """Codes separated by "|"; nothing is an empty list, "-" is null."""
    if text == "-":
        return None
    return tuple(text.split("|")) if text else ()


def _day_number(text: bytes) -> int:
    """Days since 1970 of YYYY-MM-DD, -1 for anything else."""
    if not (text[:4] + text[5:7] + text[8:]).isdigit() or text[4:5] + text[7:8] != b"--":
        return -1
    try:
        return (date.fromisoformat(text.decode()) - _EPOCH.date()).days
    except ValueError:
        return -1


def _number(text: str, what: str) -> float:
    """A finite float. Raises _Refused."""
    try:
        value = float(text)
    except ValueError:
        raise _Refused(f"{what}_not_a_number") from None
    if not math.isfinite(value) or "_" in text:
        raise _Refused(f"{what}_not_a_number")
    return value + 0.0
