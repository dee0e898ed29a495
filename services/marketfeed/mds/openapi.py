"""The descriptions of both interfaces, made from the types that are really sent and read.

docs/openapi.yaml and docs/asyncapi.yaml are these documents as YAML (`as_yaml`); a test compares them, so that they
cannot fall behind. `python -m marketfeed.mds.openapi DIRECTORY` writes both.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import msgspec

from marketfeed.domain.access import Denial
from marketfeed.domain.client_messages import CHANNELS, EMISSIONS, CloseCode, SymbolStatus
from marketfeed.domain.rollup import INTERVALS
from marketfeed.mds.api import LIMIT_DEFAULT
from marketfeed.mds.history import LIMIT_MAX
from marketfeed.wire import websocket as wire
from marketfeed.wire import websocket_commands as commands

Document = dict[str, Any]

_HTTP_TYPES = (wire.SymbolList, wire.Quote, wire.BarsAnswer, wire.ConfigAnswer, wire.ErrorAnswer)


def openapi() -> Document:
    """OpenAPI 3.1 of the HTTP interface."""
    _, components = msgspec.json.schema_components(_HTTP_TYPES, ref_template="#/components/schemas/{name}")
    symbol = _parameter("symbol", {"type": "string"}, "a symbol of /v1/symbols", required=True)
    seconds = {"type": "integer", "minimum": 0}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "marketfeed",
            "version": version("marketfeed"),
            "description": "Last prices and bars of one feed. Live messages come over /v1/stream, see asyncapi.yaml.",
        },
        "paths": {
            "/v1/symbols": _get(
                "The feed's symbols with their last price",
                "SymbolList",
                [
                    _parameter("q", {"type": "string"}, "only symbols that contain this, upper or lower case"),
                    _parameter(
                        "limit", {"type": "integer", "minimum": 1, "maximum": 10_000, "default": 10_000}, "most"
                    ),
                ],
            ),
            "/v1/quote": _get("The newest price of a symbol", "Quote", [symbol]),
            "/v1/bars": _get(
                "Bars of a symbol, history joined with what is live",
                "BarsAnswer",
                [
                    symbol,
                    _parameter("interval", {"type": "string", "enum": list(INTERVALS), "default": "1s"}, "bar length"),
                    _parameter("from", seconds, "first start, Unix seconds; default: the newest trade date's start"),
                    _parameter("to", seconds, "end of starts, exclusive; default: after the newest trade"),
                    _parameter(
                        "fill",
                        {"type": "string", "enum": ["none", "prev"], "default": "none"},
                        "prev: periods without a trade become flat bars at the close before, marked in `filled`",
                    ),
                    _parameter(
                        "limit",
                        {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
                        "bars, at most; `next_from` says where to go on",
                    ),
                ],
            ),
            "/v1/config": _get(
                "The feed, its calendar and the sessions of a day",
                "ConfigAnswer",
                [_parameter("date", {"type": "string", "format": "date"}, "default: of the newest trade")],
            ),
        },
        # Either of them: an open server asks for no token.
        "security": [{"token": []}, {}],
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "docs/access.md says what is in it; a server that is open asks for none",
                }
            },
        },
    }


def asyncapi() -> Document:
    """AsyncAPI 3.0 of /v1/stream."""
    sent, received = get_args(wire.ServerMessage), get_args(commands.ClientMessage)
    _, components = msgspec.json.schema_components((*sent, *received), ref_template="#/components/schemas/{name}")
    messages = {
        name: {"summary": kind.__doc__, "payload": {"$ref": f"#/components/schemas/{kind.__name__}"}}
        for kind in (*sent, *received)
        if (name := _message_name(kind))
    }
    operations = {
        "toClient": _operation("send", sent, "What the server sends"),
        "toServer": _operation("receive", received, "What a client may send"),
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "marketfeed stream",
            "version": version("marketfeed"),
            "description": "Live prices and bars; docs/websocket.md explains it with examples.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "stream": {
                "address": "/v1/stream",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"method": "GET"}},
            }
        },
        "operations": operations,
        "components": {"messages": messages, "schemas": components},
        "x-channels": list(CHANNELS),
        "x-emissions": list(EMISSIONS),
        "x-symbol-statuses": [status.value for status in SymbolStatus],
        "x-denials": [denial.value for denial in Denial],
        "x-close-codes": {
            str(int(code)): {"name": code.name.lower(), "mayReconnect": code.may_reconnect} for code in CloseCode
        },
    }


def as_yaml(value: object, depth: int = 0) -> str:
    """A document of dicts, lists and scalars as YAML in block style. Scalars are written as JSON, which YAML reads."""
    pad = "  " * depth
    if isinstance(value, dict) and value:
        return "".join(f"{pad}{_key(key)}:{_nested(item, depth)}" for key, item in value.items())
    if isinstance(value, list | tuple) and value:
        return "".join(f"{pad}-{_nested(item, depth)}" for item in value)
    return f"{pad}{_scalar(value)}\n"


def _nested(value: object, depth: int) -> str:
    if isinstance(value, dict | list | tuple) and value:
        return "\n" + as_yaml(value, depth + 1)
    return f" {_scalar(value)}\n"


def _scalar(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _key(key: str) -> str:
    return key if key.replace("_", "").isalpha() else json.dumps(key)


def _get(summary: str, schema: str, parameters: Sequence[Document]) -> Document:
    def answer(text: str, name: str) -> Document:
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
        return {"description": text, "content": content}

    return {
        "get": {
            "summary": summary,
            "parameters": list(parameters),
            "responses": {
                "200": answer("the answer", schema),
                "400": answer("a parameter is missing or wrong", "ErrorAnswer"),
                "401": answer("no token, or one that is not good: codes auth_… of docs/access.md", "ErrorAnswer"),
                "403": answer("the token does not grant this, or the page's origin may not ask", "ErrorAnswer"),
                "404": answer("the feed does not carry this symbol, or it has not traded yet", "ErrorAnswer"),
                "503": answer("the log or the store is away", "ErrorAnswer"),
            },
        }
    }


def _parameter(name: str, schema: Document, text: str, *, required: bool = False) -> Document:
    return {"name": name, "in": "query", "required": required, "description": text, "schema": schema}


def _message_name(kind: type[msgspec.Struct]) -> str:
    return str(kind.__struct_config__.tag)


def _operation(action: str, kinds: Sequence[type[msgspec.Struct]], summary: str) -> Document:
    names = [_message_name(kind) for kind in kinds]
    return {
        "action": action,
        "channel": {"$ref": "#/channels/stream"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/stream/messages/{name}"} for name in names],
    }


_HEADER = "# Made by `python -m marketfeed.mds.openapi docs`; the types are in wire/websocket.py.\n"


def write(directory: Path) -> None:
    """Write both documents."""
    for name, document in (("openapi", openapi()), ("asyncapi", asyncapi())):
        (directory / f"{name}.yaml").write_text(_HEADER + as_yaml(document), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
