"""A certificate that somebody else renews while the server runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from tests.certificates import Authority

from marketfeed.domain.errors import SettingError
from marketfeed.runtime.access_settings import AccessSettings
from marketfeed.runtime.tls_files import TlsFiles, tls_of
from marketfeed.runtime.watched_files import WatchedFiles, read_bounded


@pytest.fixture(autouse=True)
def _always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marketfeed.runtime.watched_files.LOOK_EVERY_S", 0.0)


def test_a_renewed_pair_is_read_once_and_half_of_one_never(tmp_path: Path) -> None:
    """While certificate and key do not fit together the old ones stay; once they do, they are new once."""
    authority = Authority()
    old, new = authority.server(), authority.server()
    cert, key = old.write(tmp_path, "tls")
    files = TlsFiles(cert, key, None)
    assert (files.material.chain, files.asks_clients, files.renewed()) == (old.cert, False, None)
    cert.write_bytes(new.cert)
    assert files.renewed() is None
    assert files.material.chain == old.cert
    key.write_bytes(new.key)
    renewed = files.renewed()
    assert renewed is not None
    assert (renewed.chain, renewed.key) == (new.cert, new.key)
    assert files.renewed() is None
    cert.unlink()
    assert files.renewed() is None
    assert files.material.chain == new.cert


def test_files_that_cannot_serve_are_refused_at_the_start(tmp_path: Path) -> None:
    """One sentence each, and nobody is asked for a password on a terminal."""
    authority = Authority()
    pair, other = authority.server(), authority.server()
    cert, key = pair.write(tmp_path, "tls")
    _, other_key = other.write(tmp_path, "other")
    locked = tmp_path / "locked.key"
    private = load_pem_private_key(pair.key, None)
    locked.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    nothing = tmp_path / "nothing"
    nothing.write_text("hello")
    for given, sentence in (
        ((cert, other_key, None), "are no pair that can be used"),
        ((cert, locked, None), "are no pair that can be used"),
        ((cert, tmp_path / "none", None), "cannot be read"),
        ((cert, key, nothing), "GRPC_CLIENT_CA_FILE: .* holds no certificate"),
    ):
        with pytest.raises(SettingError, match=sentence):
            TlsFiles(*given)


def test_settings_of_tls_belong_together(tmp_path: Path) -> None:
    """A certificate without its key, or an authority for clients without TLS, is a mistake and not a plain port."""
    assert tls_of(AccessSettings()) is None
    pair = Authority().server()
    cert, key = pair.write(tmp_path, "tls")
    found = tls_of(AccessSettings(grpc_cert_file=cert, grpc_key_file=key, grpc_client_ca_file=cert))
    assert found is not None
    assert found.asks_clients
    for wrong in ({"grpc_cert_file": cert}, {"grpc_key_file": key}, {"grpc_client_ca_file": cert}):
        with pytest.raises(SettingError):
            tls_of(AccessSettings(**wrong))  # type: ignore[arg-type]


def test_files_are_looked_at_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often somebody asks; and what is endless is not read."""
    monkeypatch.setattr("marketfeed.runtime.watched_files.LOOK_EVERY_S", 3600.0)
    file = tmp_path / "f"
    watched = WatchedFiles([file])
    assert watched.changed()
    file.write_text("x")
    assert not watched.changed()
    with file.open("wb") as endless:
        endless.truncate(2 << 20)
    with pytest.raises(SettingError, match="is longer than"):
        read_bounded(file, "--x")
