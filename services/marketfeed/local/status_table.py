"""Shows rows: a live table on a terminal, a plain line per look otherwise; and the tables at the end of a run."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from marketfeed.local.probe import Latency
from marketfeed.local.status import Row


class StatusView:
    """A place for rows and for lines of text, which do not disturb each other."""

    def __init__(self, console: Console | None = None, title: str = "") -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True) if self.is_terminal else None
        self.title = title

    @property
    def is_terminal(self) -> bool:
        """Whether a table can be drawn over and over in one place."""
        return self._console.is_terminal

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, soft_wrap=True, markup=False)

    def show(self, rows: Sequence[Row]) -> None:
        """The present state of all processes."""
        if self._live is not None:
            self._live.update(status_table(rows, self.title), refresh=True)
        else:
            self.say(status_line(rows))

    def result(self, cpu: Table, latency: Table | None) -> None:
        """The tables at the end of a run."""
        self._console.print(cpu)
        if latency is not None:
            self._console.print(latency)


def status_table(rows: Sequence[Row], title: str) -> Table:
    """The table of a terminal."""
    table = Table(title=title, title_justify="left", expand=False)
    for name in ("process", "state"):
        table.add_column(name)
    for name in ("rate/s", "lag", "bars/s", "clients", "CPU", "memory"):
        table.add_column(name, justify="right")
    for row in rows:
        state = row.state + (f" (restarted {row.restarts}x)" if row.restarts else "")
        style = "" if row.state in ("ready", "running") else "yellow"
        table.add_row(
            row.name,
            state,
            _count(row.rate),
            _lag(row.lag_s),
            _count(row.facts.get("bars_per_s")),
            _count(row.facts.get("clients")),
            f"{row.usage.cpu_share:.0%}",
            f"{row.usage.rss_bytes / 1e6:.0f} MB",
            style=style,
        )
    return table


def status_line(rows: Sequence[Row]) -> str:
    """All that matters in one plain line."""
    parts = []
    for row in rows:
        words = [row.name]
        if row.state not in ("ready", "running"):
            words.append(row.state)
        if row.rate is not None:
            words.append(f"{_count(row.rate)}/s")
        if row.lag_s is not None:
            words.append(f"lag {_lag(row.lag_s)}")
        words.extend(
            f"{_count(value)} {name.replace('_per_s', '/s').replace('_', ' ')}"
            for name, value in row.facts.items()
            if value or name in ("bars_per_s", "clients")
        )
        words.append(f"cpu {row.usage.cpu_share:.0%}")
        parts.append(" ".join(words))
    return " | ".join(parts)


def cpu_table(rows: Sequence[Row], wall_s: float) -> Table:
    """CPU seconds of each process over the run, and what that is of one core."""
    table = Table(title=f"CPU over {wall_s:.0f} s", title_justify="left")
    table.add_column("process")
    for name in ("CPU s", "of a core", "memory", "restarts"):
        table.add_column(name, justify="right")
    for row in rows:
        used = row.usage
        table.add_row(
            row.name,
            f"{used.cpu_s:.1f}",
            f"{used.cpu_s / wall_s:.1%}",
            f"{used.rss_bytes / 1e6:.0f} MB",
            str(row.restarts),
        )
    total_s = sum(row.usage.cpu_s for row in rows)
    table.add_row("all", f"{total_s:.1f}", f"{total_s / wall_s:.1%}", "", "", style="bold")
    return table


def latency_table(latency: Latency) -> Table:
    """Tick-to-client latency as our own WebSocket clients saw it, the whole and its parts."""
    seen = f"{latency.samples:,} quotes of {latency.symbols} symbols, {latency.clients} clients"
    again = f", {latency.reconnects} reconnects" if latency.reconnects else ""
    table = Table(title="latency, 50 ms conflation", title_justify="left", caption=f"{seen}{again}")
    table.add_column("part of the way")
    for name in ("p50", "p99", "max"):
        table.add_column(name, justify="right")
    for i, hop in enumerate(latency.hops):
        figures = (_ms(value) for value in (hop.p50_ms, hop.p99_ms, hop.max_ms))
        table.add_row(hop.name, *figures, style="bold" if i == 0 else "")
    return table


def _count(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def _lag(lag_s: float | None) -> str:
    if lag_s is None:
        return ""
    return f"{lag_s * 1e3:.0f} ms" if lag_s < 10 else f"{lag_s:.0f} s"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"
