"""The service's entry: settings to exit code, and what the hub and frames are made of."""

from __future__ import annotations

from typing import Any

import pytest

from marketfeed.mds.app import main
from marketfeed.mds.frames import date_text, parts_of
from marketfeed.mds.hub import Hub


def test_a_wrong_setting_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, the setting's name, no traceback."""
    assert main(["--tick-ms", "fast"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("marketfeed mds: --tick-ms")
    assert error.count("\n") == 1


def test_mds_does_not_start_for_nobody(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key, a token or the word that it is open, one sentence says what to set."""
    monkeypatch.setattr("os.environ", {})
    assert main([]) == 2
    error = capsys.readouterr().err
    assert "MARKETFEED_OPEN: is not set and no token is" in error
    assert error.count("\n") == 1


async def test_a_hub_serves_once_it_has_a_state(market: Any) -> None:
    """Before there is nothing to serve; positions are waited for with a limit."""
    assert not Hub(50, 1000, lambda *_: None).serving
    assert market.hub.serving
    market.log.own("A")
    assert await market.hub.reached(0, 1, 0.0)
    assert not await market.hub.reached(0, 2, 0.01)


def test_parts_are_cut_from_the_newest_on(market: Any) -> None:
    """A chart's right edge comes first; no bars are one empty part."""
    market.log.own("A")
    for second in range(5):
        market.log.trade("A", second, 1.0)
    market.hub.state.commit(0.0)
    bars = market.hub.state.window.of_symbol(market.hub.state.symbols.id("A"))
    assert [len(part) for part in parts_of(bars, 2)] == [2, 2, 1]
    assert parts_of(bars, 2)[0].start_s[-1] == bars.start_s[-1]
    assert [len(part) for part in parts_of(bars.take(slice(0, 0)), 2)] == [0]


def test_dates() -> None:
    """Days since 1970 as ISO text."""
    assert date_text(0) == "1970-01-01"
    assert date_text(20_717) == "2026-09-21"
