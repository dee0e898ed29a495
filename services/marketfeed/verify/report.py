"""The result of a verification in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from marketfeed.domain.trades import SymbolTable
from marketfeed.verify.comparison import Comparison

_HEAD = ("comparison", "cells", "short in gaps", "missing", "double", "different")


def report(
    comparisons: Sequence[Comparison], symbols: SymbolTable, counts: Mapping[str, int], notes: Sequence[str]
) -> str:
    """A table of the comparisons, what was found, and the verdict as the last line."""
    rows = [_HEAD] + [
        (c.name, *(f"{n:,}" for n in (c.cells, c.in_gaps, c.missing, c.double, c.different))) for c in comparisons
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    lines += ["", "log: " + ", ".join(f"{name} {count:,}" for name, count in counts.items())]
    lines += [f"note: {note}" for note in notes]
    lines += [_gaps_of(c) for c in comparisons if c.covered]
    for comparison in comparisons:
        lines += _listed(comparison, symbols)
    equal = all(comparison.equal for comparison in comparisons)
    lines += ["", "equal" if equal else "NOT EQUAL: " + ", ".join(c.name for c in comparisons if not c.equal)]
    return "\n".join(lines) + "\n"


def _gaps_of(comparison: Comparison) -> str:
    """How much of what was sent gaps touch, and how much they cost."""
    c = comparison
    verdict = f", more than {c.lost_max:.2%}" if c.too_much_lost else ""
    return (
        f"{c.name}: gaps cover {c.covered:,} of {c.cells:,} cells ({c.covered / c.cells:.1%}) and lack {c.lost:,} of"
        f" {c.sent:,} trades ({c.lost / max(c.sent, 1):.2%}){verdict}"
    )


def _listed(comparison: Comparison, symbols: SymbolTable) -> list[str]:
    if not comparison.findings:
        return []
    lines = ["", f"{comparison.name}:"]
    for finding in comparison.findings:
        moment = datetime.fromtimestamp(finding.start_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
        lines.append(f"  {finding.kind:<9} {symbols.name(finding.symbol_id)} {moment}  {finding.detail}")
    left_out = comparison.missing + comparison.double + comparison.different - len(comparison.findings)
    return lines + ([f"  … and {left_out:,} more"] if left_out else [])
