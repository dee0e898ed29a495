"""Values that an OpenAPI schema of the CRD lets through: what an API server would store, its CEL rules left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]
# Longer lists and texts find nothing more and take their time.
_ITEMS_MAX = 4
_TEXT_MAX = 24


def values(schema: Schema) -> st.SearchStrategy[Any]:
    """A strategy of values of `schema`. Raises KeyError for a type that the CRD does not use."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of(_of_type({**schema, **option}) for option in schema["anyOf"])
    return _of_type(schema)


def _of_type(schema: Schema) -> st.SearchStrategy[Any]:
    by_type: dict[str, Callable[[Schema], st.SearchStrategy[Any]]] = {
        "boolean": lambda _: st.booleans(),
        "integer": lambda its: st.integers(its.get("minimum", 0), its.get("maximum", 1_000)),
        "number": lambda its: st.floats(its["minimum"], its["maximum"]),
        "string": _text,
        "array": _list,
        "object": _object,
    }
    return by_type[schema["type"]](schema)


def _text(schema: Schema) -> st.SearchStrategy[str]:
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], alphabet=st.characters(max_codepoint=0x17F)).map(str.strip)
    return st.text(min_size=schema.get("minLength", 0), max_size=min(_TEXT_MAX, schema.get("maxLength", _TEXT_MAX)))


def _list(schema: Schema) -> st.SearchStrategy[list[Any]]:
    least = schema.get("minItems", 0)
    return st.lists(values(schema["items"]), min_size=least, max_size=max(least, _ITEMS_MAX))


def _object(schema: Schema) -> st.SearchStrategy[dict[str, Any]]:
    if "additionalProperties" in schema:
        return st.dictionaries(st.text(min_size=1, max_size=8), values(schema["additionalProperties"]), max_size=2)
    fields = {name: values(its) for name, its in schema["properties"].items()}
    needed = schema.get("required", [])
    optional = {name: its for name, its in fields.items() if name not in needed}
    return st.fixed_dictionaries({name: fields[name] for name in needed}, optional=optional)
