"""The demo's command line."""

from __future__ import annotations

from dataclasses import fields

import pytest

from marketfeed.local.commands import demo
from marketfeed.local.settings import DemoSettings
from marketfeed.runtime.command import SERVICE_FIELDS
from marketfeed.runtime.settings import flag


def test_every_setting_of_the_demo_has_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """Help is given in groups, and a setting that no group names would have a variable only."""
    with pytest.raises(SystemExit):
        demo(["--help"])
    told = capsys.readouterr().out.split()
    wanted = [flag(field.name) for field in fields(DemoSettings) if field.name not in SERVICE_FIELDS]
    assert [name for name in wanted if name not in told and f"[{name}" not in told] == []
