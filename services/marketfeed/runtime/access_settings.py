"""Settings of who is let in, for every service that serves clients; docs/access.md explains them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from marketfeed.runtime.settings import Settings, setting

ALGORITHMS = ("HS256", "ES256", "RS256", "EdDSA")


@dataclass(frozen=True, kw_only=True, slots=True)
class AccessSettings(Settings):
    """Either tokens are asked for, or `open` says in so many words that they are not."""

    open: bool = setting(
        False, "let everybody in without a token; for development, and behind something that authenticates"
    )
    client_token: str | None = setting(
        None, "one token that all clients share: who shows it may read everything and trade nothing", secret=True
    )
    jwt_algorithm: str | None = setting(
        None, "the one algorithm that tokens are signed by; needed for them", choices=ALGORITHMS
    )
    jwt_secret: str | None = setting(None, "HS256: the shared secret, 32 bytes at least", secret=True)
    jwt_key_file: Path | None = setting(
        None, "file of the issuer's public keys, JWKS or PEM (HS256: of the secret); read again when it changes"
    )
    jwt_issuer: str | None = setting(None, "the `iss` that tokens must have; needed for them")
    jwt_audience: str = setting("marketfeed", "the `aud` that tokens must have")
    principal_connections_max: int = setting(
        100, "WebSockets and gRPC streams of one principal at a time, where its token names no number"
    )
    grpc_cert_file: Path | None = setting(
        None, "certificate of gRPC's port, PEM with its chain; read again when it changes; without it no TLS"
    )
    grpc_key_file: Path | None = setting(None, "private key of the same, PEM")
    grpc_client_ca_file: Path | None = setting(
        None, "authorities whose client certificates gRPC asks for; a client without one is refused"
    )
    grpc_grants_file: Path | None = setting(
        None, "JSON: name in a client certificate to what it grants; without it all market data and no orders"
    )
    grpc_reflection: bool = setting(True, "tell grpcurl and the like which methods there are")
