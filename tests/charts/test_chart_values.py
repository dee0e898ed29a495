"""The schemas and the page that are made from the comments in values.yaml."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chartvalues.__main__ import ROOT, wanted
from chartvalues.commented import Uncommented, read
from chartvalues.page import Chart, page
from chartvalues.schema import schema

VALUES = """\
# A remark on the whole file.

# Nodes.
# schema: {enum: [1, 3]}
replicas: 1
image:
  # Where it is.
  repository: apache/kafka
  # What it is
  # called.
  tag: ""
# Any labels | none.
labels: {}
# CPU and memory.
resources:
  requests: {cpu: 100m}
# Anything.
# schema: {additionalProperties: true}
spec:
  # Only an example.
  rate: 1.5
"""


def made(text: str) -> dict[str, Any]:
    properties: dict[str, Any] = json.loads(schema("x", read(text)))["properties"]
    return properties


def test_a_comment_becomes_the_description_and_its_rules_the_schema() -> None:
    """Types come from the defaults, the rest from the lines right above a key."""
    found = made(VALUES)
    assert found["replicas"] == {"description": "Nodes.", "type": "integer", "enum": [1, 3]}
    assert found["image"]["properties"]["tag"] == {"description": "What it is called.", "type": "string"}


def test_a_mapping_takes_its_own_keys_only_unless_it_is_open() -> None:
    """Block style is closed; an empty mapping, and one that its rules open, take any key."""
    found = made(VALUES)
    assert found["image"]["additionalProperties"] is False
    assert "additionalProperties" not in found["labels"]
    assert found["spec"]["additionalProperties"] is True
    assert found["spec"]["properties"]["rate"]["type"] == "number"


def test_resources_are_known_without_a_word() -> None:
    """Requests and limits take any resource's quantity, and a misspelt third is refused."""
    found = made(VALUES)["resources"]
    assert found["additionalProperties"] is False
    assert found["properties"]["limits"]["additionalProperties"] == {"type": ["string", "number"]}


def test_what_a_parent_hands_down_is_allowed_in_every_chart() -> None:
    """As part of another chart a chart gets `global` and its condition `enabled`."""
    assert made("")["global"] == {"type": "object"}
    assert made("")["enabled"] == {"type": "boolean"}


@pytest.mark.parametrize("text", ["a: 1\n", "# Said.\n\na: 1\n", "b:\n  # Said.\n  c: 1\n  d: 2\n"])
def test_a_value_without_a_comment_is_refused(text: str) -> None:
    """Each value has a comment right above it, and the message names the one that has none."""
    with pytest.raises(Uncommented) as refused:
        read(text)
    assert refused.value.path in {"a", "b.d"}


def test_the_page_lists_every_value_with_default_and_meaning() -> None:
    """One row per value; parts of `resources` without comments are shown as its default."""
    text = page([Chart("x", "A chart.", read(VALUES))], "The end.")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert rows == [
        "| `replicas` | `1` | Nodes. One of `1`, `3`. |",
        '| `image.repository` | `"apache/kafka"` | Where it is. |',
        '| `image.tag` | `""` | What it is called. |',
        "| `labels` | `{}` | Any labels \\| none. |",
        '| `resources` | `{"requests": {"cpu": "100m"}}` | CPU and memory. |',
        "| `spec` | `{}` | Anything. |",
        "| `spec.rate` | `1.5` | Only an example. |",
    ]
    assert text.endswith("The end.\n")


def test_the_generated_files_are_up_to_date() -> None:
    """`make charts-docs` would change nothing."""
    stale = [str(file.relative_to(ROOT)) for file, text in wanted().items() if file.read_text() != text]
    assert stale == []
