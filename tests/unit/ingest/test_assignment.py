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
    [{}, {"symbols_file": Path("nowhere")}, {"symbols": ("A", "B\udcff")}],
    ids=["nothing", "no file", "not text"],
)
def test_a_start_without_symbols_is_refused(values: dict[str, Any]) -> None:
    """In one sentence."""
    with pytest.raises(SettingError, match="--"):
        Assigner(given(**values), 0, 1)


def test_a_shard_without_a_number_of_shards_needs_a_plan() -> None:
    """Whose share it is to be cannot be told otherwise."""
    with pytest.raises(SettingError, match="--plan"):
        Assigner(given(symbols=("A",)), 3, None)


class Mount:
    """A ConfigMap as the kubelet mounts it: a link to a folder that is swapped as a whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "plan.json"
        self.versions = 0

    def write(self, data: bytes) -> None:
        self.versions += 1
        version = self.folder / f"..v{self.versions}"
        version.mkdir(parents=True)
        (version / "plan.json").write_bytes(data)
        (self.folder / "new").symlink_to(version.name)
        os.replace(self.folder / "new", self.folder / "..data")
        if not self.path.is_symlink():
            self.path.symlink_to("..data/plan.json")


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mount:
    monkeypatch.setattr(assignment, "PLAN_POLL_S", 0.01)
    return Mount(tmp_path / "plan")


async def test_a_plan_file_is_waited_for_and_followed(mount: Mount, caplog: pytest.LogCaptureFixture) -> None:
    """Changes are told; a broken file leaves the plan in force and is told once; what left the plan is nobody's."""
    assigner = Assigner(given(plan=mount.path), 0, None)
    assert assigner.current() == Assignment(frozenset(), frozenset(), 0)
    told: asyncio.Queue[Assignment] = asyncio.Queue()
    async with asyncio.TaskGroup() as group, asyncio.timeout(5):
        following = group.create_task(assigner.follow(told.put_nowait))
        await asyncio.sleep(0.05)
        assert "No such file" in assigner.problem
        assert caplog.text.count("waiting for it") == 1
        mount.write(encode_plan(Plan(1, {"A": 0, "B": 1, "C": 0})))
        assert await told.get() == Assignment(frozenset({"A", "C"}), frozenset(), 1)
        assert assigner.problem == ""
        mount.write(b'{"revision": 2, "assi')
        await asyncio.sleep(0.05)
        assert told.empty()
        assert caplog.text.count("the one in force stays") == 1
        mount.write(encode_plan(Plan(3, {"A": 1, "B": 0}, ("D",))))
        assert await told.get() == Assignment(frozenset({"B"}), frozenset({"C", "D"}), 3)
        mount.path.unlink()
        await asyncio.sleep(0.05)
        mount.write(encode_plan(Plan(4, {"A": 0})))
        assert await told.get() == Assignment(frozenset({"A"}), frozenset({"B"}), 4)
        following.cancel()


async def test_a_shard_may_have_nothing_yet(mount: Mount) -> None:
    """A new one starts with an empty share and is told when it gets something."""
    mount.write(encode_plan(Plan(1, {"A": 0})))
    assigner = Assigner(given(plan=mount.path), 1, None)
    told: asyncio.Queue[Assignment] = asyncio.Queue()
    async with asyncio.TaskGroup() as group, asyncio.timeout(5):
        following = group.create_task(assigner.follow(told.put_nowait))
        assert await told.get() == Assignment(frozenset(), frozenset(), 1)
        mount.write(encode_plan(Plan(2, {"A": 0, "B": 1})))
        assert await told.get() == Assignment(frozenset({"B"}), frozenset(), 2)
        following.cancel()
