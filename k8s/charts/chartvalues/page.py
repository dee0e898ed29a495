"""docs/charts.md: every value of every chart, as one table per chart."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from chartvalues.commented import Value

_OPENING = """\
# Values of the charts

Made by `make charts-docs` from the comments in `charts/*/values.yaml`; a value that is not listed here is refused by
helm. How to install, upgrade and uninstall is in [kubernetes.md](kubernetes.md).
"""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart as the page shows it."""

    name: str
    description: str
    values: tuple[Value, ...]


def page(charts: list[Chart], closing: str) -> str:
    """The text of the page; `closing` is prose that ends it."""
    return "\n".join([_OPENING, *map(_section, charts), closing.strip(), ""])


def _section(chart: Chart) -> str:
    rows = [_row(told) for value in chart.values for told in value.rows()]
    head = f"## {chart.name}\n\n{_cell(chart.description)}\n\n| value | default | meaning |\n| --- | --- | --- |"
    return "\n".join([head, *rows, ""])


def _row(value: Value) -> str:
    allowed = value.rules.get("enum")
    choice = f" One of {', '.join(f'`{json.dumps(one)}`' for one in allowed)}." if allowed else ""
    default = value.default if all(not child.meaning for child in value.children) else {}
    return f"| `{value.path}` | {_default(default)} | {_cell(value.meaning + choice)} |"


def _default(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False).replace("|", "\\|")
    return f"`{text}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").strip()
