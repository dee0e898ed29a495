"""Log lines are structured, redacted and bounded."""

import json

import pytest

from marketfeed.runtime import logs
from marketfeed.runtime.logs import RateLimited, get_logger, redact


def test_a_line_is_json_with_the_facts(capsys: pytest.CaptureFixture[str]) -> None:
    """One event is one JSON object that names the service and carries the facts."""
    logs.set_up("ingest", "json")
    get_logger("feed").info("connected", attempt=3)
    line = json.loads(capsys.readouterr().out)
    assert (line["service"], line["logger"], line["event"], line["attempt"]) == ("ingest", "feed", "connected", 3)


def test_tracebacks_and_facts_are_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    """A key in a URL does not reach the log, not even by an exception's text."""
    logs.set_up("ingest", "json")
    try:
        raise ValueError("wss://feed?token=abc123")
    except ValueError:
        get_logger("feed").exception("failed", url="wss://feed?token=abc123&x=1")
    out = capsys.readouterr().out
    assert "abc123" not in out
    assert "token=***&x=1" in out


def test_redact_masks_passwords_in_addresses() -> None:
    """A DSN shows its user and host, never its password."""
    assert redact("postgresql://me:pw@host/db") == "postgresql://me:***@host/db"


def test_equal_warnings_are_held_back_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a thousand equal warnings one line is written; the next one that passes tells how many were held."""
    logs.set_up("ingest", "json")
    limited = RateLimited(get_logger("feed"), per_s=0.001)
    for _ in range(1000):
        limited.warning("malformed frame", reason="json")
    limited._next.clear()
    limited.warning("malformed frame", reason="json")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("held_back") for line in lines] == [None, 999]
