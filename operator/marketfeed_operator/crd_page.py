"""The reference page of MarketFeeds, from the same model as the CRD: fields, rules, status, conditions, reasons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from marketfeed_operator.schema import Schema, printer_columns, resource_schema
from marketfeed_operator.spec import GROUP, PAUSED, RESTARTED_AT, RESYNC, VERSION
from marketfeed_operator.spec_status import CONDITIONS, MEANINGS

_INTRODUCTION = f"""\
# MarketFeed

`{GROUP}/{VERSION}`, namespaced, short name `mf`. One MarketFeed is one running pipeline: a source, the log in
Kafka, the stores, and mds that serves clients. This page is made from the operator's model (`make crd`), as the CRD is.

A feed's id is `<namespace>.<name>` unless `spec.kafka.topicPrefix` names another; it prefixes topics and keys. Deleting
a MarketFeed deletes its pods and keeps its topics and rows: a MarketFeed of the same id goes on where it ended.

Annotations: `{PAUSED}: "true"` makes the operator change nothing until it is removed; any new value of
`{RESYNC}` makes it look at everything anew; any new value of `{RESTARTED_AT}` replaces
all pods, ingest one at a time, which read their Secrets then.
`kubectl scale marketfeed/NAME --replicas=N` sets `spec.shards`.
"""


def page() -> str:
    """The whole page, Markdown."""
    schema = resource_schema()
    properties = schema["properties"]
    parts = [
        _INTRODUCTION,
        "## Specification\n\nA field in bold has to be given.\n\n" + _table("spec", properties["spec"]),
        "## Rules\n\nThe API server refuses what breaks one of these, with this sentence.\n\n" + _rules(schema),
        "## Status\n\n" + _table("status", properties["status"]),
        "## Conditions\n\n" + _conditions(),
        "## Reasons\n\n" + _reasons(),
        "## Columns of `kubectl get marketfeeds`\n\n" + _columns(),
    ]
    return "\n".join(parts)


def _table(name: str, schema: Schema) -> str:
    rows = ["| Field | Type | Default | Meaning |", "|---|---|---|---|"]
    for path, field, required in _fields(name, schema):
        shown = f"**`{path}`**" if required else f"`{path}`"
        rows.append(
            f"| {shown} | {_cell(kind_of(field))} | {_default(field)} | {_prose(field.get('description', ''))} |"
        )
    return "\n".join(rows) + "\n"


def _fields(path: str, schema: Schema) -> Iterator[tuple[str, Schema, bool]]:
    """Every field below a schema, with its path and whether it is required."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        yield here, field, name in required
        inner, suffix = (field["items"], "[]") if "items" in field else (field, "")
        yield from _fields(here + suffix, inner)


def kind_of(schema: Schema) -> str:
    """A type and its bounds in words: `integer, 0 to 64`."""
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    kind = str(schema["type"])
    if kind == "array":
        return f"list ({_range(schema, 'minItems', 'maxItems')}) of {kind_of(schema['items'])}"
    if "additionalProperties" in schema:
        return f"map ({_range(schema, 'minProperties', 'maxProperties')}) to {kind_of(schema['additionalProperties'])}"
    bounds = _range(schema, "minimum", "maximum") or _length(schema)
    pattern = f", `{schema['pattern']}`" if "pattern" in schema else ""
    return (f"{kind}, {bounds}" if bounds else kind) + pattern


def _range(schema: Schema, least: str, most: str) -> str:
    low, high = schema.get(least), schema.get(most)
    if low is None and high is None:
        return ""
    if low is None:
        return f"at most {high}"
    return f"at least {low}" if high is None else f"{low} to {high}"


def _length(schema: Schema) -> str:
    bounds = (
        _range(schema, "minLength", "maxLength") if schema.get("minLength", 1) > 1 else _range(schema, "", "maxLength")
    )
    return f"{bounds} characters" if bounds else ""


def _default(schema: Schema) -> str:
    default = schema.get("default")
    if default is None or default == {}:
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _prose(text: str) -> str:
    """Text in which < is no mark-up."""
    return _cell(text).replace("<", "&lt;")


def _rules(schema: Schema) -> str:
    rows = ["| Rule | CEL |", "|---|---|"]
    for rule in _all_rules(schema):
        rows.append(f"| {_cell(rule['message'])} | `{_cell(rule['rule'])}` |")
    return "\n".join(rows) + "\n"


def _all_rules(schema: Schema) -> Iterator[dict[str, Any]]:
    if schema["type"] == "object":  # a number's rule is its bound
        yield from schema.get("x-kubernetes-validations", ())
    for field in schema.get("properties", {}).values():
        yield from _all_rules(field)
    if "items" in schema:
        yield from _all_rules(schema["items"])


def _conditions() -> str:
    rows = ["| Condition | Meaning |", "|---|---|"]
    return "\n".join([*rows, *(f"| `{name}` | {_cell(text)} |" for name, text in CONDITIONS.items())]) + "\n"


def _reasons() -> str:
    rows = ["| Reason | Meaning |", "|---|---|"]
    return "\n".join([*rows, *(f"| `{reason}` | {_cell(text)} |" for reason, text in MEANINGS.items())]) + "\n"


def _columns() -> str:
    rows = ["| Column | Meaning |", "|---|---|"]
    for column in printer_columns():
        wide = " (with `-o wide`)" if column.get("priority") else ""
        rows.append(f"| {column['name']} | {column['description']}{wide}. |")
    return "\n".join(rows) + "\n"
