"""The operator's log lines."""

from __future__ import annotations

import json
import logging

from marketfeed_operator.logs import JsonFormatter, TextFormatter, facts


def record(message: str, **values: object) -> logging.LogRecord:
    made = logging.LogRecord("operator.x", logging.WARNING, "f", 1, message, (), None)
    made.__dict__.update(facts(**values))
    return made


def test_a_line_is_one_json_object_with_the_facts() -> None:
    """Sentence, level, logger and facts are fields."""
    line = json.loads(JsonFormatter().format(record("applied", feed="demo/x", number=3)))
    assert (line["event"], line["level"], line["logger"], line["feed"], line["number"]) == (
        "applied", "warning", "operator.x", "demo/x", 3,
    )  # fmt: skip


def test_a_token_never_reaches_a_line() -> None:
    """What follows Bearer or token= is masked in both forms."""
    for formatter in (JsonFormatter(), TextFormatter()):
        line = formatter.format(record("GET wss://x/?token=abc123 Authorization: Bearer ey.J-_x"))
        assert "abc123" not in line
        assert "ey.J" not in line
