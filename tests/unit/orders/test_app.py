"""Settings become rules, or a sentence that says what to do."""

from __future__ import annotations

import pytest

from marketfeed.domain.access import OPEN, granted
from marketfeed.domain.errors import SettingError
from marketfeed.domain.trades import NANOS
from marketfeed.orders.app import rules_of
from marketfeed.orders.calls import account_of
from marketfeed.orders.settings import OrdersSettings


def test_the_defaults_are_those_of_stocks() -> None:
    """A cent from one dollar on, a hundredth of it below; ten per cent of collar."""
    rules = rules_of(OrdersSettings())
    assert (rules.ticks.of(NANOS), rules.ticks.of(NANOS - 1)) == (10_000_000, 100_000)
    assert (rules.lot, rules.collar_bps) == (1_000, 1_000)


@pytest.mark.parametrize(
    ("name", "value"), [("ticks", "0.01"), ("lot", "0"), ("lot", "x"), ("quantity_max", "-1"), ("collar_pct", 0.0)]
)
def test_a_setting_that_means_nothing_is_named(name: str, value: object) -> None:
    """By its flag."""
    with pytest.raises(SettingError, match=name.replace("_", "-")):
        rules_of(OrdersSettings(**{name: value}))  # type: ignore[arg-type]


def test_without_authentication_everybody_is_one_account() -> None:
    """With it, each subject is one of its own."""
    assert account_of(OPEN) == "paper"
    assert account_of(granted("desk", {})) == "desk"
