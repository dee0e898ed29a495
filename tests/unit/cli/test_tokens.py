"""`marketfeed token`: what it signs is what mds takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from marketfeed.adapters.tokens import gate_of
from marketfeed.cli.tokens import main
from marketfeed.mds.settings import MdsSettings


def test_a_secret_and_a_token_made_by_it_let_one_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands of docs/access.md, one after the other."""
    assert main(["--new-secret"]) == 0
    secret = tmp_path / "secret"
    secret.write_text(capsys.readouterr().out)
    signed = ["--key", str(secret), "--issuer", "me", "--subject", "alice", "--symbols", "AAPL,BINANCE:*", "--orders"]
    assert main([*signed, "--for", "1m", "--connections", "3"]) == 0
    token = capsys.readouterr().out.strip()
    settings = {"jwt_algorithm": "HS256", "jwt_key_file": str(secret), "jwt_issuer": "me"}
    found = gate_of(MdsSettings.load(settings, env={})).admit(token)
    assert (found.subject, found.connections_max, found.symbols_max) == ("alice", 3, None)
    assert (found.may_see("BINANCE:BTCUSDT"), found.may_see("MSFT")) == (True, False)
    assert found.may_call("/marketfeed.v1.Orders/SubmitOrder")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--key: is missing"),
        (["--key", "/nowhere"], "--issuer: is missing"),
        (["--key", "/nowhere", "--issuer", "me", "--subject", "a"], "--key: /nowhere cannot be read"),
        (["--key", "x", "--issuer", "me", "--subject", "a", "--for", "soon"], "write a time such as 30s"),
        (["--key", "x", "--issuer", "me", "--subject", "a", "--symbols", "A*B"], "the token's mf.symbols must hold"),
    ],
)
def test_a_wrong_argument_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and no token."""
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert not said.out


def test_a_key_of_another_kind_cannot_sign(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said before anybody is handed a token that nobody takes."""
    key = tmp_path / "key"
    key.write_text("no private key")
    assert main(["--algorithm", "ES256", "--key", str(key), "--issuer", "me", "--subject", "a"]) == 2
    assert "cannot sign by ES256" in capsys.readouterr().err
