"""Kafka's class path: the jars of `kafka.lock`, fetched by jgo into the local Maven repository and checked by SHA-256.

The lock file names every jar with version and hash, one a line, so that a start resolves nothing: it downloads what is
missing, once, in parallel. A jar that was cut short by an interrupted download has a wrong hash and is fetched again.
`python -m marketfeed.local.kafka_jars COORDINATE…` prints a new lock for the given Maven coordinates.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock

import jgo
from jgo.maven import MavenContext, PythonResolver

from marketfeed.domain.errors import Unavailable

LOCK = Path(__file__).with_name("kafka.lock")
# What the lock is made from: the broker, and the bridge that carries its log lines to log4j.
COORDINATES = ("org.apache.kafka:kafka_2.13:4.1.2", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.3")
DOWNLOADS_AT_ONCE = 6
DOWNLOAD_TIMEOUT_S = 60
TRIES = 3

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock: where Maven keeps the jar and what it must hash to."""

    group: str
    artifact: str
    version: str
    sha256: str


def read_lock(path: Path = LOCK) -> list[Jar]:
    """The jars of the lock file, in class path order."""
    jars = []
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            coordinate, sha256 = line.split()
            group, artifact, version = coordinate.split(":")
            jars.append(Jar(group, artifact, version, sha256))
    return jars


async def ensure_jars(checked: Path, say: Say) -> list[Path]:
    """The class path; downloads what is missing and says how far it is. Raises Unavailable if a jar cannot be had."""
    cancelled = Event()
    try:
        return await asyncio.to_thread(fetch_jars, checked, say, cancelled)
    finally:
        cancelled.set()  # A thread cannot be cancelled: it looks at this before each file.


def fetch_jars(checked: Path, say: Say, cancelled: Event, lock: Path = LOCK) -> list[Path]:
    """As `ensure_jars`, blocking.

    `checked` is a file of our own that remembers which jars (path, size, time) had the right hash, so that a second
    start need not read them all. Raises Unavailable if a jar cannot be had.
    """
    known = set(checked.read_text().splitlines()) if checked.exists() else set()
    progress = _Progress(say)
    context = MavenContext(
        resolver=PythonResolver(progress_callback=progress.file),
        timeout=DOWNLOAD_TIMEOUT_S,
    )
    with ThreadPoolExecutor(DOWNLOADS_AT_ONCE, thread_name_prefix="jars") as pool:
        paths = list(pool.map(lambda jar: _ensure(context, jar, known, cancelled), read_lock(lock)))
    checked.write_text("\n".join(_mark(path) for path in paths) + "\n")
    progress.done()
    return paths


def _ensure(context: MavenContext, jar: Jar, known: set[str], cancelled: Event) -> Path:
    artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
    reason = ""
    for _ in range(TRIES):
        if cancelled.is_set():
            reason = "cancelled"
            break
        try:
            path = Path(artifact.resolve())
        except (RuntimeError, OSError) as error:  # requests' errors are OSErrors
            reason = str(error)
            continue
        if _mark(path) in known or hashlib.sha256(path.read_bytes()).hexdigest() == jar.sha256:
            return path
        reason = "its SHA-256 is not the one of kafka.lock"
        path.unlink()
    raise Unavailable(f"{jar.artifact} {jar.version}", "the Maven repository", reason)


def _mark(path: Path) -> str:
    stat = path.stat()
    return f"{path} {stat.st_size} {stat.st_mtime_ns}"


class _Progress:
    """Tells every few megabytes how much of Kafka has been downloaded, from several threads."""

    STEP_BYTES = 8_000_000

    def __init__(self, say: Say) -> None:
        self._say = say
        self._lock = Lock()
        self._bytes = 0
        self._said = -1

    @contextmanager
    def file(self, name: str, size: int) -> Iterator[Callable[[int], None]]:
        """jgo's callback: one file of `size` bytes begins; the value counts bytes as they arrive."""
        del name, size
        with self._lock:
            if self._said < 0:
                self._said = 0
                self._say("downloading Kafka (about 45 MB, once)")
        yield self._add

    def _add(self, count: int) -> None:
        with self._lock:
            self._bytes += count
            if self._bytes - self._said >= self.STEP_BYTES:
                self._said = self._bytes
                self._say(f"downloading Kafka: {self._bytes / 1e6:.0f} of about 45 MB")

    def done(self) -> None:
        """All is there."""
        if self._bytes:
            self._say(f"downloaded Kafka: {self._bytes / 1e6:.0f} MB")


def make_lock(coordinates: tuple[str, ...]) -> str:
    """A lock file's text for Maven coordinates and all that they need at run time.

    Each coordinate is resolved on its own, so that the managed versions of one do not change those of another.
    """
    found: dict[tuple[str, str], str] = {}
    for coordinate in coordinates:
        for artifact in jgo.resolve(coordinate):
            sha256 = hashlib.sha256(Path(artifact.resolve()).read_bytes()).hexdigest()
            line = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version} {sha256}"
            found.setdefault((artifact.groupId, artifact.artifactId), line)
    return "".join(f"{found[key]}\n" for key in sorted(found))


if __name__ == "__main__":
    sys.stdout.write("# made by: python -m marketfeed.local.kafka_jars\n")
    sys.stdout.write(make_lock(tuple(sys.argv[1:]) or COORDINATES))
