"""`python -m marketfeed_operator`: one replica of the operator; `… health` asks whether one on this machine is well."""

import sys

from marketfeed_operator import health_check


def main() -> int:
    """The exit code: of `health` its own, of a replica 0 after an orderly end and 2 for a wrong setting."""
    if sys.argv[1:] == ["health"]:
        return health_check.main()
    if sys.argv[1:]:
        sys.stderr.write("usage: python -m marketfeed_operator [health]; settings are MARKETFEED_OPERATOR_*\n")
        return 2
    # Not before: a health check must not load what a replica needs.
    from marketfeed_operator.app import run
    from marketfeed_operator.cluster_errors import OperatorSettingError

    try:
        return run()
    except OperatorSettingError as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
