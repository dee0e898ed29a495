"""What of the standby buffer has no room in memory: batches of trades on disk, oldest first.

Rules of this file
- It means nothing to another run: a process that starts anew has a new connection, and deletes what it finds.
- Append only, in segments of bounded size; a segment is deleted when nothing in it is of use any more.
- Reading changes nothing, so that a take-over that is given up can be made again.
- A bound that is reached, or a disk that refuses, is said to the caller, who gives something up and tells of it.

The folder lies within the process' own spool folder, whose lock keeps others out.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from marketfeed.domain.log import TradesRecord
from marketfeed.domain.trades import TradeColumns, no_trades
from marketfeed.wire.records import decode_body, encode_body

_SUFFIX = ".spill"


@dataclass(slots=True)
class _Segment:
    path: Path
    fd: int
    bytes: int = 0
    batches: int = 0


@dataclass(slots=True, eq=False)
class Spilled:
    """A batch on disk: when it arrived (our clock, Unix ns), its stamps, how many trades; `taken` symbols are void."""

    number: int
    segment: _Segment
    offset: int
    size: int
    received_ts: int
    first_ts: int
    last_ts: int
    trades: int
    taken: set[str] = field(default_factory=set)


class Spill:
    """A bounded queue of batches in a folder of its own. All calls block for the disk; they are short."""

    def __init__(self, folder: Path, bytes_max: int, *, segment_bytes: int = 16 * 1024 * 1024) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._segment_bytes = segment_bytes
        self._segments: deque[_Segment] = deque()
        self._batches: deque[Spilled] = deque()
        self._number = 0
        self.trades = 0
        for path in folder.glob("*" + _SUFFIX):
            path.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Spilled]:
        return iter(tuple(self._batches))

    @property
    def bytes(self) -> int:
        """Bytes on disk, of segments that hold anything."""
        return sum(segment.bytes for segment in self._segments)

    @property
    def first(self) -> Spilled | None:
        """The oldest batch."""
        return self._batches[0] if self._batches else None

    def append(self, trades: TradeColumns, received_ts: int, number: int = 0) -> bool:
        """Keep a batch under the caller's number; False if there is no room.

        Raises OSError if the disk refuses; nothing of it stays then.
        """
        _, value = encode_body(TradesRecord(0, 0, received_ts, trades))
        if self.bytes + len(value) > self._bytes_max:
            return False
        segment = self._segment_for(len(value))
        if os.pwrite(segment.fd, value, segment.bytes) < len(value):
            raise OSError(errno.ENOSPC, "the disk took a part only", str(segment.path))
        span = int(trades.event_ts.min()), int(trades.event_ts.max())
        self._batches.append(Spilled(number, segment, segment.bytes, len(value), received_ts, *span, len(trades)))
        segment.bytes += len(value)
        segment.batches += 1
        self.trades += len(trades)
        return True

    def read(self, batch: Spilled) -> TradeColumns:
        """The trades of a batch; none of one that was dropped meanwhile."""
        if batch.segment.fd < 0:
            return no_trades()
        body = decode_body("trades", os.pread(batch.segment.fd, batch.size, batch.offset))
        assert isinstance(body, TradesRecord)
        return body.trades

    def drop_first(self) -> None:
        """Forget the oldest batch; its segment goes with its last one."""
        batch = self._batches.popleft()
        self.trades -= batch.trades
        segment = batch.segment
        segment.batches -= 1
        while self._segments and not self._segments[0].batches:
            self._delete(self._segments.popleft())

    def clear(self) -> None:
        """Forget everything."""
        while self._batches:
            self.drop_first()

    def _segment_for(self, size: int) -> _Segment:
        last = self._segments[-1] if self._segments else None
        if last is not None and last.bytes + size <= self._segment_bytes:
            return last
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{self._number:012d}{_SUFFIX}"
        self._number += 1
        segment = _Segment(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))
        self._segments.append(segment)
        return segment

    def _delete(self, segment: _Segment) -> None:
        os.close(segment.fd)
        segment.fd = -1
        segment.path.unlink(missing_ok=True)
