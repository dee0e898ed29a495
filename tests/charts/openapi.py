"""JSON schemas for kubeconform, made from what an API server says of itself: no schema is fetched from anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Schema = dict[str, Any]
_PREFIX = "#/definitions/"
# Written as strings or as numbers, which OpenAPI 2 cannot say.
_EITHER = {"type": ["string", "number"]}


def write_schemas(openapi: Schema, folder: Path) -> int:
    """One file per kind, named as kubeconform looks for it, strict: unknown fields are refused. Returns how many."""
    definitions = {name: _strict(name, found) for name, found in openapi["definitions"].items()}
    written = 0
    for name, found in definitions.items():
        for kind in found.get("x-kubernetes-group-version-kind", []):
            needed = sorted(_reachable(name, definitions))
            whole = {"$ref": _PREFIX + name, "definitions": {one: definitions[one] for one in needed}}
            (folder / file_name(kind["group"], kind["version"], kind["kind"])).write_text(json.dumps(whole))
            written += 1
    return written


def file_name(group: str, version: str, kind: str) -> str:
    """kubeconform's {{.ResourceKind}}-{{.Group}}-{{.ResourceAPIVersion}}: small letters, the core group is `v1`."""
    return f"{kind}-{group or version}-{version}.json".lower()


def _strict(name: str, found: Schema) -> Schema:
    if name.endswith((".resource.Quantity", ".intstr.IntOrString")):
        return _EITHER
    if "properties" in found and not found.get("x-kubernetes-preserve-unknown-fields"):
        return {**found, "additionalProperties": False}
    return found


def _references(found: Any) -> Iterator[str]:
    if isinstance(found, dict):
        if isinstance(found.get("$ref"), str):
            yield found["$ref"].removeprefix(_PREFIX)
        for part in found.values():
            yield from _references(part)
    elif isinstance(found, list):
        for part in found:
            yield from _references(part)


def _reachable(name: str, definitions: dict[str, Schema]) -> set[str]:
    known, waiting = {name}, [name]
    while waiting:
        for other in set(_references(definitions[waiting.pop()])) - known:
            known.add(other)
            waiting.append(other)
    return known
