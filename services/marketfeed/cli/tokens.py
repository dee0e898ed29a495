"""`marketfeed token`: signs a token for tests and small installations, where no identity provider does it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marketfeed.adapters.tokens import new_secret, sign
from marketfeed.domain.access import OURS, AccessDenied, granted
from marketfeed.domain.errors import MarketfeedError, SettingError
from marketfeed.runtime.access_settings import ALGORITHMS, AccessSettings
from marketfeed.runtime.settings import parse_duration
from marketfeed.runtime.watched_files import read_bounded

_EXAMPLES = """\
examples:
  marketfeed token --new-secret > secret              a secret for HS256, 32 random bytes
  marketfeed token --algorithm HS256 --key secret --issuer me --subject alice --symbols '*'
  marketfeed token --algorithm ES256 --key issuer.pem --issuer me --subject desk --symbols 'AAPL,BINANCE:*' --orders
"""


def main(argv: Sequence[str] | None = None) -> int:
    """`marketfeed token`: the token on stdout."""
    options = _parser().parse_args(argv)
    try:
        line = new_secret() if options.new_secret else _signed(options)
    except MarketfeedError as error:
        sys.stderr.write(f"marketfeed token: {error}\n")
        return 2
    sys.stdout.write(line + "\n")
    return 0


def _signed(options: argparse.Namespace) -> str:
    for name in ("key", "issuer", "subject"):
        if not getattr(options, name):
            raise SettingError(f"--{name}", "is missing; `marketfeed token --help` shows examples")
    valid_s = parse_duration(options.duration)
    assert valid_s is not None
    grant = _grant(options)
    key = read_bounded(options.key, "--key").strip()
    return sign(
        options.algorithm, key, options.issuer, options.audience, options.subject, grant, valid_s, options.kid or None
    )


def _grant(options: argparse.Namespace) -> dict[str, Any]:
    """The `mf` object; what was not given is left out, as it has a meaning of its own. Raises SettingError."""
    lists = {name: _names(getattr(options, name)) for name in ("symbols", "channels", "methods")}
    bounds = {"connections": options.connections, "symbols_max": options.symbols_max}
    given = {**lists, **bounds, "orders": options.orders or None}
    grant = {name: value for name, value in given.items() if value is not None}
    try:
        granted(options.subject, grant)
    except AccessDenied as denied:
        raise SettingError(f"the claim {OURS}", denied.message) from denied
    return grant


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="marketfeed token",
        description="Sign a token that mds takes. docs/access.md explains every claim.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    audience = AccessSettings().jwt_audience
    parser.add_argument("--new-secret", action="store_true", help="only print a fresh secret for HS256")
    parser.add_argument("--algorithm", choices=ALGORITHMS, default="HS256", help="as mds' --jwt-algorithm (HS256)")
    parser.add_argument("--key", type=Path, metavar="FILE", help="the secret, or the issuer's private key as PEM")
    parser.add_argument("--kid", default="", metavar="TEXT", help="which key of mds' set this is")
    parser.add_argument("--issuer", default="", metavar="TEXT", help="as mds' --jwt-issuer")
    parser.add_argument("--audience", default=audience, metavar="TEXT", help=f"as mds' --jwt-audience ({audience})")
    parser.add_argument("--subject", default="", metavar="TEXT", help="who the token is for")
    parser.add_argument("--for", dest="duration", default="1h", metavar="TIME", help="how long it holds (1h)")
    parser.add_argument("--symbols", metavar="A,B,…", help="what may be seen: names, or beginnings such as 'BINANCE:*'")
    parser.add_argument("--channels", metavar="A,B,…", help="quotes, bars_1s, bars_1m, trades (all)")
    parser.add_argument("--methods", metavar="A,B,…", help="gRPC, such as MarketData/GetQuote (all of MarketData)")
    parser.add_argument("--orders", action="store_true", help="orders may be sent, too")
    parser.add_argument("--connections", type=int, metavar="N", help="connections at a time (mds' own bound)")
    parser.add_argument("--symbols-max", type=int, metavar="N", help="symbols of one connection (mds' own bound)")
    return parser
