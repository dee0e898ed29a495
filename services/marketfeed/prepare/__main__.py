"""`python -m marketfeed.prepare`."""

import sys

from marketfeed.prepare.app import main

if __name__ == "__main__":
    sys.exit(main())
