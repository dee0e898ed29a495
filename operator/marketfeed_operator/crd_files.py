"""`python -m marketfeed_operator.crd_files`: writes the chart's CRD and the reference page, from the model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from marketfeed_operator.crd_page import page
from marketfeed_operator.schema import crd

CRD_FILE = Path("charts/marketfeed-operator/files/marketfeeds.marketfeed.dev.yaml")
PAGE_FILE = Path("docs/marketfeed-crd.md")


def contents() -> dict[Path, str]:
    """The generated files, by their path in the repository."""
    head = "# Generated from operator/marketfeed_operator by `make crd`.\n"
    text = yaml.safe_dump(crd(), sort_keys=False, width=120, allow_unicode=True)
    return {CRD_FILE: head + text, PAGE_FILE: page()}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files below the folder given, by default the current one."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    root = Path(arguments[0]) if arguments else Path()
    for path, text in contents().items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
