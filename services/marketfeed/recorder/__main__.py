"""Starts the recorder: python -m marketfeed.recorder."""

import sys

from marketfeed.recorder.app import main

if __name__ == "__main__":
    sys.exit(main())
