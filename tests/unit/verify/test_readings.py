"""What can be read without servers, and how waiting ends."""

from pathlib import Path

import numpy as np
import pytest

from marketfeed.domain.bars import no_bars, reduce_trades
from marketfeed.domain.errors import SettingError, Unavailable
from marketfeed.domain.position import Position
from marketfeed.verify.app import main
from marketfeed.verify.readings import read_manifest, span_of, unchanged_since, wait_for


async def test_a_manifest_that_is_none_is_a_wrong_setting(tmp_path: Path) -> None:
    """No file, and a file of something else."""
    with pytest.raises(SettingError, match="cannot be read"):
        await read_manifest(str(tmp_path / "none"))
    other = tmp_path / "other"
    other.write_text("<html>")
    with pytest.raises(SettingError, match="not a manifest"):
        await read_manifest(str(other))


async def test_waiting_for_a_sink_ends_with_its_position_or_an_error() -> None:
    """Never silently behind."""
    positions = iter([None, Position("t", {0: 3}), Position("t", {0: 5})])

    async def position() -> Position | None:
        return next(positions)

    assert (await wait_for("x", Position("t", {0: 5}), position, 5.0)).offsets == {0: 5}

    async def never() -> Position | None:
        return Position("t", {0: 1})

    with pytest.raises(Unavailable, match="reached only t@0=1"):
        await wait_for("the store", Position("t", {0: 5}), never, 0.0)


def test_spans_and_settled_bars() -> None:
    """Whole hours; a bar is settled if its partition had passed its last change."""
    at = np.array([3_601, 7_300], np.int64)
    bars = reduce_trades(np.array([0, 1]), at * 10**9, np.ones(2), np.ones(2), np.array([4, 9]), np.zeros(2, np.int64))
    assert span_of(bars, no_bars()) == (3_600, 10_800)
    assert span_of(no_bars(), no_bars()) == (0, 0)
    position = Position("t", {0: 5, 1: 9})
    assert unchanged_since(bars, position, lambda symbol_id: symbol_id).tolist() == [True, False]


def test_the_command_explains_what_it_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence, exit code 2."""
    assert main([]) == 2
    assert "--manifest" in capsys.readouterr().err
