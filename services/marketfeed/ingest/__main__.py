"""Starts ingest: python -m marketfeed.ingest."""

import sys

from marketfeed.ingest.app import main

if __name__ == "__main__":
    sys.exit(main())
