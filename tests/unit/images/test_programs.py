"""Programs that builds need: missing ones and failing ones are told so that a person can act."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from imagebuild.programs import BuildFailed, need, run


def test_a_missing_program_names_its_package() -> None:
    """What to install, in one sentence."""
    with pytest.raises(BuildFailed, match="no-such-builder is missing; install it: apt-get install the-package"):
        need("no-such-builder", "the-package")


def test_a_failure_shows_the_last_lines_and_keeps_all(tmp_path: Path) -> None:
    """The end of a long output is what explains it; the rest is in the log."""
    code = "print('\\n'.join(f'line {n}' for n in range(100))); raise SystemExit('no room')"
    log = tmp_path / "logs" / "x.log"
    with pytest.raises(BuildFailed) as failed:
        run([sys.executable, "-c", code], log)
    assert str(failed.value).endswith("no room")
    assert "line 0" not in str(failed.value)
    assert "line 0" in log.read_text()
    assert run([sys.executable, "-c", "print(1)"], log) == "1\n"
    with pytest.raises(BuildFailed, match=r"did not end within 0 s"):
        run([sys.executable, "-c", "import time; time.sleep(60)"], log, timeout_s=0.05)
