"""Files that may be replaced while a service runs: keys and certificates."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from marketfeed.domain.errors import SettingError

# Nobody looks at the file system more often than this.
LOOK_EVERY_S = 1.0
BYTES_MAX = 1 << 20

_Stamp = tuple[int, int, int]


class WatchedFiles:
    """Tells when any of these files is another one than last time. Costs one `stat` per file and second at most."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self._looked_s = -LOOK_EVERY_S
        self._stamps: tuple[_Stamp | None, ...] | None = None

    def changed(self) -> bool:
        """Whether it is worth reading them (again)."""
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_EVERY_S:
            return False
        self._looked_s = now_s
        stamps = tuple(_stamp(path) for path in self._paths)
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        return True

    def look_again(self) -> None:
        """What was read could not be used: it counts as changed at the next look."""
        self._stamps = None


def _stamp(path: Path) -> _Stamp | None:
    """What differs once a file is replaced, by writing or by renaming (as Kubernetes does it)."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_bounded(path: Path, setting: str) -> bytes:
    """A small file whole. Raises SettingError naming the setting."""
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise SettingError(setting, f"{path} cannot be read: {error.strerror}") from error
    if len(data) > BYTES_MAX:
        raise SettingError(setting, f"{path} is longer than {BYTES_MAX} bytes; that is no key")
    return data
