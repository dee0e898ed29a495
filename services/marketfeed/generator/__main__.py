"""Starts the generator: `python -m marketfeed.generator`, the same as `marketfeed generator`."""

import sys

from marketfeed.generator.app import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
