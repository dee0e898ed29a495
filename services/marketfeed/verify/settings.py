"""Settings of the comparison."""

from __future__ import annotations

from dataclasses import dataclass

from marketfeed.runtime.settings import Settings, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifySettings(Settings):
    """What is compared with what."""

    feed: str = setting("demo", "feed whose log and stores are compared")
    kafka: str = setting("127.0.0.1:9092", "Kafka's address, host:port")
    redis: str = setting("redis://127.0.0.1:6379/0", "Redis' URL", secret=True)
    postgres: str = setting("postgresql://127.0.0.1:5432/postgres", "PostgreSQL's connection string", secret=True)
    manifest: str | None = setting(None, "the manifest: a URL (…/manifest/bars) or a file; default: the generator's")
    generator_url: str | None = setting(None, "HTTP address of the generator that has the manifest")
    from_s: int = setting(0, "what was sent is compared from this Unix second on, when the generator was started anew")
    wait_s: float = setting(30.0, "how long the stores may take to reach the end of the log")
    lost_max: float = setting(0.1, "share of the trades sent that may be missing inside marked gaps, 0 for none")
    findings_shown: int = setting(20, "differences that are listed for each comparison; all are counted")
