"""The `marketfeed` command: one entry point, a sub-command per service and tool.

It parses nothing but the sub-command's name: each has its own `--help`, made from its settings. A service's package is
imported only when it is called, so that an image with the packages of one service can run that one; what is missing
for another is said in one sentence.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """A sub-command: the function that takes its arguments, the extra it needs, and its line of help."""

    module: str
    function: str
    extra: str
    help: str


GROUPS: dict[str, dict[str, Command]] = {
    "try it": {
        "demo": Command("marketfeed.local.commands", "demo", "local", "servers, a feed, services and the live page"),
        "stack": Command("marketfeed.local.commands", "stack", "local", "only the servers: Kafka, Valkey, PostgreSQL"),
        "ui": Command("marketfeed.local.ui_build", "main", "local", "`ui build`: build the page into services/ui/dist"),
    },
    "services": {
        "generator": Command("marketfeed.generator.app", "main", "generator", "a feed that speaks Finnhub's protocol"),
        "ingest": Command("marketfeed.ingest.app", "main", "ingest", "from a feed into the log"),
        "recorder": Command("marketfeed.recorder.app", "main", "recorder", "from the log into PostgreSQL and Redis"),
        "mds": Command("marketfeed.mds.app", "main", "mds", "live prices and bars to clients, and the page"),
        "orders": Command("marketfeed.orders.app", "main", "orders", "paper orders over gRPC, filled by the live tape"),
    },
    "tools": {
        "watch": Command("marketfeed.cli.watch", "main", "mds", "live prices of a running mds on the terminal"),
        "prepare": Command(
            "marketfeed.prepare.app", "main", "prepare", "wait for the servers, then `topics` and `migrate` in one"
        ),
        "topics": Command("marketfeed.prepare.app", "topics", "prepare", "make a feed's topics in Kafka"),
        "migrate": Command("marketfeed.prepare.app", "migrate_tables", "prepare", "make or update PostgreSQL's tables"),
        "history": Command(
            "marketfeed.history.app", "main", "history", "`history import`, `history replay`: CSV trades"
        ),
        "token": Command("marketfeed.cli.tokens", "main", "mds", "make a token for clients of mds, or a secret for it"),
        "health": Command("marketfeed.cli.health", "main", "generator", "ask a running service whether it is ready"),
        "verify": Command("marketfeed.verify.app", "main", "verify", "compare a feed's manifest with what was stored"),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}

_EXAMPLES = """\
examples:
  marketfeed demo                                      a price that moves, on http://127.0.0.1:8080/
  marketfeed demo --rate 100000 --symbols 1000 --for 2m    a load, then the proof that nothing was lost
  FINNHUB_API_KEY=… marketfeed demo --source finnhub --symbols AAPL,BINANCE:BTCUSDT
  marketfeed ingest --help                             every setting of a service, with default and variable

Every setting is a flag and an environment variable: --kafka is MARKETFEED_KAFKA.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command; its exit code: 0 ended in order, 1 failed, 2 wrong arguments or settings."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        sys.stdout.write(f"marketfeed {importlib.metadata.version('marketfeed')}\n")
        return 0
    command = COMMANDS.get(arguments[0])
    if command is None:
        sys.stderr.write(f"marketfeed: there is no command {arguments[0]!r}; `marketfeed --help` lists them\n")
        return 2
    return _call(arguments[0], command, arguments[1:])


def usage() -> str:
    """The help of the command itself."""
    lines = ["usage: marketfeed COMMAND [OPTION…]", ""]
    for title, commands in GROUPS.items():
        lines.append(f"{title}:")
        lines.extend(f"  {name:<11}{command.help}" for name, command in commands.items())
        lines.append("")
    return "\n".join(lines) + "\n" + _EXAMPLES


def _call(name: str, command: Command, arguments: list[str]) -> int:
    try:
        module = importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        missing = error.name or "a package"
        sys.stderr.write(
            f"marketfeed {name}: the package {missing.partition('.')[0]} is not installed; "
            f"install this command's packages by: pip install 'marketfeed[{command.extra}]'\n"
        )
        return 1
    return int(getattr(module, command.function)(arguments))


if __name__ == "__main__":
    sys.exit(main())
