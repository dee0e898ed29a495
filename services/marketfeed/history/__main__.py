"""`python -m marketfeed.history`."""

import sys

from marketfeed.history.app import main

if __name__ == "__main__":
    sys.exit(main())
