"""The report: a table, what was found, a verdict."""

from marketfeed.domain.trades import SymbolTable
from marketfeed.verify.comparison import Comparison, Finding
from marketfeed.verify.report import report

GOOD = Comparison("sent = log", 1200, 3, 0, 0, 0, ())
BAD = Comparison("log = Redis", 7, 0, 2, 0, 0, (Finding("missing", 0, 1_767_366_000, "no close"),))


def test_equal_is_said_in_the_last_line() -> None:
    """So that a person and a script find it."""
    text = report([GOOD], SymbolTable(["A"]), {"counted": 5}, ["the log marks 1 gaps: restart"])
    assert text.endswith("\nequal\n")
    assert "1,200" in text
    assert "note: the log marks" in text


def test_a_difference_names_symbol_second_and_what() -> None:
    """And how many are not listed."""
    text = report([GOOD, BAD], SymbolTable(["A"]), {}, [])
    assert "missing   A 2026-01-02 15:00:00  no close" in text
    assert "and 1 more" in text
    assert text.endswith("NOT EQUAL: log = Redis\n")


def test_what_gaps_cost_is_told() -> None:
    """And ends in the verdict if it is too much."""
    lossy = Comparison("sent = log", 1000, 3, 0, 0, 0, (), covered=250, sent=4000, lost=10, lost_max=0.001)
    text = report([lossy], SymbolTable(["A"]), {}, [])
    assert "gaps cover 250 of 1,000 cells (25.0%) and lack 10 of 4,000 trades (0.25%), more than 0.10%" in text
    assert text.endswith("NOT EQUAL: sent = log\n")
