"""Runs the benches: every module here with a `run() -> str`, a line for each figure.

`make bench` runs those that need no server, `make bench ARGS="csv decode"` the named ones. Those of serving
(`fanout`, `idle`, `stalled`, `grpc_streams`) are most of its time; what they share is in `load/`.
"""

import importlib
import os
import platform
import sys
from pathlib import Path


def names() -> list[str]:
    """The benches that are here."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def main(wanted: list[str]) -> int:
    """Run the wanted benches, all of them by default; 1 if one failed."""
    unknown = set(wanted) - set(names())
    if unknown:
        print(f"no such bench: {', '.join(sorted(unknown))}; there are {', '.join(names())}")
        return 2
    print(f"# {platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    failed = 0
    for name in wanted or names():
        module = importlib.import_module(f"tests.bench.{name}")
        needs = [variable for variable in getattr(module, "NEEDS", ()) if variable not in os.environ]
        if needs:
            print(f"{name:12} skipped: needs {', '.join(needs)} (run `marketfeed stack` and export what it prints)")
            continue
        try:
            print(f"{name:12} {module.run()}", flush=True)
        except Exception as error:  # One broken bench must not hide the figures of the others.
            failed += 1
            print(f"{name:12} failed: {error!r}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
