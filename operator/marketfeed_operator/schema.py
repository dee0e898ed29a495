"""The CustomResourceDefinition of MarketFeeds, made from the types in `spec` and `spec_status`."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import inspect

from marketfeed_operator.spec import GROUP, KIND, RESOURCE_RULES, VERSION, Spec
from marketfeed_operator.spec_fields import Part, Rule
from marketfeed_operator.spec_status import Status

Schema = dict[str, Any]

PLURAL = "marketfeeds"
SHORT_NAMES = ("mf",)


def crd() -> dict[str, Any]:
    """The whole CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": list(SHORT_NAMES),
                "categories": ["all", "marketfeed"],
            },
            "versions": [_version()],
        },
    }


def _version() -> dict[str, Any]:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": resource_schema()},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.shards",
                "statusReplicasPath": ".status.shards",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": printer_columns(),
        "selectableFields": [{"jsonPath": ".status.source"}],
    }


def resource_schema() -> Schema:
    """The schema of a whole MarketFeed."""
    return {
        "type": "object",
        "description": "A market feed: its source, and the pipeline that stores and serves it.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": part_schema(Spec),
            "status": part_schema(Status),
        },
        "x-kubernetes-validations": rules_schema(RESOURCE_RULES),
    }


def printer_columns() -> list[dict[str, Any]]:
    """What `kubectl get marketfeeds` shows; the reason with `-o wide`."""
    ready = ".status.conditions[?(@.type=='Ready')]"
    return [
        _column("Source", ".status.source", "Kind of the source"),
        _column("Symbols", ".status.symbols", "Symbols that a shard serves", type="integer"),
        _column("Shards", ".spec.shards", "Shards that are wanted", type="integer"),
        _column("Ready", f"{ready}.status", "Whether the feed serves as specified"),
        _column("Rate", ".status.rate", "Trades a second"),
        _column("Lag", ".status.lag", "Greatest lag of a shard"),
        _column("Age", ".metadata.creationTimestamp", "Age of the resource", type="date"),
        _column("Reason", f"{ready}.reason", "Why it is ready, or not", priority=1),
        _column("Message", f"{ready}.message", "The same for people", priority=1),
    ]


def _column(name: str, path: str, description: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "string", "jsonPath": path, "description": description, **more}


def rules_schema(rules: tuple[Rule, ...]) -> list[Schema]:
    """The rules as CRD validations."""
    return [
        {"rule": rule.expression, "message": rule.message, **({"fieldPath": rule.field} if rule.field else {})}
        for rule in rules
    ]


def part_schema(part: type[Part]) -> Schema:
    """The schema of a part: its fields with bounds, defaults and meanings, and its rules."""
    described = inspect.type_info(part)
    assert isinstance(described, inspect.StructType)
    return _struct(described)


def _struct(described: inspect.StructType) -> Schema:
    properties = {field.encode_name: _field(field) for field in described.fields}
    schema: Schema = {"type": "object", "description": _first_line(described.cls), "properties": properties}
    if required := [field.encode_name for field in described.fields if field.required]:
        schema["required"] = required
    rules: tuple[Rule, ...] = getattr(described.cls, "rules", ())
    if rules:
        schema["x-kubernetes-validations"] = rules_schema(rules)
    return schema


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]


def _field(field: inspect.Field) -> Schema:
    schema = schema_of(field.type)
    if field.default is not msgspec.NODEFAULT and field.default is not None and field.default != ():
        # A part's own defaults are filled in below it.
        schema["default"] = {} if isinstance(field.default, Part) else field.default
    return schema


def schema_of(described: inspect.Type) -> Schema:
    """The schema of one type. Raises TypeError for a type that has none."""
    match described:
        case inspect.Metadata():
            return {**schema_of(described.type), **(described.extra_json_schema or {})}
        case inspect.StructType():
            return _struct(described)
        case inspect.UnionType():
            return _union(described)
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.IntType():
            return {"type": "integer", "format": "int64", **_bounds(minimum=described.ge, maximum=described.le)}
        case inspect.FloatType():
            return _number(described)
        case inspect.StrType():
            bounds = _bounds(minLength=described.min_length, maxLength=described.max_length, pattern=described.pattern)
            return {"type": "string", **bounds}
        case inspect.LiteralType():
            return {"type": "string", "enum": list(described.values)}
        case inspect.VarTupleType():
            bounds = _bounds(minItems=described.min_length, maxItems=described.max_length)
            return {"type": "array", "items": schema_of(described.item_type), **bounds}
        case inspect.DictType():
            bounds = _bounds(maxProperties=described.max_length)
            return {"type": "object", "additionalProperties": schema_of(described.value_type), **bounds}
        case _:
            raise TypeError(f"no schema for {described}")


def _number(described: inspect.FloatType) -> Schema:
    """A number. The API server cuts a bound's fraction off when the value has none, so such a bound is a rule, too."""
    schema = {"type": "number", **_bounds(minimum=described.ge, maximum=described.le)}
    if described.ge is not None and described.ge != int(described.ge):
        rule = {"rule": f"self >= {described.ge}", "message": f"must be at least {described.ge}"}
        schema["x-kubernetes-validations"] = [rule]
    return schema


def _union(described: inspect.UnionType) -> Schema:
    """One type or none, or Kubernetes' quantity: an integer or a text."""
    some = [option for option in described.types if not isinstance(option, inspect.NoneType)]
    if len(some) == 1:
        return schema_of(some[0])
    texts = [option for option in some if not isinstance(option, inspect.IntType)]
    text = schema_of(texts[0])
    text.pop("type")
    return {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True, **text}


def _bounds(**bounds: Any) -> Schema:
    return {name: value for name, value in bounds.items() if value is not None}
