"""`python -m localcluster`: build, up, down, status, load-image, control-plane."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from localcluster.build import Build
from localcluster.cluster import Cluster
from localcluster.control_plane import control_plane
from localcluster.errors import ClusterError
from localcluster.places import default_places


def tell(line: str) -> None:
    """A line of progress for people."""
    sys.stderr.write(f"cluster: {line}\n")
    sys.stderr.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: done; 1: it could not be, and why; 2: wrong arguments."""
    options = _parser().parse_args(argv)
    try:
        code: int = options.run(options)
    except ClusterError as error:
        tell(str(error))
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="localcluster", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("build", help="build every program and image, once").set_defaults(run=_build)
    commands.add_parser("up", help="start the cluster; prints the KUBECONFIG line").set_defaults(run=_up)
    commands.add_parser("down", help="stop it and take everything back").set_defaults(run=_down)
    commands.add_parser("status", help="what runs; exit code 1 if something does not").set_defaults(run=_status)
    load = commands.add_parser("load-image", help="import OCI archives; unchanged ones are skipped")
    load.add_argument("--if-up", action="store_true", help="do nothing where no cluster is up")
    load.add_argument("files", nargs="+", type=Path, metavar="FILE")
    load.set_defaults(run=_load)
    plane = commands.add_parser("control-plane", help="only etcd and the API server, until Ctrl-C")
    plane.add_argument("--directory", type=Path, help="where it keeps its files (default: a temporary folder)")
    plane.add_argument("--audit", action="store_true", help="write who asks for what")
    plane.add_argument("--workloads", action="store_true", help="with controller manager and scheduler")
    plane.add_argument("--fake-nodes", type=int, default=0, metavar="N", help="nodes played by kwok")
    plane.set_defaults(run=_control_plane)
    return parser


def _build(_: argparse.Namespace) -> int:
    Build(default_places(), tell).all()
    return 0


def _up(_: argparse.Namespace) -> int:
    places = default_places()
    Cluster(places, tell).up()
    sys.stdout.write(f"export KUBECONFIG={places.kubeconfig}\n")
    return 0


def _down(_: argparse.Namespace) -> int:
    Cluster(default_places(), tell).down()
    return 0


def _status(_: argparse.Namespace) -> int:
    cluster = Cluster(default_places(), tell)
    for name, state in cluster.status().items():
        sys.stdout.write(f"{name:<26}{state}\n")
    return 0 if cluster.running else 1


def _load(options: argparse.Namespace) -> int:
    places = default_places()
    if options.if_up and not places.kubeconfig.exists():
        return 0
    cluster = Cluster(places, tell)
    if options.if_up and not cluster.running:
        return 0
    for image, changed in cluster.load(options.files):
        sys.stdout.write(f"{image.name:<40}{'loaded' if changed else 'unchanged'}\n")
    return 0


def _control_plane(options: argparse.Namespace) -> int:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with tempfile.TemporaryDirectory(prefix="marketfeed-control-plane-") as temporary:
        folder = options.directory or Path(temporary)
        with control_plane(
            folder, audit=options.audit, workloads=options.workloads, fake_nodes=options.fake_nodes
        ) as plane:
            sys.stdout.write(f"export KUBECONFIG={plane.kubeconfig}\n")
            sys.stdout.flush()
            ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
