"""How the state of the demo is shown."""

import io

from rich.console import Console

from marketfeed.local.probe import Hop, Latency
from marketfeed.local.status import Row
from marketfeed.local.status_table import StatusView, cpu_table, latency_table, status_line
from marketfeed.local.usage import Usage

ROWS = [
    Row("ingest", "ready", 1234.5, 0.0123, {"dropped": 0.0}, Usage(0.25, 3.0, 60_000_000), 1),
    Row("recorder", "waits: kafka no answer", None, None, {"bars_per_s": 0.0}, Usage(0.0, 1.0, 50_000_000), 0),
]


def test_a_plain_line_holds_what_matters() -> None:
    """Rate, lag and CPU of each process; a state only where it is not the normal one; no zero that says nothing."""
    assert status_line(ROWS) == ("ingest 1,234/s lag 12 ms cpu 25% | recorder waits: kafka no answer 0 bars/s cpu 0%")


def test_without_a_terminal_lines_are_written() -> None:
    """A log file gets lines, not the control characters of a live table."""
    out = io.StringIO()
    with StatusView(Console(file=out, width=200)) as view:
        view.show(ROWS)
        view.say("the page: http://127.0.0.1:8080/ [not markup]")
    assert "\x1b" not in out.getvalue()
    assert out.getvalue().splitlines()[1].endswith("[not markup]")


def test_a_terminal_gets_one_table_that_is_redrawn() -> None:
    """Every process has its row, and restarts are told."""
    out = io.StringIO()
    with StatusView(Console(file=out, width=160, force_terminal=True), "demo") as view:
        view.show(ROWS)
    assert "ready (restarted 1x)" in out.getvalue()


def test_tables_of_the_end() -> None:
    """CPU per process with its sum, and the latency or a dash where there was none."""
    out = io.StringIO()
    latency = Latency(2, 50, 1000, [Hop("tick to client", 61.25, 98.0, None)], 1, 0.5)
    console = Console(file=out, width=160)
    StatusView(console).result(cpu_table(ROWS, 10.0), latency_table(latency))
    text = out.getvalue()
    assert "40.0%" in text
    assert "61.2 ms" in text
