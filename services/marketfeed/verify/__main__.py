"""Starts the comparison: `python -m marketfeed.verify`, the same as `marketfeed verify`."""

import sys

from marketfeed.verify.app import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
