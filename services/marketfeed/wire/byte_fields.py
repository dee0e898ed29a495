"""Fields of a text in a byte buffer as columns: digits to integers and short strings to ids, without a loop over rows.

A field is a pair of positions in the buffer. Eight bytes at any position are read as one 64-bit word (`words`, a view
of the buffer with a stride of one byte), so a field of up to 24 bytes is at most three words, and its digits are
checked and added up by a handful of multiplications for all rows at once.

Rules of this file
- The buffer has `PAD` bytes before and after the text, so that reading around a field never leaves it.
- Nothing is guessed: a function says for each row whether the field was of its form, and leaves the rest to the caller.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from marketfeed.domain.trades import BoolArray, Int64Array

PAD = 32
DIGITS_MAX = 24
FIELD_BYTES_MAX = 24

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]

_ZEROS = np.uint64(0x3030303030303030)
_ABOVE_NINE = np.uint64(0x7676767676767676)
_HIGH_BITS = np.uint64(0x8080808080808080)
_TEN = np.uint64(10)
_PAIRS = np.uint64(0x000000FF000000FF)
_UPPER = np.uint64(100 + (1_000_000 << 32))
_LOWER = np.uint64(1 + (10_000 << 32))
# Keep the last (in memory) or the first n of a word's eight bytes; words are little-endian.
_LAST = np.array([(0xFFFFFFFFFFFFFFFF << 8 * (8 - n)) & 0xFFFFFFFFFFFFFFFF for n in range(9)], np.uint64)
_FIRST = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)
_CACHE_BITS = 16
_SHIFT = np.uint64(64 - _CACHE_BITS)
_MIXERS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9))


def padded(text: bytes) -> tuple[Bytes, Words]:
    """The text with its padding as bytes, and the overlapping words of it: words[i] is bytes i to i + 7."""
    buffer = np.frombuffer(b"".join((bytes(PAD), text, bytes(PAD))), np.uint8)
    return buffer, np.ndarray((len(buffer) - 7,), "<u8", buffer, strides=(1,))


def digits(words: Words, end: Int64Array, length: Int64Array) -> tuple[Int64Array, BoolArray]:
    """The integers whose `length` digits (0 to 24) end before `end`, int64, and whether all of them were digits.

    No digits are 0. What exceeds int64 wraps: the caller bounds the length.
    """
    longest = int(length.max(initial=0))
    value, plain = _eight_digits(words[end - 8], np.minimum(length, 8))
    scale = 100_000_000
    for done in (8, 16):
        if longest <= done:
            break
        more, more_plain = _eight_digits(words[end - 8 - done], np.clip(length - done, 0, 8))
        value += more * scale
        plain &= more_plain
        scale *= 100_000_000
    return value, plain


def _eight_digits(word: Words, length: Int64Array) -> tuple[Int64Array, BoolArray]:
    """The value of the last `length` characters of each word."""
    word = (word ^ _ZEROS) & _LAST[length]
    plain: BoolArray = ((word + _ABOVE_NINE) | word) & _HIGH_BITS == 0
    word = word * _TEN + (word >> np.uint64(8))
    word = ((word & _PAIRS) * _UPPER + ((word >> np.uint64(16)) & _PAIRS) * _LOWER) >> np.uint64(32)
    return word.view(np.int64), plain


class FieldIds:
    """Ids of the distinct values of a field: 0, 1, 2 … in the order of first sight; `values` by id.

    A direct-mapped table recognises known values for all rows at once; only rows that it does not know are looked at
    one by one, once for each distinct value.
    """

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self._ids: dict[bytes, int] = {}
        self._known = np.zeros((1 << _CACHE_BITS, 3), np.uint64)
        self._known_length = np.full(1 << _CACHE_BITS, -1, np.int64)
        self._known_id = np.zeros(1 << _CACHE_BITS, np.int64)

    def id(self, value: bytes) -> int:
        """The id of a value, given now if it is new."""
        found = self._ids.get(value)
        if found is None:
            found = self._ids[value] = len(self.values)
            self.values.append(value)
        return found

    def ids(self, words: Words, start: Int64Array, length: Int64Array) -> Int64Array:
        """The ids of the fields of `length` bytes (0 to FIELD_BYTES_MAX) at `start`, int64."""
        parts = [
            words[start + done] & _FIRST[np.clip(length - done, 0, 8)]
            for done in range(0, max(int(length.max(initial=0)), 1), 8)
        ]
        mixed = parts[0] * _MIXERS[0]
        for part, mixer in zip(parts[1:], _MIXERS[1:], strict=False):
            mixed ^= part * mixer
        slot = (mixed >> _SHIFT).view(np.int64)
        known = self._known_length[slot] == length
        for column, part in enumerate(parts):
            known &= self._known[slot, column] == part
        found = self._known_id[slot]
        unknown = np.flatnonzero(~known)
        if len(unknown):
            found[unknown] = self._look_up([part[unknown] for part in parts], length[unknown], slot[unknown])
        return found

    def _look_up(self, parts: list[Words], length: Int64Array, slot: Int64Array) -> Int64Array:
        """The ids of these values; those whose place in the table is free are put there."""
        rows = np.zeros((len(length), 4), np.uint64)
        for column, part in enumerate(parts):
            rows[:, column] = part
        rows[:, 3] = length
        _, first, inverse = np.unique(
            rows.view(np.dtype((np.void, rows.itemsize * 4))).ravel(), return_index=True, return_inverse=True
        )
        ids = np.empty(len(first), np.int64)
        for position, row in enumerate(first.tolist()):
            value = rows[row, :3].tobytes()[: int(length[row])]
            ids[position] = self.id(value)
            place = int(slot[row])
            if self._known_length[place] < 0:
                self._known[place] = rows[row, :3]
                self._known_length[place] = length[row]
                self._known_id[place] = ids[position]
        return ids[inverse]
