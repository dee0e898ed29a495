"""Checks clients' tokens with PyJWT, and makes them for tests and small installations; docs/access.md tells how.

Rules of this file
- One algorithm is fixed by configuration, and each key is made for it when it is read; what a token's header says only
  chooses among these keys by `kid`. `jku`, `x5u`, `jwk` and `x5c` are never looked at, `crit` is refused.
- A token is not parsed beyond `TOKEN_BYTES_MAX` bytes.
- Keys are read again when their file changes, looked at once a second at most while tokens come. A file that cannot be
  used leaves the keys as they were, and the log says so.
"""

from __future__ import annotations

import base64
import dataclasses
import hmac
import json
import secrets
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jwt
from jwt.algorithms import get_default_algorithms

from marketfeed.domain.access import (
    ANY,
    EVERYTHING,
    MARKET_DATA_METHODS,
    OPEN,
    SHARED,
    AccessDenied,
    Denial,
    Patterns,
    Principal,
    granted,
    principal_of_claims,
)
from marketfeed.domain.errors import SettingError
from marketfeed.runtime.access_settings import AccessSettings
from marketfeed.runtime.logs import get_logger
from marketfeed.runtime.settings import flag, variable
from marketfeed.runtime.watched_files import WatchedFiles, read_bounded

_log = get_logger("marketfeed.access")

TOKEN_BYTES_MAX = 8 * 1024
LEEWAY_S = 5.0
SECRET_BYTES_MIN = 32  # RFC 7518, 3.2
_REQUIRED = ["exp", "iss", "aud", "sub"]
_KTY = {"HS256": "oct", "ES256": "EC", "RS256": "RSA", "EdDSA": "OKP"}

# What PyJWT says, the most particular first.
_DENIALS: tuple[tuple[type[Exception], Denial, str], ...] = (
    (jwt.ExpiredSignatureError, Denial.EXPIRED, "the token has expired; get a new one"),
    (jwt.ImmatureSignatureError, Denial.EARLY, "the token does not hold yet; look at the clocks"),
    (jwt.InvalidAudienceError, Denial.AUDIENCE, "the token is for another audience"),
    (jwt.InvalidIssuerError, Denial.ISSUER, "the token is of another issuer"),
    (jwt.MissingRequiredClaimError, Denial.CLAIMS, "the token lacks one of sub, iss, aud and exp"),
    (jwt.exceptions.InvalidSubjectError, Denial.CLAIMS, "the token's sub must be a text"),
    (jwt.InvalidAlgorithmError, Denial.ALGORITHM, "tokens are signed by another algorithm here"),
    (jwt.InvalidSignatureError, Denial.SIGNATURE, "the token's signature does not hold"),
)
_MALFORMED = "this is no JSON Web Token that can be read"


class KeySet:
    """Keys of one algorithm, by their `kid`; None is that of a key without one."""

    def __init__(self, algorithm: str, keys: Mapping[str | None, Any]) -> None:
        self.algorithm = algorithm
        self._keys = dict(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, kid: str | None) -> Any:
        """The key that a header names; the only one there is where it names none. Raises AccessDenied."""
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        found = self._keys.get(kid)
        if found is None:
            if list(self._keys) == [None]:
                return self._keys[None]
            raise AccessDenied(Denial.KEY, "the token is signed by a key that is not known here")
        return found


def key_set(algorithm: str, data: bytes, setting: str) -> KeySet:
    """Keys of a file's content: JWKS, one PEM, or for HS256 the secret. Raises SettingError naming the setting."""
    text = data.strip()
    try:
        if text.startswith(b"{"):
            return KeySet(algorithm, _jwks(algorithm, json.loads(text), setting))
        return KeySet(algorithm, {None: _usable(algorithm, text, setting)})
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise SettingError(setting, f"holds no key for {algorithm}: {error}") from error


