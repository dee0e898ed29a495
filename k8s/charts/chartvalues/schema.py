"""The JSON Schema of a chart's values: types from the defaults, descriptions from the comments, rules from both.

Helm checks a user's values by it before anything is rendered, so a misspelt name is refused instead of ignored.
"""

from __future__ import annotations

import json
from typing import Any

from chartvalues.commented import Value

DRAFT = "http://json-schema.org/draft-07/schema#"
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
_QUANTITIES = {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
# `resources` is the same in every chart.
_RESOURCES = {
    "type": "object",
    "properties": {"requests": _QUANTITIES, "limits": _QUANTITIES, "claims": {"type": "array"}},
    "additionalProperties": False,
}
# What helm itself hands to a chart that is part of another.
_FROM_PARENT = {"global": {"type": "object"}, "enabled": {"type": "boolean"}}


def schema(chart: str, values: tuple[Value, ...]) -> str:
    """The text of values.schema.json."""
    properties = {**_FROM_PARENT, **{value.name: _of(value) for value in values}}
    whole = {
        "$schema": DRAFT,
        "title": f"Values of the chart {chart}",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _of(value: Value) -> dict[str, Any]:
    found: dict[str, Any] = {"description": value.meaning} if value.meaning else {}
    if value.name == "resources":
        return found | _RESOURCES
    found["type"] = _TYPES[type(value.default)]
    if value.children:
        found["properties"] = {child.name: _of(child) for child in value.children}
        found["additionalProperties"] = False
    return found | value.rules
