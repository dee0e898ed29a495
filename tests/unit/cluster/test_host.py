"""What the cluster looks at on the machine, while the machine goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

from localcluster.host import folders_below


def test_a_control_group_that_goes_while_one_looks_is_no_error(tmp_path: Path) -> None:
    """A container that ends takes its folder with it; what is left is still found."""
    for name in ("a/inner", "b/inner"):
        (tmp_path / name).mkdir(parents=True)
    looking = folders_below(tmp_path)
    assert next(looking) == tmp_path
    shutil.rmtree(tmp_path / "a")
    left = list(looking)
    assert {tmp_path / "b", tmp_path / "b" / "inner"} <= set(left)
    assert tmp_path / "a" / "inner" not in left
