"""Starts the order service: `python -m marketfeed.orders`, the same as `marketfeed orders`."""

import sys

from marketfeed.orders.app import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
