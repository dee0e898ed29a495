"""The embedded stack as a process: `python -m marketfeed.local`, the same as `marketfeed stack`."""

import sys

from marketfeed.local.commands import stack

if __name__ == "__main__":
    sys.exit(stack(sys.argv[1:]))
