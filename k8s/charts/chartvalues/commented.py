"""A commented values.yaml as a tree: every value with its default, what its comment says, and the rules it must keep.

The comment stands right above the key, at its indentation. A line `# schema: {…}` in it adds JSON Schema to what the
default tells. A mapping in flow style, and an empty one, is open: it takes any key; one in block style takes its own
keys only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

RULES = "schema:"


class Uncommented(Exception):
    """A value without a comment; `path` is its dotted name."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: say what it is in a comment right above it")
        self.path = path


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a chart: `children` are those of a mapping that is not open."""

    path: str
    default: Any
    meaning: str
    rules: dict[str, Any]
    children: tuple[Value, ...] = ()

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def is_open(self) -> bool:
        """Whether it is a mapping that takes any key."""
        if not isinstance(self.default, dict):
            return False
        return not self.children or self.rules.get("additionalProperties", False) is True

    def rows(self) -> Iterator[Value]:
        """What there is to tell: itself, or, where the comments go into detail, its parts."""
        parts = [row for child in self.children for row in child.rows() if row.meaning]
        if self.meaning and (not parts or self.is_open):
            yield self
        yield from parts


def read(text: str) -> tuple[Value, ...]:
    """The values of a values.yaml, in its order. Raises Uncommented for one that nothing is said about."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is None:
        return ()
    assert isinstance(node, yaml.MappingNode)
    return tuple(_children(node, "", text.splitlines(), commented=False))


def _children(mapping: yaml.MappingNode, prefix: str, lines: list[str], commented: bool) -> Iterator[Value]:
    for key, node in mapping.value:
        path = prefix + key.value
        meaning, rules = _comment(lines, key.start_mark.line, key.start_mark.column)
        block = isinstance(node, yaml.MappingNode) and not node.flow_style and bool(node.value)
        inside = commented or (
            bool(meaning) and (key.value == "resources" or rules.get("additionalProperties") is True)
        )
        children = tuple(_children(node, path + ".", lines, inside)) if block else ()
        if not (meaning or children or commented):
            raise Uncommented(path)
        yield Value(path, _plain(node), meaning, rules, children)


def _comment(lines: list[str], line: int, column: int) -> tuple[str, dict[str, Any]]:
    """The words above a key and the schema among them."""
    above: list[str] = []
    while line > 0 and lines[line - 1].startswith(" " * column + "#"):
        line -= 1
        above.insert(0, lines[line].strip().removeprefix("#").strip())
    words = [one for one in above if not one.startswith(RULES)]
    rules = [yaml.safe_load(one.removeprefix(RULES)) for one in above if one.startswith(RULES)]
    return " ".join(words), {name: rule for found in rules for name, rule in found.items()}


def _plain(node: yaml.Node) -> Any:
    """The node as plain data."""
    return yaml.safe_load(yaml.serialize(node))
