"""Every way in which a token can be bad, and keys that are exchanged while tokens come."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from marketfeed.adapters import tokens
from marketfeed.adapters.tokens import TOKEN_BYTES_MAX, TokenGate, Verifier, gate_of, key_set, new_secret, sign
from marketfeed.domain.access import OPEN, SHARED, AccessDenied, Denial
from marketfeed.domain.errors import SettingError
from marketfeed.mds.settings import MdsSettings

ISSUER, AUDIENCE = "https://issuer.example", "marketfeed"
SECRET = "0123456789abcdef0123456789abcdef"
OURS, THEIRS = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def pem(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def private_pem(key: Any) -> bytes:
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def jwk(key: Any, kid: str, **more: object) -> dict[str, object]:
    made = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**made, "kid": kid, **more}


def jwks(*keys: dict[str, object]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def verifier(data: bytes, algorithm: str = "ES256") -> Verifier:
    return Verifier(key_set(algorithm, data, "--jwt-key-file"), ISSUER, AUDIENCE)


def payload(**changes: object) -> dict[str, object]:
    now = int(time.time())
    made: dict[str, object] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "exp": now + 60,
        "mf": {"symbols": ["*"]},
    }
    return {name: value for name, value in {**made, **changes}.items() if value is not None}


def made(key: Any = OURS, algorithm: str = "ES256", headers: dict[str, Any] | None = None, **changes: object) -> str:
    return jwt.encode(payload(**changes), key, algorithm=algorithm, headers=headers)


def by_hand(header: dict[str, object], body: object = None, signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(payload() if body is None else body).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


NOW = time.time()
_HMAC_OF_PUBLIC_KEY = jwt.get_algorithm_by_name("HS256")


def confused() -> str:
    """Signed by HS256 with the public key, which everybody knows, as the secret."""
    unsigned = by_hand({"alg": "HS256", "kid": "one"}).rpartition(".")[0]
    digest = _HMAC_OF_PUBLIC_KEY.sign(unsigned.encode(), pem(OURS))
    return unsigned + "." + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def doctored() -> str:
    """A genuine signature below claims that were changed."""
    head, _, signature = made(headers={"kid": "one"}).split(".")
    body = base64.urlsafe_b64encode(json.dumps(payload(sub="root")).encode()).decode().rstrip("=")
    return f"{head}.{body}.{signature}"


BAD: dict[str, tuple[Denial, Callable[[], str]]] = {
    "none": (Denial.ALGORITHM, lambda: by_hand({"alg": "none"})),
    "none in capitals": (Denial.ALGORITHM, lambda: by_hand({"alg": "NONE"})),
    "no algorithm": (Denial.ALGORITHM, lambda: by_hand({"typ": "JWT"})),
    "algorithm is a list": (Denial.ALGORITHM, lambda: by_hand({"alg": ["ES256"]})),
    "public key as HMAC secret": (Denial.ALGORITHM, confused),
    "RSA in place of EC": (Denial.ALGORITHM, lambda: made(RSA_KEY, "RS256", {"kid": "one"})),
    "EdDSA in place of EC": (Denial.ALGORITHM, lambda: made(ED_KEY, "EdDSA", {"kid": "one"})),
    "another key": (Denial.SIGNATURE, lambda: made(THEIRS, headers={"kid": "one"})),
    "changed claims": (Denial.SIGNATURE, doctored),
    "no signature": (Denial.SIGNATURE, lambda: made(headers={"kid": "one"}).rpartition(".")[0] + "."),
    "unknown kid": (Denial.KEY, lambda: made(headers={"kid": "three"})),
    "no kid among two keys": (Denial.KEY, made),
    "kid is a number": (Denial.MALFORMED, lambda: by_hand({"alg": "ES256", "kid": 7})),
    "kid is a path": (Denial.KEY, lambda: made(headers={"kid": "../../etc/passwd"})),
    "own key in the header": (
        Denial.SIGNATURE, lambda: made(THEIRS, headers={"kid": "one", "jwk": jwk(THEIRS, "one")}),
    ),
    "address of keys in the header": (
        Denial.KEY, lambda: made(THEIRS, headers={"kid": "x", "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/"}),
    ),
    "crit": (Denial.MALFORMED, lambda: made(headers={"kid": "one", "crit": ["b64"], "b64": True})),
    "unknown crit": (Denial.MALFORMED, lambda: by_hand({"alg": "ES256", "kid": "one", "crit": ["x"], "x": 1})),
    "payload apart": (Denial.MALFORMED, lambda: by_hand({"alg": "ES256", "kid": "one", "b64": False})),
    "expired": (Denial.EXPIRED, lambda: made(headers={"kid": "one"}, exp=int(NOW) - 60)),
    "not yet": (Denial.EARLY, lambda: made(headers={"kid": "one"}, nbf=int(NOW) + 600)),
    "issued in the future": (Denial.EARLY, lambda: made(headers={"kid": "one"}, iat=int(NOW) + 600)),
    "other audience": (Denial.AUDIENCE, lambda: made(headers={"kid": "one"}, aud="another")),
    "other audiences": (Denial.AUDIENCE, lambda: made(headers={"kid": "one"}, aud=["a", "b"])),
    "other issuer": (Denial.ISSUER, lambda: made(headers={"kid": "one"}, iss="https://other.example")),
    "no exp": (Denial.CLAIMS, lambda: made(headers={"kid": "one"}, exp=None)),
    "no aud": (Denial.CLAIMS, lambda: made(headers={"kid": "one"}, aud=None)),
    "no iss": (Denial.CLAIMS, lambda: made(headers={"kid": "one"}, iss=None)),
    "no sub": (Denial.CLAIMS, lambda: made(headers={"kid": "one"}, sub=None)),
    "wrong mf": (Denial.CLAIMS, lambda: made(headers={"kid": "one"}, mf={"symbols": "AAPL"})),
    "endless exp": (Denial.MALFORMED, lambda: made(headers={"kid": "one"}, exp=float("inf"))),
    "exp is no number": (Denial.MALFORMED, lambda: made(headers={"kid": "one"}, exp="soon")),
    "oversized": (Denial.TOO_LONG, lambda: made(headers={"kid": "one"}, sub="a" * TOKEN_BYTES_MAX)),
    "not ASCII": (Denial.MALFORMED, lambda: made() + "é"),
    "two parts": (Denial.MALFORMED, lambda: "a.b"),
    "five parts (encrypted)": (Denial.MALFORMED, lambda: "a.b.c.d.e"),
    "header is no object": (Denial.MALFORMED, lambda: by_hand([1, 2])),  # type: ignore[arg-type]
    "deep header": (
        Denial.MALFORMED, lambda: base64.urlsafe_b64encode(b"[" * 4000).decode().rstrip("=") + ".e30.AA",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_token_is_refused_by_its_fault(name: str) -> None:
    """One code for each, a sentence, and never a principal."""
    denial, token = BAD[name]
    two_keys = jwks(jwk(OURS, "one"), jwk(ec.generate_private_key(ec.SECP256R1()), "two"))
    with pytest.raises(AccessDenied) as denied:
        verifier(two_keys).principal(token())
    assert denied.value.denial is denial, denied.value
    assert denied.value.message


def test_a_genuine_token_is_taken_by_each_family() -> None:
    """The algorithm is the configuration's; the key a set, a PEM or a secret."""
    private = {"ES256": OURS, "RS256": RSA_KEY, "EdDSA": ED_KEY}
    as_jwk = {"ES256": ECAlgorithm, "RS256": RSAAlgorithm, "EdDSA": OKPAlgorithm}
    for algorithm, key in private.items():
        one = {**as_jwk[algorithm].to_jwk(key.public_key(), as_dict=True), "kid": "k"}  # type: ignore[attr-defined]
        for data in (pem(key), jwks(one), json.dumps(one).encode()):
            for headers in (None, {"kid": "k"}):
                found = verifier(data, algorithm).principal(made(key, algorithm, headers))
                assert (found.subject, found.may_see("AAPL")) == ("alice", True)
    for data in (SECRET.encode() + b"\n", jwks({"kty": "oct", "k": _b64(SECRET), "kid": "k"})):
        assert verifier(data, "HS256").principal(made(SECRET, "HS256")).subject == "alice"