def _jwks(algorithm: str, document: dict[str, Any], setting: str) -> dict[str | None, Any]:
    """The keys of a set that are meant for signatures by this algorithm; others are passed over."""
    keys: dict[str | None, Any] = {}
    for one in document.get("keys", [document]):
        fits = one.get("kty") == _KTY[algorithm] and one.get("alg", algorithm) == algorithm
        if not fits or one.get("use", "sig") != "sig":
            continue
        kid = one.get("kid")
        if kid in keys:
            raise SettingError(setting, f"has two keys of the kid {kid!r}")
        keys[kid] = _usable(algorithm, get_default_algorithms()[algorithm].from_jwk(one), setting)
    if not keys:
        raise SettingError(setting, f"has no key for {algorithm}")
    return keys


def _usable(algorithm: str, raw: Any, setting: str) -> Any:
    """A key for verifying, long enough, and no private one."""
    implementation = get_default_algorithms()[algorithm]
    key = implementation.prepare_key(raw)
    if hasattr(key, "private_bytes"):
        raise SettingError(setting, "holds a private key; only its public part belongs here")
    if problem := implementation.check_key_length(key):
        raise SettingError(setting, f"is too short a key: {problem}")
    return key


class Verifier:
    """Checks tokens of one issuer for one audience; `source` is the file of the keys, None for keys that stay."""

    def __init__(self, keys: KeySet, issuer: str, audience: str, source: Path | None = None) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._source = source
        self._watched = WatchedFiles([source]) if source else None
        if self._watched is not None:
            self._watched.changed()

    def principal(self, token: str) -> Principal:
        """Who this token is of. Raises AccessDenied."""
        if len(token) > TOKEN_BYTES_MAX:
            raise AccessDenied(Denial.TOO_LONG, f"a token has at most {TOKEN_BYTES_MAX} bytes")
        if not token.isascii():
            raise AccessDenied(Denial.MALFORMED, _MALFORMED)
        self._renew()
        return principal_of_claims(self._claims(token))

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            if "crit" in header:
                raise AccessDenied(Denial.MALFORMED, "the token asks for extensions (crit); there are none here")
            if header.get("alg") != self._keys.algorithm:
                raise jwt.InvalidAlgorithmError
            return jwt.decode(
                token,
                self._keys.key(header.get("kid")),
                algorithms=[self._keys.algorithm],
                options={"require": _REQUIRED},
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise _denied(error) from error

    def _renew(self) -> None:
        if self._source is None or self._watched is None or not self._watched.changed():
            return
        setting = variable("jwt_key_file")
        try:
            self._keys = key_set(self._keys.algorithm, read_bounded(self._source, setting), setting)
            _log.info("keys read again", keys=len(self._keys))
        except SettingError as error:
            _log.error("the keys stay as they were", reason=str(error))
            self._watched.look_again()


def _denied(error: Exception) -> AccessDenied:
    for kind, denial, message in _DENIALS:
        if isinstance(error, kind):
            return AccessDenied(denial, message)
    return AccessDenied(Denial.MALFORMED, _MALFORMED)


class TokenGate:
    """Lets in who shows a token: one of `verifier`'s, or the one that all share; everybody if it is `open`.

    grants  what a name in a client certificate grants; None: all market data and no orders
    """

    leeway_s = LEEWAY_S

    def __init__(
        self,
        *,
        open: bool = False,
        client_token: str | None = None,
        verifier: Verifier | None = None,
        grants: Mapping[str, Principal] | None = None,
    ) -> None:
        self.open = open
        self._client_token = None if client_token is None else client_token.encode()
        self._verifier = verifier
        self._grants = grants

    def admit(self, token: str | None) -> Principal:
        """Who shows this. Raises AccessDenied."""
        if self.open:
            return OPEN
        if not token:
            raise AccessDenied(Denial.REQUIRED, "show a token first; docs/access.md tells how to get one")
        shared = self._client_token
        if shared is not None and hmac.compare_digest(token.encode(errors="replace"), shared):
            return SHARED
        if self._verifier is None:
            raise AccessDenied(Denial.FAILED, "this token is not valid here")
        return self._verifier.principal(token)

    def certified(self, names: Iterable[str]) -> Principal:
        """Who shows a certificate with these names. Raises AccessDenied."""
        given = [name for name in names if name]
        if not given:
            raise AccessDenied(Denial.REQUIRED, "the client certificate names nobody")
        if self._grants is None:
            return Principal(given[0], symbols=EVERYTHING, methods=Patterns.of((MARKET_DATA_METHODS,)))
        for name in given:
            if name in self._grants:
                return self._grants[name]
        if ANY in self._grants:
            return dataclasses.replace(self._grants[ANY], subject=given[0])
        raise AccessDenied(Denial.FORBIDDEN, f"nothing is granted to {given[0]}")


def gate_of(settings: AccessSettings) -> TokenGate:
    """The gate that settings ask for. Raises SettingError, also for none."""
    verifier = _verifier_of(settings)
    closed = settings.client_token is not None or verifier is not None
    if settings.open and closed:
        raise SettingError(
            variable("open"), "lets everybody in, so a token would be asked for in vain; unset it or the tokens"
        )
    if not (settings.open or closed or settings.grpc_client_ca_file):
        raise SettingError(
            variable("open"),
            "is not set and no token is: say how clients are let in by --jwt-key-file (or --jwt-secret) with "
            f"{flag('jwt_algorithm')} and {flag('jwt_issuer')}, by --client-token, or by --open for everybody",
        )
    grants = None if settings.grpc_grants_file is None else _grants_of(settings.grpc_grants_file)
    return TokenGate(open=settings.open, client_token=settings.client_token, verifier=verifier, grants=grants)


def _verifier_of(settings: AccessSettings) -> Verifier | None:
    secret, file = settings.jwt_secret, settings.jwt_key_file
    if secret is None and file is None:
        if settings.jwt_algorithm or settings.jwt_issuer:
            raise SettingError(variable("jwt_key_file"), "is not set, nor is MARKETFEED_JWT_SECRET; tokens need one")
        return None
    if secret is not None and file is not None:
        raise SettingError(variable("jwt_secret"), "is set beside MARKETFEED_JWT_KEY_FILE; give one of them")
    if settings.jwt_algorithm is None:
        raise SettingError(variable("jwt_algorithm"), "is not set; name the one algorithm that tokens are signed by")
    if settings.jwt_issuer is None:
        raise SettingError(variable("jwt_issuer"), "is not set; name who issues the tokens (their `iss`)")
    if secret is not None:
        if settings.jwt_algorithm != "HS256":
            raise SettingError(variable("jwt_secret"), f"is for HS256; {settings.jwt_algorithm} takes a key file")
        keys = key_set("HS256", secret.encode(), variable("jwt_secret"))
        return Verifier(keys, settings.jwt_issuer, settings.jwt_audience)
    assert file is not None
    name = variable("jwt_key_file")
    keys = key_set(settings.jwt_algorithm, read_bounded(file, name), name)
    return Verifier(keys, settings.jwt_issuer, settings.jwt_audience, file)


def _grants_of(file: Path) -> dict[str, Principal]:
    name = variable("grpc_grants_file")
    try:
        document = json.loads(read_bounded(file, name))
        return {subject: granted(subject, grant) for subject, grant in document.items()}
    except (ValueError, AttributeError, AccessDenied, RecursionError) as error:
        raise SettingError(name, f"{file} is no JSON of names and what they are granted: {error}") from error


def sign(
    algorithm: str, key: bytes, issuer: str, audience: str, subject: str, grant: Mapping[str, Any], valid_s: float,
    kid: str | None = None,
) -> str:  # fmt: skip
    """A token that holds for so many seconds from now on. Raises SettingError for a key that cannot sign."""
    now_s = int(time.time())
    claims = {"iss": issuer, "aud": audience, "sub": subject, "iat": now_s, "exp": now_s + int(valid_s), "mf": grant}
    try:
        return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid} if kid else None)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise SettingError("--key", f"cannot sign by {algorithm}: {error}") from error


def new_secret() -> str:
    """A secret for HS256, as text."""
    return base64.urlsafe_b64encode(secrets.token_bytes(SECRET_BYTES_MIN)).decode().rstrip("=")
