"""Settings are declared once and read strictly."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import pytest

from marketfeed.domain.errors import SettingError
from marketfeed.runtime.settings import (
    REQUIRED,
    Settings,
    add_arguments,
    known_variables,
    overrides_of,
    setting,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Example(Settings):
    feed: str = setting(REQUIRED, "feed id")
    rate: int = setting(10, "trades per second")
    share: float = setting(0.5, "share of late trades")
    fast: bool = setting(False, "go fast")
    symbols: tuple[str, ...] = setting((), "symbols")
    state_dir: Path | None = setting(None, "folder")
    api_key: str | None = setting(None, "key", secret=True)
    mode: str = setting("a", "mode", choices=("a", "b"))


def test_environment_is_read_by_type() -> None:
    """Every supported type is made from its text."""
    env = {
        "MARKETFEED_FEED": "x",
        "MARKETFEED_RATE": "7",
        "MARKETFEED_FAST": "yes",
        "MARKETFEED_SYMBOLS": "A, B,,C",
        "MARKETFEED_STATE_DIR": "some/where",
        "PATH": "ignored",
    }
    loaded = Example.load(env=env)
    assert (loaded.feed, loaded.rate, loaded.fast, loaded.symbols) == ("x", 7, True, ("A", "B", "C"))
    assert loaded.state_dir == Path("some/where")
    assert loaded.share == 0.5


def test_a_flag_wins_over_the_environment() -> None:
    """Flag, then environment, then default."""
    parser = argparse.ArgumentParser()
    add_arguments(parser, Example)
    given = overrides_of(parser.parse_args(["--rate", "3", "--fast", "--feed", "f"]), Example)
    loaded = Example.load(given, env={"MARKETFEED_RATE": "9"})
    assert (loaded.rate, loaded.fast, loaded.share) == (3, True, 0.5)


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ({}, "MARKETFEED_FEED"),
        ({"MARKETFEED_FEED": "x", "MARKETFEED_RATE": "many"}, "MARKETFEED_RATE"),
        ({"MARKETFEED_FEED": "x", "MARKETFEED_FAST": "perhaps"}, "MARKETFEED_FAST"),
        ({"MARKETFEED_FEED": "x", "MARKETFEED_MODE": "c"}, "MARKETFEED_MODE"),
        ({"MARKETFEED_FEED": "x", "MARKETFEED_RAET": "1"}, "MARKETFEED_RAET"),
    ],
)
def test_a_wrong_setting_is_named(env: dict[str, str], name: str) -> None:
    """A missing, unreadable or misspelt setting raises an error that names it."""
    with pytest.raises(SettingError) as raised:
        Example.load(env=env)
    assert raised.value.name == name


def test_another_services_setting_is_not_refused() -> None:
    """Services share one environment; a name that any of them knows is fine."""
    assert "MARKETFEED_HTTP_PORT" in known_variables()
    assert Example.load(env={"MARKETFEED_FEED": "x", "MARKETFEED_LOG_LEVEL": "debug"}).log_level == "debug"


def test_summary_masks_secrets() -> None:
    """What is printed at the start shows everything but secrets."""
    summary = Example.load(env={"MARKETFEED_FEED": "x", "MARKETFEED_API_KEY": "k123"}).summary()
    assert summary["api_key"] == "***"
    assert summary["feed"] == "x"


def test_help_names_meaning_default_and_variable() -> None:
    """The help is enough to set a value without a manual."""
    parser = argparse.ArgumentParser()
    add_arguments(parser, Example)
    text = " ".join(parser.format_help().split())
    assert "--share NUMBER share of late trades (default 0.5; MARKETFEED_SHARE)" in text
    assert "feed id (required; MARKETFEED_FEED)" in text
