"""The contracts in protos/ may grow, and may not break those who use them (protos/buf.yaml)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROTOS = Path(__file__).parents[2] / "protos"
BUF = Path(sys.executable).parent / "buf"
ORDERS = "marketfeed/v1/orders.proto"


def buf(*args: str) -> tuple[int, str]:
    done = subprocess.run([BUF, *args], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def protos(tmp_path: Path) -> Path:
    """A copy of protos/ to change."""
    return Path(shutil.copytree(PROTOS, tmp_path / "protos"))


def change(protos: Path, old: str, new: str) -> tuple[int, str]:
    text = (protos / ORDERS).read_text()
    assert text.count(old) == 1
    (protos / ORDERS).write_text(text.replace(old, new))
    return buf("breaking", str(protos), "--against", str(PROTOS / "published.yaml"))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("  string account = 3;", "  string owner = 3;", "account"),
        ("  string account = 3;", "  uint64 account = 3;", "type"),
        ("  ORDER_STATE_SUSPENDED = 8;", "", "deleted"),
        ("  rpc GetOrder(GetOrderRequest) returns (GetOrderResponse);", "", "GetOrder"),
    ],
)
def test_what_breaks_a_client_is_named(protos: Path, old: str, new: str, complaint: str) -> None:
    """A field renamed or of another type, a state or a call gone: each is refused, and the message says which."""
    code, output = change(protos, old, new)
    assert code == 100
    assert complaint in output


def test_the_contracts_may_grow(protos: Path) -> None:
    """A new state beside the others breaks nobody."""
    grown = "  ORDER_STATE_SUSPENDED = 8;\n  ORDER_STATE_NEW = 9;"
    assert change(protos, "  ORDER_STATE_SUSPENDED = 8;", grown) == (0, "")


def test_a_call_needs_its_sentence(protos: Path) -> None:
    """Lint refuses a call without documentation."""
    change(protos, "  // One order by the id that its client gave it. NOT_FOUND for none of the account's.\n", "")
    code, output = buf("lint", str(protos))
    assert code == 100
    assert 'RPC "GetOrder"' in output
