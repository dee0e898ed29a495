"""The page's own checks, so that one command tests everything."""

from __future__ import annotations

import re

import pytest

from marketfeed.local.ui_build import check_ui


@pytest.mark.timeout(600)
def test_the_pages_types_and_unit_tests_hold() -> None:
    """TypeScript finds no error and vitest no failing test; the first run installs their packages."""
    said = re.sub(r"\x1b\[[0-9;]*m", "", check_ui(lambda text: None))
    passed = re.search(r"Tests\s+(\d+) passed \(\d+\)", said)
    assert passed is not None, said
    assert int(passed[1]) >= 100
