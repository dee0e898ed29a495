"""Building the page, with stand-ins for the programs `node` and `npm` on the path."""

from __future__ import annotations

from pathlib import Path

import pytest

from marketfeed.domain.errors import SettingError
from marketfeed.local import ui_build
from marketfeed.local.ui_build import PageNotBuilt, build_ui, find_node, is_new_enough

NODE = """#!/bin/sh
echo "$@" >> "{log}"
case "$*" in
  --version) echo "{version}" ;;
  *"npm-cli.js ci"*) {install} ;;
  *"vite.js build"*) {bundle} ;;
esac
"""
INSTALL = "mkdir -p node_modules"
BUNDLE = 'mkdir -p "$4" && cp index.html "$4/"'


class Workshop:
    """A repository with a page, and the programs that build it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "repository"
        self.ui = self.root / "services" / "ui"
        (self.ui / "src").mkdir(parents=True)
        for name in ("package.json", "package-lock.json", "index.html", "src/main.ts"):
            (self.ui / name).write_text(f"first {name}")
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.log = folder / "calls"
        (self.bin / "npm-cli.js").touch(mode=0o755)
        (self.bin / "npm").symlink_to(self.bin / "npm-cli.js")
        self.node()

    def node(self, version: str = "v22.12.0", install: str = INSTALL, bundle: str = BUNDLE) -> None:
        node = self.bin / "node"
        node.write_text(NODE.format(log=self.log, version=version, install=install, bundle=bundle))
        node.chmod(0o755)

    def build(self) -> list[str]:
        """The steps that a build said it takes."""
        told: list[str] = []
        assert build_ui(told.append, self.root) == self.ui / "dist"
        return told


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    made = Workshop(tmp_path)
    monkeypatch.setenv("PATH", f"{made.bin}:/bin:/usr/bin")
    return made


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ((18, 20, 4), False),
        ((20, 18, 9), False),
        ((20, 19, 0), True),
        ((21, 7, 3), False),
        ((22, 11, 0), False),
        ((22, 12, 0), True),
        ((24, 1, 0), True),
    ],
)
def test_node_is_new_enough_as_vite_says(version: tuple[int, ...], enough: bool) -> None:
    """Node 20.19 and 22.12 are the first of their lines that run the build; odd 21 never does."""
    assert is_new_enough(version) is enough


def test_builds_once_and_again_only_after_a_change(workshop: Workshop) -> None:
    """The second build does nothing; a changed source bundles again; a changed lock installs again."""
    assert len(workshop.build()) == 2
    assert (workshop.ui / "dist" / "index.html").read_text() == "first index.html"
    assert workshop.build() == []
    (workshop.ui / "src" / "main.ts").write_text("second")
    assert workshop.build() == ["building the page"]
    (workshop.ui / "package-lock.json").write_text("second")
    assert len(workshop.build()) == 2


def test_a_failed_build_leaves_the_old_page_and_is_told_in_one_sentence(workshop: Workshop) -> None:
    """The tool's own error is in the sentence, and the page that was there still is."""
    workshop.build()
    (workshop.ui / "index.html").write_text("second")
    workshop.node(bundle="echo 'error: main.ts has no end' >&2; exit 1")
    with pytest.raises(PageNotBuilt, match=r"^the page could not be built: vite build: error: main.ts has no end$"):
        workshop.build()
    assert (workshop.ui / "dist" / "index.html").read_text() == "first index.html"


def test_a_failed_installation_is_tried_again(workshop: Workshop) -> None:
    """Without packages nothing is stamped, so that the next build installs them."""
    workshop.node(install="echo 'npm error network timed out' >&2; exit 1")
    with pytest.raises(PageNotBuilt, match=r"npm ci: network timed out$"):
        workshop.build()
    workshop.node()
    assert len(workshop.build()) == 2


def test_an_old_node_gives_way_to_the_packaged_one(workshop: Workshop) -> None:
    """The machine's Node is used when it is new enough, else the one from the package."""
    assert find_node().node == workshop.bin / "node"
    workshop.node(version="v18.19.0")
    packaged = find_node()
    assert packaged.node != workshop.bin / "node"
    assert is_new_enough(packaged.version)
    assert packaged.npm_cli.is_file()


def test_without_any_node_the_sentence_says_what_to_do(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on the machine nor as a package: a setting error, not a traceback."""
    workshop.node(version="v18.19.0")
    monkeypatch.setattr(ui_build.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r"20\.19 or newer is needed"):
        find_node()


def test_the_command_prints_the_folder(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    """`marketfeed ui build` says where the page is, and fails with a code and a sentence."""
    assert ui_build.main(["build", "--root", str(workshop.root)]) == 0
    assert capsys.readouterr().out.strip() == str(workshop.ui / "dist")
    assert ui_build.main(["build", "--root", str(workshop.bin)]) == 1
    assert "has no package.json" in capsys.readouterr().err
