"""Equal hashes mean equal images."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagebuild.fingerprint import files_of, fingerprint


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("app/a.py", "app/__pycache__/a.pyc", "app/deep/b.py", "app/node_modules/x/i.js", "LICENSE"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def test_only_what_goes_into_an_image_is_looked_at(tree: Path) -> None:
    """By-products of running and building decide nothing; a missing source is an error, not an empty one."""
    found = [path.relative_to(tree).as_posix() for path in files_of(tree, ["LICENSE", "app"])]
    assert found == ["LICENSE", "app/a.py", "app/deep/b.py"]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list(files_of(tree, ["nowhere"]))


def test_every_difference_shows(tree: Path) -> None:
    """Content, name, the right to be run, and facts; and nothing else."""
    seen = {fingerprint(tree, ["app"], {"a": "1"})}
    (tree / "app/__pycache__/b.pyc").write_text("by-product")
    seen.add(fingerprint(tree, ["app"], {"a": "1"}))
    assert len(seen) == 1
    seen.add(fingerprint(tree, ["app"], {"a": "2"}))
    seen.add(fingerprint(tree, ["app"], {"b": "1"}))
    (tree / "app/a.py").write_text("other")
    seen.add(fingerprint(tree, ["app"], {"a": "1"}))
    (tree / "app/a.py").chmod(0o755)
    seen.add(fingerprint(tree, ["app"], {"a": "1"}))
    (tree / "app/a.py").rename(tree / "app/c.py")
    seen.add(fingerprint(tree, ["app"], {"a": "1"}))
    assert len(seen) == 6
