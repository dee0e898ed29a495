"""`python -m imagebuild`: builds the images that changed and prints each with its size.

python -m imagebuild                          all of them
python -m imagebuild marketfeed kafka         these, and what they are made from
python -m imagebuild --program FILE NAME      one static program as the image NAME
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from imagebuild.build import Builder, Built, buildable, default_cache
from imagebuild.ingredients import Pantry, tell
from imagebuild.programs import BuildFailed
from imagebuild.recipes import binary, reference, wanted

ROOT = Path(__file__).resolve().parents[3]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: all are there; 1: one could not be built, and why; 2: bad arguments."""
    parser = argparse.ArgumentParser(prog="imagebuild", description="Container images without an engine or registry.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="images to build (default: all)")
    parser.add_argument("--program", type=Path, help="make one image NAME of this static program")
    parser.add_argument("--files", type=Path, help="with --program: a folder that is copied to its root")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="where images are kept (%(default)s)")
    options = parser.parse_args(argv)
    if options.program and len(options.names) != 1:
        parser.error("--program needs one NAME")
    try:
        built = _build(options)
    except KeyError as error:
        parser.error(f"there is no image {error}")
    except BuildFailed as error:
        sys.stderr.write(f"imagebuild: {error}\n")
        return 1
    sys.stdout.write(table(built))
    return 0


def _build(options: argparse.Namespace) -> list[Built]:
    with tempfile.TemporaryDirectory() as empty:
        pantry = Pantry(ROOT, options.cache, options.program, options.files or Path(empty))
        builder = Builder(ROOT, options.cache, tell, pantry)
        if options.program:
            return builder.build([binary(options.names[0])])
        return builder.build(wanted(options.names) if options.names else buildable(ROOT))


def table(built: Sequence[Built]) -> str:
    """A line per image that pods can use: name, size, and whether it was built now."""
    lines = []
    for one in built:
        if one.bytes:
            how = f"built in {one.seconds:.0f} s" if one.changed else "unchanged"
            lines.append(f"{reference(one.name):<36}{one.bytes / 1e6:>6.0f} MB  {how}  {one.archive}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
