"""Settings of the embedded stack and of the demo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from marketfeed.runtime.settings import Settings, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class StackSettings(Settings):
    """The embedded stack. The addresses are those of existing servers; all three are given, or none."""

    state_dir: Path = setting(
        Path(".marketfeed"), "folder for the servers' data, logs and ports; removing it starts from nothing"
    )
    kafka: str = setting("", "host:port of an existing Kafka to use instead of a started one")
    redis: str = setting("", "URL of an existing Redis or Valkey to use instead of a started one", secret=True)
    postgres: str = setting("", "URL of an existing PostgreSQL to use instead of a started one", secret=True)
