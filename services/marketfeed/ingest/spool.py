"""The spool: cut records on disk while Kafka takes none and memory is full.

Rules of this file
- Append only. A record is `length, crc32, body`; a kill at any moment leaves at most one torn record at the end of the
  newest segment, which is cut off on the next start. What `append` has returned True for survives `kill -9`; whether it
  survives a power cut is the fsync policy's matter.
- First in, first out. A record read is still on disk until it is `acknowledged`, so a crash while draining repeats
  records (which the reconciliation after a restart finds in the log) and loses none.
- Bounded in bytes: a record that does not fit is refused, and the caller says so in the log with a `Gap`.
- Space comes back by whole segments, deleted when each of their records is acknowledged.
- What a previous run left is not sent again as it is, because its epoch is dead: `leftover` hands it to the
  reconciliation, and `discard_leftover` deletes it when its trades are in the log under the new epoch.

One process owns a folder, by a lock that dies with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader, FileIO
from pathlib import Path

import msgspec

from marketfeed.domain.errors import SettingError

_HEAD = struct.Struct("<II")  # length of the body, crc32 of the body
_RECORD_BYTES_MAX = 64 * 1024 * 1024
_READ_BUFFER_BYTES = 256 * 1024
_SUFFIX = ".spool"

_encode_meta = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class SpooledRecord:
    """A cut record: its partition, its headers (the kind among them) and its value, unchanged; how many trades."""

    partition: int
    headers: dict[str, str]
    value: bytes
    trades: int


class _Meta(msgspec.Struct, array_like=True):
    partition: int
    trades: int
    headers: dict[str, str]


_decode_meta = msgspec.msgpack.Decoder(_Meta).decode


@dataclass(slots=True)
class _Segment:
    path: Path
    bytes: int = 0
    records: int = 0
    acknowledged: int = 0


class Spool:
    """A bounded queue of records in a folder of its own. All calls block for the disk; they are short."""

    def __init__(
        self,
        folder: Path,
        bytes_max: int,
        *,
        segment_bytes: int = 16 * 1024 * 1024,
        fsync: str = "interval",
    ) -> None:
        """`fsync`: `always` (each append), `interval` (the owner calls `sync`), `never`.

        Raises SettingError if the folder cannot be used or another process uses it.
        """
        self._folder = folder
        self._bytes_max = bytes_max
        self._segment_bytes = segment_bytes
        self._fsync = fsync
        self._segments: deque[_Segment] = deque()
        self._leftover: list[Path] = []
        self._torn: set[Path] = set()
        self._write_fd = -1
        self._unsynced = False
        self._full: deque[tuple[int, bool]] = deque()  # files that `sync` has to (sync and) close
        self._reader: BufferedReader[FileIO] | None = None
        self._read_segment = 0  # position in _segments of the next record to read
        self._read_in_segment = 0  # records of that segment already read
        self.records_waiting = 0  # appended and not yet read
        self.bytes_used = 0  # of this run's segments
        self.leftover_bytes = 0
        self.write_errors = 0
        self.damaged = 0
        self._lock_fd = _locked(folder)
        self._next_number = 0
        self._find_leftover()
        self._first_number = self._next_number  # kept free for `keep_first`
        self._next_number += 1

    @property
    def bytes_total(self) -> int:
        """Bytes on disk, what a previous run left included."""
        return self.bytes_used + self.leftover_bytes

    def append(self, record: SpooledRecord) -> bool:
        """Write a record at the end; False if it does not fit or the disk refuses it (nothing of it stays then)."""
        framed = _framed(record)
        size = len(framed)
        if not self._fits(size):
            return False
        try:
            segment = self._segment_for(size)
            _write_all(self._write_fd, framed)
            if self._fsync == "always":
                os.fdatasync(self._write_fd)
        except OSError:
            self.write_errors += 1
            self._undo_partial_write()
            return False
        segment.bytes += size
        segment.records += 1
        self.bytes_used += size
        self.records_waiting += 1
        self._unsynced = True
        return True

    def keep_first(self, records: Sequence[SpooledRecord]) -> int:
        """For the next run: write records that are older than all appended ones, to be read before them.

        Called once, before `close`; they are not handed out by `read`. Returns how many fit.
        """
        if not records:
            return 0
        kept = 0
        try:
            with self._path(self._first_number).open("xb", buffering=0) as file:
                for framed in map(_framed, records):
                    if not self._fits(len(framed)):
                        break
                    _write_all(file.fileno(), framed)
                    self.bytes_used += len(framed)
                    kept += 1
                if self._fsync != "never":
                    os.fdatasync(file.fileno())
        except OSError:
            self.write_errors += 1
        return kept

    def read(self) -> SpooledRecord | None:
        """The next record in order; it stays on disk until it is acknowledged.

        None when all have been read, or for a record that the disk has damaged since: it is counted in `damaged`.
        """
        if not self.records_waiting:
            return None
        while self._read_in_segment >= self._segments[self._read_segment].records:
            self._close_reader()
            self._read_segment += 1
            self._read_in_segment = 0
        if self._reader is None:
            path = self._segments[self._read_segment].path
            self._reader = BufferedReader(FileIO(path), _READ_BUFFER_BYTES)
        record = _read_record(self._reader)
        self._read_in_segment += 1
        self.records_waiting -= 1
        if record is None:  # The disk changed under us: what it lost is counted, the queue goes on.
            self.damaged += 1
        return record

    def acknowledged(self, records: int) -> None:
        """The next `records` in reading order are in the log; segments that are through are deleted."""
        while records > 0:
            segment = self._segments[0]
            done = min(records, segment.records - segment.acknowledged)
            segment.acknowledged += done
            records -= done
            if segment.acknowledged < segment.records:
                break
            if len(self._segments) == 1 and records == 0:
                break  # Still being written; `_reclaim` deletes it when it is through for good.
            self._drop_first()
        self._reclaim()

    def leftover(self) -> Iterator[SpooledRecord]:
        """What previous runs left, oldest first; a torn tail is cut, damaged records are counted in `damaged`."""
        for path in self._leftover:
            with BufferedReader(FileIO(path), _READ_BUFFER_BYTES) as reader:
                while (record := _read_record(reader)) is not None:
                    yield record
                if reader.tell() != path.stat().st_size and path not in self._torn:
                    self._torn.add(path)
                    self.damaged += 1

    @property
    def has_leftover(self) -> bool:
        """Whether a previous run left anything."""
        return bool(self._leftover)

    def discard_leftover(self) -> None:
        """Delete what previous runs left: it is in the log now."""
        for path in self._leftover:
            path.unlink(missing_ok=True)
        self._leftover.clear()
        self.leftover_bytes = 0

    def sync(self) -> None:
        """Bring what was appended to the disk itself; for the `interval` policy. May be called from another thread."""
        with contextlib.suppress(IndexError):  # when another thread was quicker
            while self._full:
                fd, keep = self._full.popleft()
                if keep:
                    _sync(fd)
                os.close(fd)
        if self._unsynced and self._write_fd >= 0:
            self._unsynced = False
            _sync(self._write_fd)

    def close(self) -> None:
        """Sync, close and give the folder free. Records that are not acknowledged stay for the next run."""
        self._close_reader()
        self._close_writer()
        self.sync()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _find_leftover(self) -> None:
        for path in sorted(self._folder.glob("*" + _SUFFIX)):
            size = path.stat().st_size
            self._next_number = int(path.stem) + 1
            if size == 0:
                path.unlink()
                continue
            self._leftover.append(path)
            self.leftover_bytes += size

    def _segment_for(self, size: int) -> _Segment:
        """The segment to write to, a new one if the last is full."""
        last = self._segments[-1] if self._segments else None
        if last is not None and self._write_fd >= 0 and last.bytes + size <= self._segment_bytes:
            return last
        self._close_writer()
        path = self._path(self._next_number)
        self._write_fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._next_number += 1
        segment = _Segment(path)
        self._segments.append(segment)
        return segment

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012d}{_SUFFIX}"

    def _fits(self, size: int) -> bool:
        return self.bytes_total + size <= self._bytes_max and size <= _RECORD_BYTES_MAX

    def _undo_partial_write(self) -> None:
        """After a failed write: cut the segment back to whole records; if even that fails, leave it and go on anew."""
        if self._write_fd < 0 or not self._segments:
            return
        try:
            os.ftruncate(self._write_fd, self._segments[-1].bytes)
        except OSError:
            self._close_writer()

    def _reclaim(self) -> None:
        """When everything is acknowledged start from nothing, so that an idle spool takes no space."""
        if len(self._segments) == 1 and self._segments[0].acknowledged == self._segments[0].records:
            self._close_writer(keep=False)
            self._drop_first()

    def _drop_first(self) -> None:
        segment = self._segments.popleft()
        segment.path.unlink(missing_ok=True)
        self.bytes_used -= segment.bytes
        if self._read_segment == 0:
            self._close_reader()
            self._read_in_segment = 0
        else:
            self._read_segment -= 1

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _close_writer(self, *, keep: bool = True) -> None:
        """Leave the segment; what has to be forced to disk first is left to `sync`, as that may take long."""
        if self._write_fd < 0:
            return
        if self._fsync == "interval":
            self._full.append((self._write_fd, keep))
        else:
            os.close(self._write_fd)
        self._write_fd = -1
        self._unsynced = False


def _locked(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingError("--spool-dir", f"{folder} cannot be used ({error.strerror}); choose another") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise SettingError(
            "--spool-dir", f"{folder} is used by another ingest; stop it or choose another folder"
        ) from error
    return fd


def _sync(fd: int) -> None:
    """A disk that refuses costs nothing but this safety against power cuts."""
    with contextlib.suppress(OSError):
        os.fdatasync(fd)


def _framed(record: SpooledRecord) -> bytes:
    meta = _encode_meta(_Meta(record.partition, record.trades, record.headers))
    body = struct.pack("<I", len(meta)) + meta + record.value
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _read_record(reader: BufferedReader[FileIO]) -> SpooledRecord | None:
    """The record at the reader's place; None at the end, or (place unchanged) where no whole, sound record follows."""
    place = reader.tell()
    head = reader.read(_HEAD.size)
    if len(head) == _HEAD.size:
        length, crc = _HEAD.unpack(head)
        # Noughts, which a power cut leaves at the end of a file, would be a sound record of no bytes.
        body = reader.read(length) if 0 < length <= _RECORD_BYTES_MAX else b""
        if body and len(body) == length and zlib.crc32(body) == crc:
            meta_size = struct.unpack_from("<I", body)[0]
            meta = _decode_meta(body[4 : 4 + meta_size])
            return SpooledRecord(meta.partition, meta.headers, body[4 + meta_size :], meta.trades)
    reader.seek(place)
    return None
