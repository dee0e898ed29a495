"""Trade CSV files: blocks of whole lines out of plain or gzip files, and the quarantine file for bad ones.

The format of a line is `wire/trade_csv.py`'s matter. Blocking: call it from a worker thread.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from marketfeed.domain.errors import SettingError
from marketfeed.wire.trade_csv import BadLine, Decoded, HeaderError, TradeCsv

GZIP_MAGIC = b"\x1f\x8b"
# Large enough that the fixed cost of a block's numpy calls vanishes, small enough for the processor's caches.
BLOCK_BYTES = 4 << 20
# A longer line is no trade; without a bound a file without line ends would be read into memory whole.
LINE_BYTES_MAX = 1 << 16
TEXT_MAX = 500


class TradeFile:
    """One file. Raises SettingError where it cannot be opened, and where it is damaged."""

    def __init__(self, path: Path, block_bytes: int = BLOCK_BYTES) -> None:
        self.path = path
        self._block_bytes = block_bytes
        try:
            with path.open("rb") as file:
                self._compressed = file.read(2) == GZIP_MAGIC
            self.bytes_total = path.stat().st_size
        except OSError as error:
            raise SettingError(str(path), f"cannot be read: {error.strerror}") from error

    def blocks(self) -> Iterator[tuple[Decoded, int]]:
        """All lines in order, each block with the bytes of the file read by then.

        Raises SettingError for a damaged file, and for one whose first line is not a header.
        """
        with self.path.open("rb") as raw:
            source: BinaryIO = gzip.GzipFile(fileobj=raw) if self._compressed else raw  # type: ignore[assignment]
            try:
                yield from self._read(source, raw)
            except HeaderError as error:
                raise SettingError(str(self.path), str(error) if self.bytes_total else "is empty") from error
            except (EOFError, OSError, zlib.error) as error:
                raise SettingError(str(self.path), f"is damaged near byte {raw.tell()}: {error}") from error

    def _read(self, source: BinaryIO, raw: BinaryIO) -> Iterator[tuple[Decoded, int]]:
        decoder = TradeCsv(source.readline(LINE_BYTES_MAX))
        line = 2
        rest = b""
        while True:
            data = source.read(self._block_bytes)
            text = rest + data
            if not text:
                return
            end = text.rfind(b"\n") + 1 if data else len(text)
            rest = text[end:]
            if len(rest) > LINE_BYTES_MAX:
                raise SettingError(
                    str(self.path), f"has a line of more than {LINE_BYTES_MAX} bytes after line {line}: no trade CSV"
                )
            if not end:
                continue
            decoded = decoder.decode(text[:end], line)
            line += decoded.lines
            yield decoded, raw.tell()


class BadLineFile:
    """Bad lines as CSV (line, reason, text), made when the first one comes; `counts` by reason.

    At most `lines_max` are written; the rest is only counted. Text is cut after 500 characters.
    """

    def __init__(self, path: Path, lines_max: int) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self._lines_max = lines_max
        self._written = 0
        self._file: TextIO | None = None
        self._closed = False

    def add(self, bad: Iterable[BadLine]) -> None:
        """Write and count. Raises SettingError if the file cannot be written."""
        for one in bad:
            self.counts[one.reason] += 1
            if self._written < self._lines_max and not self._closed:
                self._written += 1
                text = one.text[:TEXT_MAX].decode("utf-8", "backslashreplace")
                csv.writer(self._open()).writerow([one.line, one.reason, text])

    def close(self) -> None:
        """Finish the file; what comes later is only counted."""
        self._closed = True
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> TextIO:
        if self._file is None:
            try:
                self._file = self.path.open("w", encoding="utf-8", newline="")
            except OSError as error:
                raise SettingError(
                    "--quarantine", f"{self.path} cannot be written ({error.strerror}); name another"
                ) from error
            csv.writer(self._file).writerow(["line", "reason", "text"])
        return self._file
