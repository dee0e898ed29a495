"""`python -m chartvalues`: write values.schema.json of every chart and docs/charts.md; `--check` only compares."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from chartvalues.commented import read
from chartvalues.page import Chart, page
from chartvalues.schema import schema

ROOT = Path(__file__).parents[3]
CHARTS = ROOT / "charts"
NEVER_RUN = ROOT / "k8s" / "charts" / "never-run.md"
# As a reader wants them; a chart that is not named here comes last.
ORDER = ("marketfeed", "marketfeed-operator", "kafka", "redis", "postgres", "routes", "observability")


def wanted() -> dict[Path, str]:
    """What each generated file should hold. Raises Uncommented."""
    charts, files = [], {}
    folders = {found.parent.name: found.parent for found in sorted(CHARTS.glob("*/Chart.yaml"))}
    for folder in (folders[name] for name in sorted(folders, key=_place)):
        about = yaml.safe_load((folder / "Chart.yaml").read_text())
        values = read((folder / "values.yaml").read_text())
        charts.append(Chart(about["name"], about["description"], values))
        files[folder / "values.schema.json"] = schema(about["name"], values)
    files[ROOT / "docs" / "charts.md"] = page(charts, NEVER_RUN.read_text())
    return files


def _place(name: str) -> int:
    return ORDER.index(name) if name in ORDER else len(ORDER)


def main() -> int:
    """Write or compare; the exit code."""
    parser = argparse.ArgumentParser(prog="chartvalues", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if something would change")
    check = parser.parse_args().check
    stale = [file for file, text in wanted().items() if not file.exists() or file.read_text() != text]
    for file in stale:
        print(f"{'out of date' if check else 'written'}: {file.relative_to(ROOT)}")
        if not check:
            file.write_text(wanted()[file])
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
