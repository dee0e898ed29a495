"""Starts mds: `python -m marketfeed.mds`, the same as `marketfeed mds`."""

import sys

from marketfeed.mds.app import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
