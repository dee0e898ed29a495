"""Holds values to JSON Schema as far as docs/asyncapi.yaml uses it; a word that it does not know is an error."""

from __future__ import annotations

import re
from typing import Any

Document = dict[str, Any]

_ANNOTATIONS = {"title", "description", "default"}
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "number": (int, float),
    "boolean": (bool,), "null": (type(None),),
}  # fmt: skip


def check(value: object, schema: Document, document: Document, at: str = "$") -> None:
    """Raises AssertionError with the place where a value does not fit."""
    for word, asked in schema.items():
        if word not in _ANNOTATIONS:
            _WORDS[word](value, asked, schema, document, at)


def _reference(value: Any, asked: str, schema: Document, document: Document, at: str) -> None:
    found: Any = document
    for step in asked.removeprefix("#/").split("/"):
        found = found[step]
    check(value, found, document, at)


def _type(value: Any, asked: str, schema: Document, document: Document, at: str) -> None:
    right = isinstance(value, _TYPES[asked]) and (asked == "boolean" or not isinstance(value, bool))
    assert right, f"{at}: {value!r} is no {asked}"


def _any_of(value: Any, asked: list[Document], schema: Document, document: Document, at: str) -> None:
    problems = []
    for one in asked:
        try:
            check(value, one, document, at)
        except AssertionError as problem:
            problems.append(str(problem))
    assert len(problems) < len(asked), f"{at}: fits none: {problems}"


def _properties(value: Any, asked: Document, schema: Document, document: Document, at: str) -> None:
    if isinstance(value, dict):
        unknown = value.keys() - asked.keys()
        assert not unknown, f"{at}: not described: {unknown}"
        for name, found in value.items():
            check(found, asked[name], document, f"{at}.{name}")


def _further(value: Any, asked: Document, schema: Document, document: Document, at: str) -> None:
    for name, found in value.items():
        check(found, asked, document, f"{at}.{name}")


def _items(value: Any, asked: Document, schema: Document, document: Document, at: str) -> None:
    if isinstance(value, list):
        for place, found in enumerate(value):
            check(found, asked, document, f"{at}[{place}]")


def _required(value: Any, asked: list[str], schema: Document, document: Document, at: str) -> None:
    missing = set(asked) - value.keys()
    assert not missing, f"{at}: lacks {missing}"


def _fits(right: bool, value: Any, asked: Any, at: str) -> None:
    assert right, f"{at}: {value!r} against {asked!r}"


_WORDS: dict[str, Any] = {
    "$ref": _reference,
    "type": _type,
    "anyOf": _any_of,
    "properties": _properties,
    "additionalProperties": _further,
    "items": _items,
    "required": _required,
    "enum": lambda value, asked, schema, document, at: _fits(value in asked, value, asked, at),
    "pattern": lambda value, asked, schema, document, at: _fits(re.search(asked, value) is not None, value, asked, at),
    "minimum": lambda value, asked, schema, document, at: _fits(value >= asked, value, asked, at),
    "maximum": lambda value, asked, schema, document, at: _fits(value <= asked, value, asked, at),
    "minItems": lambda value, asked, schema, document, at: _fits(len(value) >= asked, value, asked, at),
    "maxItems": lambda value, asked, schema, document, at: _fits(len(value) <= asked, value, asked, at),
    "maxLength": lambda value, asked, schema, document, at: _fits(len(value) <= asked, value, asked, at),
}
