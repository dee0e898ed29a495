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

    def __init__(self, settings: IngestSettings, shard: int, shards: int | None) -> None:
        """Raises SettingError when neither symbols nor a plan are given or the file of symbols cannot be read.

        `shards` means nothing when there is a plan.
        """
        self._shard = shard
        self._path = settings.plan
        self._seen: tuple[int, int] | None = None
        self._told: tuple[tuple[int, int] | None, str] | None = None
        self._all: frozenset[str] = frozenset()
        self._plan: Plan | None = None
        # Why there is no plan yet; empty when there is one.
        self.problem = f"{self._path} was not read yet"
        if self._path is None:
            if shards is None:
                raise SettingError("--shard", f"is {shard} alone, which needs --plan; without one it is i/n like 0/1")
            self._take(equal_shares(_given_symbols(settings), shards))

    def current(self) -> Assignment:
        """What the plan in force says, nothing while there is none. A symbol that left it altogether is nobody's."""
        plan = self._plan or Plan(0)
        named = frozenset(plan.assigned)
        gone = self._all - named
        self._all = named
        return Assignment(frozenset(plan.of_shard(self._shard)), frozenset(plan.overflow) | gone, plan.revision)

    async def follow(self, changed: Callable[[Assignment], None]) -> None:
        """Tell every new plan, for ever, the first that is found included.

        A file that cannot be read leaves the plan in force, one that is not there is waited for; both are said once.
        """
        while self._path is not None:
            if self._look(self._path):
                changed(self.current())
            await asyncio.sleep(PLAN_POLL_S)

    def _look(self, path: Path) -> bool:
        """Whether the file holds another plan than the one in force, which it then is."""
        found = None
        try:
            found = self._fingerprint(path)
            if found == self._seen:
                return False
            plan = decode_plan(path.read_bytes())
        except (OSError, ValueError) as error:
            # Read again each time, for it may be half written, but told once per state of the file and problem.
            self._seen = None
            if self._told != (found, str(error)):
                self._told = found, str(error)
                what = "the one in force stays" if self._plan else "waiting for it"
                _log.warning(f"plan cannot be read, {what}", path=str(path), problem=str(error))
            if self._plan is None:
                self.problem = f"{path} cannot be read: {error}"
            return False
        self._seen, self._told = found, None
        return self._take(plan)

    def _take(self, plan: Plan) -> bool:
        if plan == self._plan:
            return False
        self._plan, self.problem = plan, ""
        _log.info("plan", revision=plan.revision, symbols=len(plan.assigned), ours=len(plan.of_shard(self._shard)))
        return True

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
