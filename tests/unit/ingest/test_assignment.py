"""Symbols of a shard, from settings or a plan file that is followed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from marketfeed.domain.errors import SettingError
from marketfeed.domain.sharding import Plan
from marketfeed.ingest import assignment
from marketfeed.ingest.assignment import Assigner, Assignment
from marketfeed.ingest.settings import IngestSettings
from marketfeed.wire.plan import encode_plan


def given(**values: Any) -> IngestSettings:
    return IngestSettings(**values)


def test_shares_of_the_settings_symbols_are_complete_and_disjoint(tmp_path: Path) -> None:
    """From the flag and the file together."""
    listed = tmp_path / "symbols"
    listed.write_text("\ufeffAAPL # a remark\n\n  BINANCE:BTCUSDT\n# only a remark\n", "utf-8")
    settings = given(symbols=("MSFT", "AAPL"), symbols_file=listed)
    shares = [Assigner(settings, shard, 3).current().mine for shard in range(3)]
    assert sorted(symbol for share in shares for symbol in share) == ["AAPL", "BINANCE:BTCUSDT", "MSFT"]


@pytest.mark.parametrize(
    "values",
    [{}, {"symbols_file": Path("nowhere")}, {"plan": Path("nowhere")}, {"symbols": ("A", "B\udcff")}],
    ids=["nothing", "no file", "no plan", "not text"],
)
def test_a_start_without_symbols_is_refused(values: dict[str, Any]) -> None:
    """In one sentence."""
    with pytest.raises(SettingError, match="--"):
        Assigner(given(**values), 0, 1)


async def test_a_plan_file_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Changes are told; a broken file leaves the plan in force and is told once; what left the plan is nobody's."""
    monkeypatch.setattr(assignment, "PLAN_POLL_S", 0.01)
    path = tmp_path / "plan.json"

    def write(data: bytes) -> None:
        (tmp_path / "new").write_bytes(data)
        os.replace(tmp_path / "new", path)

    write(encode_plan(Plan(1, {"A": 0, "B": 1, "C": 0})))
    assigner = Assigner(given(plan=path), 0, 2)
    assert assigner.current() == Assignment(frozenset({"A", "C"}), frozenset(), 1)
    told: asyncio.Queue[Assignment] = asyncio.Queue()
    async with asyncio.TaskGroup() as group, asyncio.timeout(5):
        following = group.create_task(assigner.follow(told.put_nowait))
        write(b'{"revision": 2, "assi')
        await asyncio.sleep(0.05)
        assert told.empty()
        assert caplog.text.count("plan cannot be read") == 1
        write(encode_plan(Plan(3, {"A": 1, "B": 0}, ("D",))))
        assert await told.get() == Assignment(frozenset({"B"}), frozenset({"C", "D"}), 3)
        path.unlink()
        await asyncio.sleep(0.05)
        write(encode_plan(Plan(4, {"A": 0})))
        assert await told.get() == Assignment(frozenset({"A"}), frozenset({"B"}), 4)
        following.cancel()
