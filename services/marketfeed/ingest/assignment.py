"""Which symbols are this shard's: from the settings, or from a plan file that is followed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from marketfeed.domain.errors import SettingError
from marketfeed.domain.sharding import Plan, equal_shares
from marketfeed.ingest.settings import IngestSettings
from marketfeed.runtime.logs import get_logger
from marketfeed.wire.plan import decode_plan

_log = get_logger("plan")

PLAN_POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class Assignment:
    """Symbols of this shard, symbols that the plan gives to nobody, and the plan's revision."""

    mine: frozenset[str]
    nobodys: frozenset[str]
    revision: int


class Assigner:
    """Reads the plan, or makes one of equal shares."""

    def __init__(self, settings: IngestSettings, shard: int, shards: int) -> None:
        """Raises SettingError when neither symbols nor a plan are given or a file cannot be read."""
        self._shard = shard
        self._path = settings.plan
        self._seen: tuple[int, int] | None = None
        self._all: frozenset[str] = frozenset()
        if self._path is None:
            self._plan = equal_shares(_given_symbols(settings), shards)
        else:
            try:
                self._plan = self._read(self._path)
            except (OSError, ValueError) as error:
                raise SettingError("--plan", f"{self._path} cannot be used: {error}") from error

    def current(self) -> Assignment:
        """What the plan in force says. A symbol that left the plan altogether is nobody's."""
        plan = self._plan
        named = frozenset(plan.assigned)
        gone = self._all - named
        self._all = named
        return Assignment(frozenset(plan.of_shard(self._shard)), frozenset(plan.overflow) | gone, plan.revision)

    async def follow(self, changed: Callable[[Assignment], None]) -> None:
        """Tell every new plan, for ever. A file that cannot be read leaves the plan in force, and says so."""
        told: tuple[tuple[int, int] | None, str] | None = None
        while self._path is not None:
            await asyncio.sleep(PLAN_POLL_S)
            found = None
            try:
                found = self._fingerprint(self._path)
                if found == self._seen:
                    continue
                plan = self._read(self._path)
            except (OSError, ValueError) as error:
                # Read again each time, for it may be half written, but told once per state of the file and problem.
                self._seen = None
                if told != (found, str(error)):
                    told = found, str(error)
                    _log.warning("plan cannot be read, the one in force stays", path=str(self._path), problem=told[1])
                continue
            told = None
            if plan != self._plan:
                self._plan = plan
                _log.info("plan changed", revision=plan.revision, symbols=len(plan.assigned))
                changed(self.current())

    def _read(self, path: Path) -> Plan:
        seen = self._fingerprint(path)
        plan = decode_plan(path.read_bytes())
        self._seen = seen
        return plan

    @staticmethod
    def _fingerprint(path: Path) -> tuple[int, int]:
        """Changes with the file; mounted ConfigMaps are replaced as a whole, so time and inode are enough."""
        stat = path.stat()
        return stat.st_mtime_ns, stat.st_ino


def _given_symbols(settings: IngestSettings) -> list[str]:
    symbols = list(settings.symbols)
    if settings.symbols_file is not None:
        try:
            lines = settings.symbols_file.read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingError("--symbols-file", f"{settings.symbols_file} cannot be read: {error}") from error
        symbols += [name for line in lines if (name := line.partition("#")[0].strip())]
    if odd := [name for name in symbols if not name.isprintable()]:
        raise SettingError("--symbols", f"{odd[0]!r} is not a symbol: it has characters that cannot be printed")
    if not symbols:
        raise SettingError("--symbols", "names no symbol; give some, or --symbols-file, or --plan")
    return symbols
