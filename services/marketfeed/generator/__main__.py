"""Starts the generator: python -m marketfeed.generator."""

import sys
from collections.abc import Sequence

from marketfeed.generator.app import run
from marketfeed.generator.settings import GeneratorSettings
from marketfeed.runtime.service import main as service_main


def main(argv: Sequence[str] | None = None) -> int:
    """Serve a synthetic market over Finnhub's protocol."""
    return service_main("generator", GeneratorSettings, run, argv, main.__doc__)


if __name__ == "__main__":
    sys.exit(main())
