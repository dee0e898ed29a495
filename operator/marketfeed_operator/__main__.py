"""`python -m marketfeed_operator`: one replica of the operator."""

import sys

from marketfeed_operator.app import run
from marketfeed_operator.cluster_errors import OperatorSettingError

if __name__ == "__main__":
    try:
        sys.exit(run())
    except OperatorSettingError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
