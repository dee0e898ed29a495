"""Quarantine: the last refused things with their reason, for a person to look at; counted, logged at a limited rate."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass

from marketfeed.ingest import metrics
from marketfeed.runtime.logs import RateLimited, get_logger

_SAMPLE_CHARS = 512


@dataclass(frozen=True, slots=True)
class Refused:
    """One refused thing: when (Unix ns), why, and how it began."""

    at_ts: int
    reason: str
    detail: str
    sample: str


class Quarantine:
    """A ring of the newest refused things, and counters of all."""

    def __init__(self, keep: int) -> None:
        self._ring: deque[Refused] = deque(maxlen=keep)
        self._log = RateLimited(get_logger("quarantine"))
        self.counts: dict[str, int] = {}

    def put(self, reason: str, detail: str, sample: bytes | str, at_ts: int, count: int = 1) -> None:
        """Keep a sample that stands for `count` refused things of one reason."""
        text = sample.decode("utf-8", "replace") if isinstance(sample, bytes) else sample
        self._ring.append(Refused(at_ts, reason, detail[:_SAMPLE_CHARS], text[:_SAMPLE_CHARS]))
        self.counts[reason] = self.counts.get(reason, 0) + count
        metrics.QUARANTINED.labels(reason).inc(count)
        self._log.warning(f"refused: {reason}", detail=detail[:_SAMPLE_CHARS], sample=text[:120])

    def page(self) -> dict[str, object]:
        """What /quarantine shows: counts by reason, and the newest samples, newest first."""
        return {"counts": self.counts, "samples": [asdict(one) for one in reversed(self._ring)]}
