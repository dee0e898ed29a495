"""The CRD is made from the model: bounded throughout, with defaults, and accepted by what it was made from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from tests.unit.operator.feeds import feed, feed_object

from marketfeed_operator.schema import crd, part_schema, resource_schema, schema_of
from marketfeed_operator.spec import Spec
from marketfeed_operator.spec_status import Status


def walk(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema with its path."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from walk(inner, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from walk(schema["additionalProperties"], f"{path}{{}}")


def filled_in(schema: dict[str, Any], value: Any) -> Any:
    """The value with the schema's defaults, as the API server fills them in."""
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if name not in value and "default" in inner:
                value = {**value, name: inner["default"]}
            if name in value:
                value = {**value, name: filled_in(inner, value[name])}
    return value


def test_everything_is_bounded() -> None:
    """Lists, maps and texts of what users write have a greatest length, so that rules have a bounded cost."""
    for path, schema in walk(resource_schema()["properties"]["spec"]):
        if schema.get("type") == "array":
            assert "maxItems" in schema, path
            assert "x-kubernetes-list-type" in schema, path
        if "additionalProperties" in schema:
            assert "maxProperties" in schema, path
        if schema.get("type") == "string" and "enum" not in schema:
            assert "maxLength" in schema, path


def test_every_field_has_its_meaning() -> None:
    """`kubectl explain` says something about each field."""
    for part in (Spec, Status):
        for path, schema in walk(part_schema(part)):
            if not path.endswith(("[]", "{}")):
                assert schema.get("description", "").endswith("."), path


def test_defaults_are_those_of_the_model() -> None:
    """The API server and the operator fill in the same."""
    obj = feed_object()
    whole = filled_in(part_schema(Spec), obj["spec"])
    assert msgspec.convert(whole, Spec) == feed().spec
    assert whole["ingest"]["spool"]["sizeGigabytes"] == 1
    assert whole["retention"]["log"] == {"gigabytes": 2, "hours": 48}


def test_rules_tell_their_field() -> None:
    """Each rule's sentence names the field that it is about."""
    ruled = [
        (schema, rule) for _, schema in walk(resource_schema()) for rule in schema.get("x-kubernetes-validations", ())
    ]
    assert len(ruled) > 15
    for schema, rule in ruled:
        # The API server puts the path before the sentence; rules of whole parts say which of their fields they mean.
        assert schema["type"] != "object" or "spec." in rule["message"] or "metadata." in rule["message"]
        assert set(rule) <= {"rule", "message", "fieldPath"}


def test_a_fractional_bound_is_a_rule() -> None:
    """The API server itself would take 0 for a number of at least 0.01, as it cuts the bound for whole values."""
    rate = part_schema(Spec)["properties"]["source"]["properties"]["generator"]["properties"]["rate"]
    assert rate["x-kubernetes-validations"] == [{"rule": "self >= 0.01", "message": "must be at least 0.01"}]


def test_the_resource_can_be_scaled_selected_and_read() -> None:
    """Short name, subresources with a selector, columns, and no second version to convert."""
    spec = crd()["spec"]
    assert spec["names"]["shortNames"] == ["mf"]
    (version,) = spec["versions"]
    assert version["subresources"]["scale"]["labelSelectorPath"] == ".status.selector"
    shown = [column["name"] for column in version["additionalPrinterColumns"] if not column.get("priority")]
    assert shown == ["Source", "Symbols", "Shards", "Ready", "Rate", "Lag", "Age"]


def test_a_type_without_a_schema_is_refused() -> None:
    """A field of a kind that Kubernetes has no schema for is a mistake of ours, seen at once."""
    with pytest.raises(TypeError, match="no schema"):
        schema_of(msgspec.inspect.type_info(set[int]))
