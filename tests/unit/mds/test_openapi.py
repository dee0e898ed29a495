"""The descriptions say what the types say, and the files in docs say what the descriptions say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

from marketfeed.domain.client_messages import CloseCode
from marketfeed.mds.openapi import as_yaml, asyncapi, openapi, write
from marketfeed.wire import websocket as wire
from marketfeed.wire import websocket_commands as commands

DOCS = Path(__file__).parents[3] / "docs"


def test_the_files_are_up_to_date(tmp_path: Path) -> None:
    """`python -m marketfeed.mds.openapi docs` leaves no difference."""
    write(tmp_path)
    for name in ("openapi.yaml", "asyncapi.yaml"):
        assert (tmp_path / name).read_text() == (DOCS / name).read_text()


def test_every_message_is_described() -> None:
    """By the tag that is on the wire, in the operation of its direction."""
    document = asyncapi()
    tags = {
        side: {kind.__struct_config__.tag for kind in get_args(union)}
        for side, union in (("toClient", wire.ServerMessage), ("toServer", commands.ClientMessage))
    }
    assert set(document["components"]["messages"]) == tags["toClient"] | tags["toServer"]
    for side, expected in tags.items():
        described = {m["$ref"].rsplit("/", 1)[1] for m in document["operations"][side]["messages"]}
        assert described == expected
    assert set(document["x-close-codes"]) == {str(int(code)) for code in CloseCode}


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(item) for item in value.values()))
    return set().union(*(references(item) for item in value)) if isinstance(value, list) else set()


def test_no_reference_dangles() -> None:
    """Every $ref leads somewhere."""
    for document in (openapi(), asyncapi()):
        found = references(json.loads(json.dumps(document)))
        assert found
        for reference in found:
            place: Any = document
            for step in reference.removeprefix("#/").split("/"):
                place = place[step]


def test_close_codes_and_pages_agree() -> None:
    """docs/websocket.md lists every close code."""
    page = (DOCS / "websocket.md").read_text()
    for code in CloseCode:
        assert f"| {int(code)} |" in page


def test_yaml_is_block_style_with_json_scalars() -> None:
    """Enough of YAML for a document: nesting, lists, empty containers, quoted keys."""
    value = {"a": {"b": [1, {"c": None}], "d": []}, "200": "x: y", "e": {}, "f": True}
    assert as_yaml(value) == ('a:\n  b:\n    - 1\n    -\n      c: null\n  d: []\n"200": "x: y"\ne: {}\nf: true\n')
