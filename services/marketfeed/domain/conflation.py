"""Which symbols and bars a client has not seen yet, for any number of clients, without a queue per client.

State is kept once, newest only; what differs between clients is a single number, the version they have seen. Every
change raises the version. A client that is due gets what changed since its version: one that skipped ten turns gets
the newest of each symbol and every bar that changed meanwhile, once. So a slow client costs no memory, and clients
that are in step share the same bytes.

Old changes can be forgotten once every client has seen them (`forget`); the caller bounds how far behind a client may
fall. Not here: the values themselves, encoding, sockets.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field


@dataclass(slots=True)
class Changes:
    """The changes of one version or of several, by symbol id.

    quotes  symbols with a new quote
    bars    starts (Unix seconds) of the changed bars of each symbol
    minutes starts of the changed bars of one minute of each symbol
    news    what must not be merged into anything newer (gaps, changes of status), in its order
    """

    quotes: set[int] = field(default_factory=set)
    bars: dict[int, set[int]] = field(default_factory=dict)
    news: list[tuple[int, object]] = field(default_factory=list)
    minutes: dict[int, set[int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.quotes or self.bars or self.news or self.minutes)

    def add(self, other: Changes) -> None:
        """Take in what changed elsewhere, too."""
        self.quotes |= other.quotes
        self.news += other.news
        _add_starts(self.bars, other.bars)
        _add_starts(self.minutes, other.minutes)


def _add_starts(known: dict[int, set[int]], more: dict[int, set[int]]) -> None:
    for symbol_id, starts in more.items():
        held = known.get(symbol_id)
        if held is None:
            known[symbol_id] = set(starts)
        else:
            held |= starts


class ChangeLog:
    """Changes by version. Versions are 1, 2, 3 …; a client that has seen everything holds `version`."""

    def __init__(self) -> None:
        self.version = 0
        self._versions: list[int] = []
        self._changes: list[Changes] = []
        self._since: dict[int, Changes] = {}

    def note(self, changes: Changes) -> int:
        """There is new state of all these; returns the new version. The changes belong to the log from now on."""
        self.version += 1
        self._versions.append(self.version)
        self._changes.append(changes)
        self._since.clear()
        return self.version

    def since(self, version: int) -> Changes:
        """Everything that changed after `version`. Shared between callers: do not change it."""
        found = self._since.get(version)
        if found is None:
            found = Changes()
            for changes in self._changes[bisect_right(self._versions, version) :]:
                found.add(changes)
            self._since[version] = found
        return found

    def forget(self, seen_by_all: int) -> None:
        """Drop what every client has seen: versions up to and including this one."""
        keep_from = bisect_right(self._versions, seen_by_all)
        if keep_from:
            del self._versions[:keep_from]
            del self._changes[:keep_from]
            self._since.clear()

    def __len__(self) -> int:
        return len(self._versions)


@dataclass(slots=True)
class Receipt:
    """What a client missed because it was slow: updates merged into newer ones, and since when (seconds)."""

    count: int = 0
    since_s: float | None = None

    def skip(self, updates: int, now_s: float) -> None:
        """One turn was skipped that would have carried this many updates."""
        if updates:
            self.count += updates
            if self.since_s is None:
                self.since_s = now_s

    def take(self, now_s: float) -> tuple[int, int] | None:
        """The (count, greatest age in ms) to report now that the client is being served again; None for nothing."""
        if self.since_s is None:
            return None
        report = self.count, round((now_s - self.since_s) * 1000)
        self.count, self.since_s = 0, None
        return report
