"""The commands of this package: arguments in, exit code out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from marketfeed.local.demo import run_demo
from marketfeed.local.serve import serve
from marketfeed.local.settings import DemoSettings, StackSettings
from marketfeed.runtime.command import SERVICE_FIELDS, run
from marketfeed.runtime.settings import add_arguments, overrides_of

_DEMO_EXAMPLES = """\
examples:
  marketfeed demo                                            a price that moves, until Ctrl-C
  marketfeed demo --rate 100000 --symbols 1000 --for 2m      a load, then the proof that nothing was lost
  marketfeed demo --fault disconnect@20,triple@30+5 --for 1m faults of a real feed, survived
  FINNHUB_API_KEY=… marketfeed demo --source finnhub --symbols AAPL,BINANCE:BTCUSDT

exit codes: 0 ended in order (with --for: what was stored equals what was sent), 1 it does not or a server died,
2 a setting is wrong
"""

_DEMO_GROUPS = {
    "feed": {"source", "rate", "symbols", "seed", "fault", "finnhub_url", "finnhub_rest_url", "finnhub_api_key"},
    "services": {"shards", "feed", "calendar", "store_trades", "grpc_port", "orders", "orders_port"},
    "page": {"port", "open_page", "page"},
    "servers (all three addresses, or none to have them started)": {"state_dir", "kafka", "redis", "postgres"},
}


def stack(argv: Sequence[str]) -> int:
    """`marketfeed stack`: the embedded servers until stopped."""
    parser = argparse.ArgumentParser(
        prog="marketfeed stack",
        description="Run real Kafka, Valkey and PostgreSQL on free ports and print their addresses, until stopped.",
        epilog="example: marketfeed stack > stack.env &   and then   . ./stack.env",
    )
    add_arguments(parser, StackSettings, skip=SERVICE_FIELDS)
    namespace = parser.parse_args(argv)
    return run("stack", lambda: serve(StackSettings.load(overrides_of(namespace, StackSettings))))


def demo(argv: Sequence[str]) -> int:
    """`marketfeed demo`: servers, feed, services, page."""
    parser = argparse.ArgumentParser(
        prog="marketfeed demo",
        description="Run the whole pipeline on this machine: real Kafka, Valkey and PostgreSQL, a feed, ingest,\n"
        "recorder, mds and the live page, each a process of its own. A service that dies is started again.",
        epilog=_DEMO_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    every = frozenset(DemoSettings.__dataclass_fields__)
    for title, names in _DEMO_GROUPS.items():
        add_arguments(parser, DemoSettings, skip=every - names, title=title)
    parser.add_argument("--open", dest="open_page", action="store_const", const="true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--for",
        "--duration",
        dest="duration",
        metavar="TIME",
        help="end after this time (30s, 2m, 1h), then compare what is in Kafka, PostgreSQL and Redis with what the "
        "generator sent, and exit 0 only if they are equal (default: run until Ctrl-C; MARKETFEED_DURATION)",
    )
    namespace = parser.parse_args(argv)
    return run("demo", lambda: run_demo(DemoSettings.load(overrides_of(namespace, DemoSettings))))
