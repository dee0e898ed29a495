"""How far a long reading is, how fast, and how long it will take: for log lines and /status. The clock is given in."""

from __future__ import annotations

from collections import deque

# The rate shown is that of the last seconds: what a user sees is what happens now.
_WINDOW_S = 10.0


class Progress:
    """Counts rows and bytes of files whose size is known. `phase`: starting | reading | storing | done."""

    def __init__(self, bytes_total: int, now_s: float) -> None:
        self.phase = "starting"
        self.rows = 0
        self.bad_lines = 0
        self._bytes_total = bytes_total
        self._bytes_read = 0
        self._begun_s = now_s
        self._marks: deque[tuple[float, int, int]] = deque([(now_s, 0, 0)])

    @property
    def bytes_read(self) -> int:
        """Bytes of all files that were read by now."""
        return self._bytes_read

    def add(self, rows: int, bad_lines: int, bytes_read: int, now_s: float) -> None:
        """`rows` trades and `bad_lines` more; `bytes_read` of all files by now."""
        self.rows += rows
        self.bad_lines += bad_lines
        self._bytes_read = bytes_read
        self._marks.append((now_s, self.rows, bytes_read))
        while len(self._marks) > 2 and now_s - self._marks[1][0] >= _WINDOW_S:
            self._marks.popleft()

    def status(self, now_s: float) -> dict[str, object]:
        """phase, percent, rows, bad_lines, rows_per_s (of late) and left_s (None while nothing is known).

        How many rows there will be is known at the end only: rows_total is by the bytes read so far, None before.
        """
        since_s, rows, bytes_read = self._marks[0]
        span_s = max(now_s - since_s, 1e-9)
        bytes_per_s = (self._bytes_read - bytes_read) / span_s
        left_s = (self._bytes_total - self._bytes_read) / bytes_per_s if bytes_per_s > 0 else None
        return {
            "phase": self.phase,
            "percent": round(100 * self._bytes_read / max(self._bytes_total, 1), 1),
            "rows": self.rows,
            "rows_total": self._rows_total(),
            "bytes": self._bytes_read,
            "bytes_total": self._bytes_total,
            "bad_lines": self.bad_lines,
            "rows_per_s": round((self.rows - rows) / span_s),
            "left_s": None if left_s is None else round(left_s, 1),
        }

    def _rows_total(self) -> int | None:
        if not self._bytes_read:
            return None
        return max(self.rows, round(self.rows * self._bytes_total / self._bytes_read))

    def total(self, now_s: float) -> dict[str, object]:
        """rows, bad_lines, seconds and rows_per_s over the whole time."""
        span_s = max(now_s - self._begun_s, 1e-9)
        return {
            "rows": self.rows,
            "bad_lines": self.bad_lines,
            "seconds": round(span_s, 2),
            "rows_per_s": round(self.rows / span_s),
        }
