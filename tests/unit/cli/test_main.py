"""The `marketfeed` command."""

import pytest

from marketfeed.cli.main import COMMANDS, Command, main, usage


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The help names each sub-command, and is an error only when nothing was asked for."""
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert shown == usage()
    assert all(f"  {name} " in shown for name in COMMANDS)
    assert main([]) == 2


def test_a_misspelt_command_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence, exit code 2."""
    assert main(["injest"]) == 2
    assert capsys.readouterr().err == "marketfeed: there is no command 'injest'; `marketfeed --help` lists them\n"


def test_a_missing_package_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An image without a service's packages says which extra to install."""
    monkeypatch.setitem(COMMANDS, "demo", Command("no_such_package.module", "main", "local", ""))
    assert main(["demo"]) == 1
    assert "no_such_package is not installed" in (said := capsys.readouterr().err)
    assert "pip install 'marketfeed[local]'" in said


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version of the installed distribution."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("marketfeed 0.")
