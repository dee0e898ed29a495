"""Repeats: the same frame delivered several times, and the overlap of two connections.

Real trades can be equal in every field, so equality of trades proves nothing. Equality of a whole frame within two
seconds on one connection does: a vendor has been seen to send each message three times. Two real frames could be
equal as well (one trade of one symbol, same price, size and millisecond, sent apart): that residual error is accepted,
and `dedup: off` exists for who does not accept it.

Mechanism: a keyed 64-bit hash of the frame (Python's own, random per process, so nobody can aim at it) and the time of
its first arrival, in two generations that change places every window: bounded, and nothing is ever searched for expiry.
A false hit needs two frames of equal hash within a window: below one in 10^13 a frame at 10,000 frames a second.
"""

from __future__ import annotations

from collections import deque

from marketfeed.domain.trades import NANOS, TradeColumns

REPEAT_WINDOW_S = 2.0


class RepeatFilter:
    """Recognises frames that are byte-identical to one taken within the window. One filter per connection."""

    def __init__(self, window_s: float = REPEAT_WINDOW_S, frames_max: int = 200_000) -> None:
        """`frames_max` bounds the frames remembered in one window; beyond it the oldest half is forgotten early."""
        self._window_ns = int(window_s * NANOS)
        self._frames_max = frames_max
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}
        self._turned_ts = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def is_repeat(self, frame: bytes, now_ts: int) -> bool:
        """Whether this frame, arriving now (Unix ns), is a repeat. The window runs from the copy that was taken."""
        if now_ts - self._turned_ts >= self._window_ns or len(self._young) >= self._frames_max:
            self._old, self._young, self._turned_ts = self._young, {}, now_ts
        key = hash(frame)
        taken_ts = self._young.get(key)
        if taken_ts is None:
            taken_ts = self._old.get(key)
        if taken_ts is not None and 0 <= now_ts - taken_ts <= self._window_ns:
            return True
        self._young[key] = now_ts
        return False


class RecentTrades:
    """The trades of the last minute as they were sent: for the multiset difference after a reconnect, and as the buffer
    of an owner that is challenged."""

    def __init__(self, keep_s: float, trades_max: int) -> None:
        self._keep_ns = int(keep_s * NANOS)
        self._trades_max = trades_max
        self._batches: deque[tuple[int, TradeColumns]] = deque()
        self._trades = 0

    def __len__(self) -> int:
        return self._trades

    def add(self, now_ts: int, trades: TradeColumns) -> None:
        """Remember trades that are being sent now; what is older than the window, or too much, is forgotten."""
        self._batches.append((now_ts, trades))
        self._trades += len(trades)
        while self._batches and (
            self._batches[0][0] < now_ts - self._keep_ns or (self._trades > self._trades_max and len(self._batches) > 1)
        ):
            self._trades -= len(self._batches.popleft()[1])

    def batches(self) -> list[tuple[int, TradeColumns]]:
        """(when they were sent, trades) of everything remembered."""
        return list(self._batches)

    def last(self, span_s: float) -> list[TradeColumns]:
        """What was sent in the last `span_s` before the newest of it."""
        if not self._batches:
            return []
        since_ts = self._batches[-1][0] - int(span_s * NANOS)
        return [trades for sent_ts, trades in self._batches if sent_ts >= since_ts]
