"""Images by the real buildah: what is in the archive, and that nothing is built twice."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.oci_archive import read_archive

from imagebuild.__main__ import main
from imagebuild.build import Builder
from imagebuild.ingredients import Pantry
from imagebuild.programs import BuildFailed
from imagebuild.recipes import Recipe, binary

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("buildah") is None, reason="needs buildah: apt-get install buildah"),
    pytest.mark.skipif(os.geteuid() != 0, reason="buildah's chroot isolation is used as root here"),
]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "tool"
    path.write_bytes(b"\x7fELF one")
    path.chmod(0o755)
    return path


def test_a_program_becomes_an_image_once_per_content(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The archive has the program, the files beside it and a user that is not root; a repeat builds nothing."""
    files = tmp_path / "files"
    (files / "etc").mkdir(parents=True)
    (files / "etc" / "tool.conf").write_text("x")
    command = ["--program", str(program), "--files", str(files), "--cache", str(tmp_path / "cache"), "tool"]
    assert main(command) == 0
    assert "built in" in capsys.readouterr().out
    image = read_archive(tmp_path / "cache" / "archives" / "tool.tar")
    assert image.name == "localhost/tool:dev"
    assert image.config["User"] == "65532:65532"
    assert image.files["/usr/local/bin/tool"].mode & 0o111 == 0o111
    assert "/etc/tool.conf" in image.files
    assert main(command) == 0
    assert "unchanged" in capsys.readouterr().out
    program.write_bytes(b"\x7fELF two and more")
    assert main(command) == 0
    assert "built in" in capsys.readouterr().out
    image = read_archive(tmp_path / "cache" / "archives" / "tool.tar")
    assert image.files["/usr/local/bin/tool"].size == len(program.read_bytes())


def test_another_base_builds_what_is_made_from_it(program: Path, tmp_path: Path) -> None:
    """A key reaches from an image to all that stand on it."""
    cache, said = tmp_path / "cache", list[str]()
    over = Recipe(
        name="over", dockerfile="over/Dockerfile", bases={"BASE": "tool"}, parts={"extra": "program"}
    )  # fmt: skip
    (tmp_path / "over").mkdir()
    (tmp_path / "over" / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nCOPY extra /extra\n")
    shutil.copytree(ROOT / "k8s" / "images" / "binary", tmp_path / "k8s" / "images" / "binary")
    recipes = [binary("tool"), over]

    def build() -> list[bool]:
        pantry = Pantry(tmp_path, cache, program, tmp_path / "over")
        return [built.changed for built in Builder(tmp_path, cache, said.append, pantry).build(recipes)]

    assert build() == [True, True]
    assert build() == [False, False]
    (tmp_path / "over" / "more").write_text("a file of the base")
    assert build() == [True, True]
    assert said == ["building tool", "building over"] * 2


def test_a_failed_build_leaves_the_archive_that_was(program: Path, tmp_path: Path) -> None:
    """A broken Dockerfile is told with buildah's words, and what could be used before still can."""
    broken = Recipe(name="tool", dockerfile="broken/Dockerfile", parts={"program": "program"})
    (tmp_path / "broken").mkdir()
    recipe_file = tmp_path / "broken" / "Dockerfile"
    builder = Builder(tmp_path, tmp_path / "cache", lambda _: None, Pantry(tmp_path, tmp_path / "cache", program))
    recipe_file.write_text("FROM scratch\nCOPY program /program\n")
    (built,) = builder.build([broken])
    before = Path(built.archive).read_bytes()
    recipe_file.write_text("FROM scratch\nCOPY nothing /program\n")
    with pytest.raises(BuildFailed, match="nothing"):
        builder.build([broken])
    assert Path(built.archive).read_bytes() == before
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    recipe_file.write_text("FROM scratch\nCOPY program /program\n")
    assert builder.build([broken])[0].changed is False
