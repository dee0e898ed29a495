"""The operator's log lines: one JSON object an event (or text on wish), kopf's and aiohttp's lines included.

A line is a short sentence plus facts: `log.info("applied", extra=facts(feed="demo/btc", kind="Deployment"))`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

_BEARER = re.compile(r"(bearer\s+|token=)[\w.~+/=-]+", re.IGNORECASE)


def facts(**values: object) -> dict[str, Any]:
    """The `extra` of a log call: facts that go into the line beside the sentence."""
    return {"facts": values}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts, level, logger, event and the facts. Bearer tokens are masked."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": "operator",
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _BEARER.sub(r"\1***", json.dumps(line, default=str))


class TextFormatter(logging.Formatter):
    """For a person at a terminal: time, level, logger, sentence, facts."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        clock = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        shown = " ".join(f"{name}={value}" for name, value in getattr(record, "facts", {}).items())
        line = f"{clock} {record.levelname.lower():7} {record.name} {record.getMessage()} {shown}".rstrip()
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return _BEARER.sub(r"\1***", line)


def set_up(log_format: str, level: str) -> None:
    """Send the logs of this process to stdout; libraries say only what is wrong."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for library in ("kopf", "aiohttp.access", "asyncio", "kubernetes"):
        logging.getLogger(library).setLevel(logging.WARNING)
    # It warns at each start that it takes no signals outside the main thread, which is what we want.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
