"""The operator's settings: read from the environment, checked, and refused where they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from marketfeed_operator.cluster_errors import OperatorSettingError
from marketfeed_operator.settings import OperatorSettings


def test_values_come_from_the_environment() -> None:
    """Lists, numbers and paths are read as such; foreign variables are no matter."""
    settings = OperatorSettings.load(
        {
            "MARKETFEED_OPERATOR_NAMESPACES": "a, b,",
            "MARKETFEED_OPERATOR_WORKERS": "3",
            "MARKETFEED_OPERATOR_POLL_TIMEOUT_S": "0.5",
            "MARKETFEED_OPERATOR_SERVICE_ACCOUNT_DIR": "/x",
            "PATH": "/bin",
        }
    )
    assert settings.namespaces == ("a", "b")
    assert (settings.workers, settings.poll_timeout_s, settings.service_account_dir) == (3, 0.5, "/x")


@pytest.mark.parametrize(
    ("name", "text"), [("MARKETFEED_OPERATOR_WORKER", "3"), ("MARKETFEED_OPERATOR_WORKERS", "many")]
)
def test_a_misspelt_or_unreadable_setting_is_refused_by_name(name: str, text: str) -> None:
    """The sentence names the variable."""
    with pytest.raises(OperatorSettingError, match=name):
        OperatorSettings.load({name: text})


def test_the_lease_lives_in_the_pods_own_namespace(tmp_path: Path) -> None:
    """The mounted namespace file names it, a setting overrules it."""
    (tmp_path / "namespace").write_text("ops\n")
    assert OperatorSettings(service_account_dir=str(tmp_path)).own_namespace() == "ops"
    assert OperatorSettings(service_account_dir=str(tmp_path), lease_namespace="x").own_namespace() == "x"
    assert OperatorSettings(service_account_dir=str(tmp_path / "none")).own_namespace() == "default"
