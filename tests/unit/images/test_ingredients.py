"""Ingredients are made once per key, and what decides them is in the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild.ingredients import Pantry
from imagebuild.programs import BuildFailed

ROOT = Path(__file__).parents[3]


def test_a_given_program_is_known_by_its_content(tmp_path: Path) -> None:
    """Another content is another key; a path that is not there is told."""
    program = tmp_path / "prog"
    program.write_text("one")
    pantry = Pantry(ROOT, tmp_path / "cache", program)
    before = pantry.key("program")
    assert pantry.get("program") == program
    program.write_text("two")
    assert pantry.key("program") != before
    with pytest.raises(BuildFailed, match="does not exist"):
        Pantry(ROOT, tmp_path / "cache", tmp_path / "nowhere").key("program")


def test_settings_of_this_machine_stay_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index of one's own is used by builds, and another index is another ingredient."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://packages.example/simple")
    pantry = Pantry(ROOT, tmp_path)
    first = pantry.get("uv-settings")
    assert (first / "uv.toml").read_text() == 'index-url = "https://packages.example/simple"\n'
    assert pantry.get("uv-settings") == first
    assert first.is_relative_to(tmp_path)
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://other.example/simple")
    assert pantry.get("uv-settings") != first


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("java", "bin/java"),
        ("postgres", "bin/postgres"),
        ("node", "lib/node_modules/npm/bin/npm-cli.js"),
        ("valkey-server", ""),
        ("uv", ""),
    ],
)
def test_servers_and_runtimes_are_those_of_the_lock_files(name: str, holds: str, tmp_path: Path) -> None:
    """They come from the installed packages, with their version as the key."""
    pantry = Pantry(ROOT, tmp_path)
    assert (pantry.get(name) / holds).is_file()
    assert pantry.key(name)[0].isdigit()


def test_the_lock_files_decide_kafka(tmp_path: Path) -> None:
    """Another jar is another image."""
    lock = tmp_path / "k8s" / "images" / "kafka" / "tools.lock"
    lock.parent.mkdir(parents=True)
    keys = set()
    for text in ("a:b:1 00\n", "a:b:2 00\n"):
        lock.write_text(text)
        keys.add(Pantry(tmp_path, tmp_path).key("kafka-jars"))
    assert len(keys) == 2


def test_what_the_caller_brings_is_taken_from_where_it_is_now(tmp_path: Path) -> None:
    """The same content at another place is used there: the first place may be gone."""
    for place in ("one", "two"):
        folder = tmp_path / place
        folder.mkdir()
        (folder / "tool").write_text("the same")
        pantry = Pantry(tmp_path, tmp_path / "cache", folder / "tool", folder)
        assert pantry.get("program") == folder / "tool"
        assert pantry.get("files") == folder
