"""A server's certificate as files that somebody else renews (cert-manager, a mesh, a person).

A pair that does not fit together, which is what one sees in the middle of a renewal, is passed over: the server goes on
with what it has and looks again.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from marketfeed.domain.errors import SettingError
from marketfeed.runtime.access_settings import AccessSettings
from marketfeed.runtime.logs import get_logger
from marketfeed.runtime.settings import variable
from marketfeed.runtime.watched_files import WatchedFiles, read_bounded

_log = get_logger("marketfeed.tls")


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """What a TLS server needs, as PEM; `client_ca` None asks clients for no certificate."""

    key: bytes
    chain: bytes
    client_ca: bytes | None


class TlsFiles:
    """The files, and what was read of them last. Raises SettingError when they cannot be used at the start."""

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        self._cert, self._key, self._client_ca = cert, key, client_ca
        self._watched = WatchedFiles([cert, key, *([client_ca] if client_ca else [])])
        self._watched.changed()
        self.material = self._read()

    @property
    def asks_clients(self) -> bool:
        """Whether clients must show a certificate."""
        return self._client_ca is not None

    def renewed(self) -> TlsMaterial | None:
        """What is new since the last look, None if nothing usable is. Any thread may call it."""
        if not self._watched.changed():
            return None
        try:
            found = self._read()
        except SettingError as error:
            _log.error("the certificate stays as it was", reason=str(error))
            self._watched.look_again()
            return None
        if found == self.material:
            return None
        self.material = found
        _log.info("certificate read again", file=str(self._cert))
        return found

    def _read(self) -> TlsMaterial:
        name = variable("grpc_cert_file")
        chain, key = read_bounded(self._cert, name), read_bounded(self._key, variable("grpc_key_file"))
        client_ca = read_bounded(self._client_ca, variable("grpc_client_ca_file")) if self._client_ca else None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self._cert, self._key, password=_no_password)
        except (OSError, ValueError) as error:
            raise SettingError(name, f"{self._cert} and {self._key} are no pair that can be used: {error}") from error
        try:
            if client_ca is not None:
                context.load_verify_locations(cadata=client_ca.decode("ascii", errors="replace"))
        except (OSError, ValueError) as error:
            name = variable("grpc_client_ca_file")
            raise SettingError(name, f"{self._client_ca} holds no certificate: {error}") from error
        return TlsMaterial(key, chain, client_ca)


def _no_password() -> str:
    """Without this OpenSSL would ask on the terminal."""
    raise ValueError("the private key is encrypted; give one that is not")


def tls_of(settings: AccessSettings) -> TlsFiles | None:
    """The certificate that settings name, None for a plain port. Raises SettingError."""
    cert, key, client_ca = settings.grpc_cert_file, settings.grpc_key_file, settings.grpc_client_ca_file
    if (cert is None) != (key is None):
        raise SettingError(variable("grpc_key_file"), "and MARKETFEED_GRPC_CERT_FILE are given together or not at all")
    if cert is None or key is None:
        if client_ca is not None:
            raise SettingError(variable("grpc_client_ca_file"), "needs TLS: give MARKETFEED_GRPC_CERT_FILE, too")
        return None
    return TlsFiles(cert, key, client_ca)
