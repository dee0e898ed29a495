"""The style that a machine can check: sizes, names, and that every module has a test that names it."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "services" / "marketfeed"
# Folders that hold packages, as on Python's path, and the packages.
PACKAGES = {
    ROOT / "services": "marketfeed",
    ROOT / "operator": "marketfeed_operator",
    ROOT / "k8s" / "images": "imagebuild",
    ROOT / "k8s" / "charts": "chartvalues",
    ROOT / "k8s" / "cluster": "localcluster",
}
GENERATED = SOURCE / "wire" / "v1"
FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 500
BANNED_NAMES = {"utils", "util", "helpers", "helper", "manager", "common", "misc", "stuff"}
# Modules that only declare or only start; their content is tested through whoever uses it.
NEEDS_NO_TEST = {"__init__", "__main__", "settings", "metrics"}


def modules() -> list[Path]:
    found = [path for folder, package in PACKAGES.items() for path in sorted((folder / package).rglob("*.py"))]
    return [path for path in found if GENERATED not in path.parents]


def dotted(path: Path) -> str:
    """The name that a module is imported by."""
    folder = next(folder for folder in PACKAGES if folder in path.parents)
    return ".".join(path.relative_to(folder).with_suffix("").parts)


def python_files() -> list[Path]:
    return modules() + sorted((ROOT / "tests").rglob("*.py"))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length_without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if is_docstring else 0
    return (node.end_lineno or 0) - node.lineno + 1 - docstring


def test_there_is_something_to_check() -> None:
    """The checks below look at the real tree."""
    assert len(modules()) > 40


def test_sizes() -> None:
    """A function fits on a screen and a module in a head."""
    too_long = {relative(path) for path in python_files() if path.read_text().count("\n") > MODULE_LINES_MAX}
    for path in python_files():
        for function in functions(tree_of(path)):
            if length_without_docstring(function) > FUNCTION_LINES_MAX:
                too_long.add(f"{relative(path)}:{function.name}")
    assert too_long == set()


def test_names() -> None:
    """A module says what is in it."""
    words = {path: set(re.split(r"[_.]", dotted(path).lower())) for path in modules()}
    assert [relative(path) for path, said in words.items() if said & BANNED_NAMES] == []


def test_discipline() -> None:
    """No work is put off without an issue, and no task is started outside a task group."""
    put_off = re.compile(r"\b(TODO|FIXME|XXX)\b(?!.*#\d+)")
    bare_task = re.compile(r"asyncio\.(create_task|ensure_future)\(|\bloop\.create_task\(")
    texts = {relative(path): path.read_text() for path in modules()}
    assert [name for name, text in texts.items() if put_off.search(text) or bare_task.search(text)] == []


def test_every_module_opens_with_its_purpose() -> None:
    """A module's docstring says what it is for; an empty __init__ needs none."""
    silent = [path for path in modules() if path.read_text().strip() and not ast.get_docstring(tree_of(path))]
    assert [relative(path) for path in silent] == []


def imported_modules() -> set[str]:
    """The dotted names of our modules that some test file imports."""
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
                found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def test_every_module_is_tested_by_name() -> None:
    """Each module with behaviour is imported by a test that can therefore check it alone."""
    tested = imported_modules()
    names = {dotted(path) for path in modules() if path.stem not in NEEDS_NO_TEST}
    assert sorted(names - tested) == []


def test_every_markdown_file_has_one_title() -> None:
    """A page has exactly one first-level heading."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    wrong = []
    for page in pages:
        outside_code = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        if len(re.findall(r"^# ", outside_code, flags=re.MULTILINE)) != 1:
            wrong.append(relative(page))
    assert wrong == []


def test_the_architecture_page_names_real_places() -> None:
    """Each path in ARCHITECTURE.md exists, in the tree or below services/marketfeed."""
    named = re.findall(r"`([\w./-]+(?:\.(?:py|proto|md|yaml|toml)|/))`", (ROOT / "ARCHITECTURE.md").read_text())
    assert len(named) > 50
    assert [name for name in named if not ((ROOT / name).exists() or (SOURCE / name).exists())] == []


def test_nothing_names_a_registry_or_a_machine() -> None:
    """Locks and sources carry no address of a package registry and no absolute path of somebody's machine."""
    # Split, so that this file does not contain what it looks for.
    hosts = ["files.pythonhosted" + ".org", "pypi" + ".org/simple", "registry.npmjs" + ".org", "proxy.golang" + ".org"]
    checked = [
        *ROOT.glob("*.toml"), *(ROOT / "requirements").glob("*"), *python_files(), *ROOT.glob("services/ui/*.json"),
    ]  # fmt: skip
    wrong = [relative(path) for path in checked if any(host in path.read_text() for host in hosts)]
    assert wrong == []