def _b64(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def test_a_token_holds_a_little_longer_than_it_says() -> None:
    """Clocks differ: five seconds, and no more."""
    one = verifier(pem(OURS))
    assert one.principal(made(exp=int(time.time()) - 2)).subject == "alice"
    with pytest.raises(AccessDenied):
        one.principal(made(exp=int(time.time()) - 7))


@given(st.text(max_size=200) | st.builds(lambda *parts: ".".join(parts), st.text(), st.text(), st.text()))
def test_any_text_is_a_token_or_a_denial(text: str) -> None:
    """Nothing else is raised, whatever is sent."""
    with pytest.raises(AccessDenied):
        verifier(pem(OURS)).principal(text)


KEYS_REFUSED: dict[str, tuple[str, bytes, str]] = {
    "nothing": ("ES256", b"", "holds no key for ES256"),
    "no key": ("ES256", b"hello", "holds no key for ES256"),
    "an empty set": ("ES256", b'{"keys": []}', "has no key for ES256"),
    "keys that are no list": ("ES256", b'{"keys": 7}', "holds no key for ES256"),
    "only secrets": ("ES256", jwks({"kty": "oct", "k": "AAAA", "kid": "x"}), "has no key for ES256"),
    "only for encryption": ("ES256", jwks(jwk(OURS, "x", use="enc")), "has no key for ES256"),
    "of another algorithm": ("ES256", jwks(jwk(OURS, "x", alg="ES384")), "has no key for ES256"),
    "of another curve": ("ES256", pem(ec.generate_private_key(ec.SECP384R1())), "holds no key for ES256"),
    "of another family": ("RS256", pem(OURS), "holds no key for RS256"),
    "twice the same kid": ("ES256", jwks(jwk(OURS, "x"), jwk(THEIRS, "x")), "two keys of the kid 'x'"),
    "private": ("ES256", private_pem(OURS), "holds a private key"),
    "private in a set": (
        "ES256", jwks({**ECAlgorithm.to_jwk(OURS, as_dict=True), "kid": "x"}), "holds a private key",
    ),
    "RSA of 1024 bits": ("RS256", pem(rsa.generate_private_key(65537, 1024)), "too short a key"),
    "a short secret": ("HS256", b"secret", "too short a key"),
    "a public key as secret": ("HS256", pem(OURS), "holds no key for HS256"),
}  # fmt: skip


@pytest.mark.parametrize("name", KEYS_REFUSED)
def test_keys_that_cannot_be_used_are_refused_at_the_start(name: str) -> None:
    """One sentence that says what is wrong with the file."""
    algorithm, data, sentence = KEYS_REFUSED[name]
    with pytest.raises(SettingError, match=sentence):
        key_set(algorithm, data, "--jwt-key-file")


def test_keys_are_read_again_when_their_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new key is taken and the old one no longer; a broken file changes nothing until it is whole."""
    monkeypatch.setattr("marketfeed.runtime.watched_files.LOOK_EVERY_S", 0.0)
    file = tmp_path / "keys.json"
    file.write_bytes(jwks(jwk(OURS, "one")))
    settings = {"jwt_key_file": str(file), "jwt_algorithm": "ES256", "jwt_issuer": ISSUER}
    gate = gate_of(MdsSettings.load(settings, env={}))
    old, new = made(headers={"kid": "one"}), made(THEIRS, headers={"kid": "two"})
    assert gate.admit(old).subject == "alice"
    _refused(gate, new, Denial.KEY)
    file.write_bytes(b'{"keys": [')
    assert gate.admit(old).subject == "alice"
    replaced = tmp_path / "next"
    replaced.write_bytes(jwks(jwk(OURS, "one"), jwk(THEIRS, "two")))
    replaced.rename(file)
    assert gate.admit(old).subject == gate.admit(new).subject == "alice"
    file.write_bytes(jwks(jwk(THEIRS, "two")))
    assert gate.admit(new).subject == "alice"
    _refused(gate, old, Denial.KEY)
    file.unlink()
    assert gate.admit(new).subject == "alice"


def _refused(gate: TokenGate, token: str | None, denial: Denial) -> None:
    with pytest.raises(AccessDenied) as denied:
        gate.admit(token)
    assert denied.value.denial is denial


def test_the_shared_token_goes_on_working() -> None:
    """Alone, and beside tokens of an issuer; an empty one is none."""
    gate = gate_of(MdsSettings.load({"client_token": "secret"}, env={}))
    assert gate.admit("secret") is SHARED
    _refused(gate, "secre", Denial.FAILED)
    _refused(gate, "\ud800", Denial.FAILED)
    _refused(gate, "", Denial.REQUIRED)
    _refused(gate, None, Denial.REQUIRED)
    both = {"client_token": "secret", "jwt_secret": SECRET, "jwt_algorithm": "HS256", "jwt_issuer": ISSUER}
    gate = gate_of(MdsSettings.load(both, env={}))
    assert gate.admit("secret") is SHARED
    assert gate.admit(made(SECRET, "HS256")).subject == "alice"
    _refused(gate, "other", Denial.MALFORMED)


SETTINGS_REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "nothing at all": ({}, "MARKETFEED_OPEN: is not set and no token is.*--jwt-key-file.*--client-token.*--open"),
    "open and a token": ({"open": "yes", "client_token": "x"}, "MARKETFEED_OPEN: lets everybody in"),
    "a secret and a file": (
        {"jwt_secret": SECRET, "jwt_key_file": "/x", "jwt_algorithm": "HS256"}, "MARKETFEED_JWT_SECRET: is set beside",
    ),
    "no algorithm": ({"jwt_secret": SECRET, "jwt_issuer": ISSUER}, "MARKETFEED_JWT_ALGORITHM: is not set"),
    "no issuer": ({"jwt_secret": SECRET, "jwt_algorithm": "HS256"}, "MARKETFEED_JWT_ISSUER: is not set"),
    "an issuer without keys": ({"jwt_issuer": ISSUER}, "MARKETFEED_JWT_KEY_FILE: is not set"),
    "a secret for EC": (
        {"jwt_secret": SECRET, "jwt_algorithm": "ES256", "jwt_issuer": ISSUER}, "MARKETFEED_JWT_SECRET: is for HS256",
    ),
    "a file that is not there": (
        {"jwt_key_file": "/nowhere", "jwt_algorithm": "ES256", "jwt_issuer": ISSUER}, "/nowhere cannot be read",
    ),
    "grants that are not there": ({"open": "yes", "grpc_grants_file": "/nowhere"}, "GRANTS_FILE: /nowhere cannot"),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS_REFUSED)
def test_settings_that_let_nobody_or_everybody_in_are_refused(name: str) -> None:
    """mds does not start, and one sentence says what to set."""
    settings, sentence = SETTINGS_REFUSED[name]
    with pytest.raises(SettingError, match=sentence):
        gate_of(MdsSettings.load(settings, env={}))


def test_an_open_server_asks_nobody() -> None:
    """It is switched on in so many words."""
    gate = gate_of(MdsSettings.load({}, env={"MARKETFEED_OPEN": "true"}))
    assert gate.open
    assert gate.admit(None) is gate.admit("whatever") is OPEN


def test_certificates_are_granted_by_name(tmp_path: Path) -> None:
    """The first name that is listed counts, else `*`; without a list all market data and no orders."""
    orders = "/marketfeed.v1.Orders/SubmitOrder"
    alone = TokenGate()
    assert alone.certified(["spiffe://a/b", "cn"]).subject == "spiffe://a/b"
    assert alone.certified(["cn"]).may_wildcard()
    assert not alone.certified(["cn"]).may_call(orders)
    with pytest.raises(AccessDenied):
        alone.certified([""])
    file = tmp_path / "grants.json"
    file.write_text(json.dumps({"spiffe://desk": {"symbols": ["A*"], "orders": True}}))
    gate = gate_of(MdsSettings.load({"open": "yes", "grpc_grants_file": str(file)}, env={}))
    desk = gate.certified(["other", "spiffe://desk"])
    assert (desk.subject, desk.may_call(orders), desk.may_see("AAPL"), desk.may_see("B")) == (
        "spiffe://desk", True, True, False,
    )  # fmt: skip
    with pytest.raises(AccessDenied) as denied:
        gate.certified(["other"])
    assert denied.value.denial is Denial.FORBIDDEN
    file.write_text(json.dumps({"*": {"symbols": ["A"], "symbols_max": 3}}))
    rest = gate_of(MdsSettings.load({"open": "yes", "grpc_grants_file": str(file)}, env={})).certified(["other"])
    assert (rest.subject, rest.may_see("A"), rest.may_see("B"), rest.symbols_max) == ("other", True, False, 3)
    file.write_text('{"x": {"symbols": "A"}}')
    with pytest.raises(SettingError, match="is no JSON of names"):
        gate_of(MdsSettings.load({"open": "yes", "grpc_grants_file": str(file)}, env={}))


def test_made_tokens_are_taken() -> None:
    """What `marketfeed token` signs is what mds checks, with a kid and without."""
    secret = new_secret()
    gate = verifier(secret.encode(), "HS256")
    token = sign("HS256", secret.encode(), ISSUER, AUDIENCE, "bob", {"symbols": ["A"]}, 60.0)
    assert gate.principal(token).may_see("A")
    token = sign("ES256", private_pem(OURS), ISSUER, AUDIENCE, "bob", {}, 60.0, kid="one")
    assert verifier(jwks(jwk(OURS, "one"), jwk(THEIRS, "two"))).principal(token).subject == "bob"
    with pytest.raises(SettingError, match="cannot sign by ES256"):
        sign("ES256", b"no key", ISSUER, AUDIENCE, "bob", {}, 60.0)
    assert len(tokens.new_secret()) >= 43
