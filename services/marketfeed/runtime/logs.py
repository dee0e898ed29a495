"""Logs: one line an event, a short sentence plus facts; JSON to stdout, pretty on a terminal.

Secrets never reach a line: Finnhub's key travels in its URL, so whatever looks like `token=…` or like a JSON Web Token
is masked in every string, errors included.
`RateLimited` keeps a hot loop from writing a million equal lines; it counts what it held back.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from datetime import UTC, datetime
from typing import Any

_SECRET = re.compile(r"((?:token|api[_-]?key|password|secret)=)[^&\s\"']+", re.IGNORECASE)
# A JSON Web Token: its header is an object, so it begins with these letters.
_JWT = re.compile(r"\beyJ[\w-]+\.[\w-]*\.[\w-]*")
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^@/\s]+@")


def redact(text: str) -> str:
    """`text` with tokens, keys and the passwords of URLs masked."""
    return _URL_PASSWORD.sub(r"\1***@", _JWT.sub("***", _SECRET.sub(r"\1***", text)))


class Logger:
    """A named logger whose calls take a sentence and facts: `log.info("connected", attempt=3)`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **facts: object) -> None:
        """Detail for whoever looks for a fault."""
        self._write(logging.DEBUG, event, facts)

    def info(self, event: str, **facts: object) -> None:
        """A normal event worth a line."""
        self._write(logging.INFO, event, facts)

    def warning(self, event: str, **facts: object) -> None:
        """Something is wrong and is being dealt with."""
        self._write(logging.WARNING, event, facts)

    def error(self, event: str, **facts: object) -> None:
        """Something is wrong and somebody has to look."""
        self._write(logging.ERROR, event, facts)

    def exception(self, event: str, **facts: object) -> None:
        """As error, with the traceback of the exception being handled."""
        self._logger.error(event, exc_info=True, extra={"facts": facts})

    def _write(self, level: int, event: str, facts: dict[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"facts": facts})


def get_logger(name: str) -> Logger:
    """The logger of a module or part."""
    return Logger(name)


class RateLimited:
    """Warnings at most `per_s` a second for each event; the next line that passes says how many were held back."""

    def __init__(self, log: Logger, per_s: float = 1.0) -> None:
        self._log = log
        self._pause_s = 1.0 / per_s
        self._next: dict[str, float] = {}
        self._held: dict[str, int] = {}

    def warning(self, event: str, **facts: object) -> None:
        """Log the event, or count it if one like it was logged just now."""
        now = time.monotonic()
        if now < self._next.get(event, 0.0):
            self._held[event] = self._held.get(event, 0) + 1
            return
        self._next[event] = now + self._pause_s
        held = self._held.pop(event, 0)
        self._log.warning(event, **facts, **({"held_back": held} if held else {}))


class _JsonFormatter(logging.Formatter):
    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return redact(json.dumps(line, default=str))


class _PrettyFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        facts = " ".join(f"{k}={v}" for k, v in getattr(record, "facts", {}).items())
        line = f"{clock} {record.levelname.lower():7} {record.name:12} {record.getMessage()} {facts}".rstrip()
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return redact(line)


def set_up(service: str, log_format: str = "auto", level: str = "info") -> None:
    """Send the logs of this process to stdout in the wanted form; libraries below warning stay silent."""
    handler = logging.StreamHandler(sys.stdout)
    pretty = log_format == "pretty" or (log_format == "auto" and sys.stdout.isatty())
    handler.setFormatter(_PrettyFormatter() if pretty else _JsonFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("aiohttp.access", "asyncio", "picows", "asyncpg"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
