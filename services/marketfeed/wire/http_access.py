"""Access over HTTP, as far as headers tell: pages by their Origin (CORS), tokens by Authorization (RFC 6750)."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from marketfeed.domain.access import AccessDenied, Denial

# How long a browser may keep the answer to a preflight.
PREFLIGHT_S = 600


def origin_allowed(headers: Mapping[str, str], origins: frozenset[str] | None) -> bool:
    """Whether a page may ask; `origins` None allows all.

    Programs send no Origin; browsers do, when the page is another one's. A page of our own host is always allowed.
    """
    origin = headers.get("Origin")
    if origin is None or origins is None or origin in origins:
        return True
    try:
        return urlsplit(origin).netloc == headers.get("Host", "")
    except ValueError:  # such as http://[
        return False


def bearer_token(headers: Mapping[str, str]) -> str | None:
    """The token of `Authorization: Bearer …`, None without one. Raises AccessDenied for another scheme."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme and scheme.lower() != "bearer":
        raise AccessDenied(Denial.MALFORMED, "Authorization must be: Bearer, a space, the token")
    return token.strip() or None


def challenge(denied: AccessDenied) -> dict[str, str]:
    """What goes with a 401 (RFC 6750, 3)."""
    if denied.denial in (Denial.FORBIDDEN, Denial.FORBIDDEN_ORIGIN):
        return {}
    if denied.denial is Denial.REQUIRED:
        return {"WWW-Authenticate": "Bearer"}
    return {"WWW-Authenticate": f'Bearer error="invalid_token", error_description="{denied.message}"'}


def see_origin(headers: Mapping[str, str], origins: tuple[str, ...]) -> None:
    """Raises AccessDenied for a page of another origin, unless it is one of `origins` or they hold `*`."""
    allowed = None if "*" in origins else frozenset(origins)
    if not origin_allowed(headers, allowed):
        message = "this page's origin may not ask; MARKETFEED_ORIGINS=https://its.host lets it in"
        raise AccessDenied(Denial.FORBIDDEN_ORIGIN, message)


def cors_headers(origin: str | None, origins: tuple[str, ...]) -> dict[str, str]:
    """What lets a page of another origin read an answer, if it is one of `origins` (fetch.spec.whatwg.org, CORS)."""
    if not origins:
        return {}
    if "*" in origins:
        return {"Access-Control-Allow-Origin": "*"}
    allowed = {"Access-Control-Allow-Origin": origin} if origin is not None and origin in origins else {}
    return {"Vary": "Origin", **allowed}


def preflight_headers(origin: str | None, origins: tuple[str, ...], methods: str, headers: str) -> dict[str, str]:
    """What tells a browser that a page may use these methods and headers; nothing of it for a page that may not."""
    cors = cors_headers(origin, origins)
    if "Access-Control-Allow-Origin" not in cors:
        return cors
    asked = {"Access-Control-Allow-Methods": methods, "Access-Control-Allow-Headers": headers}
    return {**cors, **asked, "Access-Control-Max-Age": str(PREFLIGHT_S)}
