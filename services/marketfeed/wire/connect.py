"""The Connect protocol, which browsers can speak where they cannot speak gRPC (connectrpc.com/docs/protocol).

Rules of this file
- A call is a POST to `/package.Service/Method`. Unary: the message is the body, JSON or protobuf as its content type
  says. Server streaming: messages are enveloped, one byte of flags and four of length before each; the request is one
  message, and the last envelope of the answer, with flag 2, is JSON that holds the error, if there was one.
- JSON is protobuf's own mapping: names in camel case, enums by name, 64-bit integers as strings; unknown fields are
  ignored, so that newer clients work.
- A unary error is a body `{"code", "message", "details"}` with an HTTP status of its own; a stream that has begun has
  status 200 whatever becomes of it.
- Messages are not compressed: they are small, and whoever asks for it anyway gets `unimplemented`.

Not here: who may call, deadlines, sockets.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2

from marketfeed.domain.errors import CallRefused

M = TypeVar("M", bound=Message)

ERROR_DOMAIN = "marketfeed"
JSON, PROTO = "application/json", "application/proto"
STREAM_JSON, STREAM_PROTO = "application/connect+json", "application/connect+proto"
UNARY_TYPES, STREAM_TYPES = (JSON, PROTO), (STREAM_JSON, STREAM_PROTO)
_END_OF_STREAM, _COMPRESSED = 2, 1
_HEAD_BYTES = 5
_TIMEOUT_DIGITS_MAX = 10
_HTTP_STATUS = {
    "canceled": 499, "unknown": 500, "invalid_argument": 400, "deadline_exceeded": 504, "not_found": 404,
    "already_exists": 409, "permission_denied": 403, "resource_exhausted": 429, "failed_precondition": 400,
    "aborted": 409, "out_of_range": 400, "unimplemented": 501, "internal": 500, "unavailable": 503, "data_loss": 500,
    "unauthenticated": 401,
}  # fmt: skip


class ConnectError(Exception):
    """How a call ends that does not succeed: Connect's `code`, a sentence, and what a program may want to know."""

    def __init__(self, code: str, message: str, reason: str = "", facts: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.reason = reason
        self.facts = dict(facts or {})

    @classmethod
    def of_refused(cls, refused: CallRefused) -> ConnectError:
        """A refusal as Connect says it; the names of gRPC's statuses are its codes, in lower case."""
        return cls(refused.status.value.lower(), refused.message, refused.reason, refused.facts)

    @property
    def http_status(self) -> int:
        """The status of a unary answer (connectrpc.com/docs/protocol, error codes)."""
        return _HTTP_STATUS[self.code]

    def body(self) -> bytes:
        """The error as JSON."""
        return json.dumps(self._told()).encode()

    def _told(self) -> dict[str, Any]:
        told: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.reason:
            info = error_details_pb2.ErrorInfo(reason=self.reason, domain=ERROR_DOMAIN, metadata=self.facts)
            packed = base64.b64encode(info.SerializeToString()).rstrip(b"=").decode()
            shown = {"reason": self.reason, "domain": ERROR_DOMAIN, "metadata": self.facts}
            told["details"] = [{"type": "google.rpc.ErrorInfo", "value": packed, "debug": shown}]
        return told

    def end(self) -> bytes:
        """The error as the last envelope of a stream."""
        return _envelope(_END_OF_STREAM, json.dumps({"error": self._told()}).encode())


@dataclass(frozen=True, slots=True)
class Codec:
    """How messages of a call are written: JSON or protobuf, alone or enveloped; `content_type` says which."""

    content_type: str
    is_json: bool = field(init=False)
    streams: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_json", self.content_type in (JSON, STREAM_JSON))
        object.__setattr__(self, "streams", self.content_type in STREAM_TYPES)

    def read(self, body: bytes, kind: type[M]) -> M:
        """The request's message. Raises ConnectError."""
        return self._parsed(_opened(body) if self.streams else body, kind)

    def write(self, message: Message) -> bytes:
        """An answer's message."""
        data = json_format.MessageToJson(message, indent=None).encode() if self.is_json else message.SerializeToString()
        return _envelope(0, data) if self.streams else data

    def _parsed(self, data: bytes, kind: type[M]) -> M:
        try:
            if not self.is_json:
                return kind.FromString(data)
            told = json.loads(data)
            if not isinstance(told, dict):  # which the library would take for an empty message
                raise ConnectError("invalid_argument", "a message is a JSON object", "MALFORMED")
            return json_format.ParseDict(told, kind(), ignore_unknown_fields=True)
        except (DecodeError, json_format.ParseError, ValueError, RecursionError) as error:
            raise ConnectError("invalid_argument", f"this is no {kind.DESCRIPTOR.name}: {error}", "MALFORMED") from None


def codec_of(content_type: str, allowed: tuple[str, ...]) -> Codec | None:
    """The codec that a request's Content-Type names, if it is one of `allowed`; parameters but UTF-8 name none."""
    kind, _, parameters = content_type.partition(";")
    if parameters.strip().lower().replace('"', "") not in ("", "charset=utf-8"):
        return None
    kind = kind.strip().lower()
    return Codec(kind) if kind in allowed else None


def timeout_s(headers: Mapping[str, str]) -> float | None:
    """How long the client waits, None for ever. Raises ConnectError for what is no number of milliseconds."""
    text = headers.get("Connect-Timeout-Ms")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _TIMEOUT_DIGITS_MAX):
        raise ConnectError("invalid_argument", "Connect-Timeout-Ms is at most ten digits", "MALFORMED")
    return int(text) / 1000


def check_headers(headers: Mapping[str, str]) -> None:
    """Raises ConnectError for another version of the protocol, and for compression."""
    version = headers.get("Connect-Protocol-Version", "1")
    if version != "1":
        raise ConnectError("invalid_argument", f"Connect-Protocol-Version is {version!r}, must be 1", "MALFORMED")
    for name in ("Content-Encoding", "Connect-Content-Encoding"):
        if headers.get(name, "identity") != "identity":
            raise ConnectError("unimplemented", f"{name}: send messages as they are", "COMPRESSED")


def end_of_stream() -> bytes:
    """The last envelope of a stream without an error."""
    return _envelope(_END_OF_STREAM, b"{}")


def _envelope(flags: int, data: bytes) -> bytes:
    return bytes((flags,)) + len(data).to_bytes(4, "big") + data


def _opened(body: bytes) -> bytes:
    """The one message of an enveloped request. Raises ConnectError."""
    if len(body) < _HEAD_BYTES or len(body) != _HEAD_BYTES + int.from_bytes(body[1:_HEAD_BYTES], "big"):
        sentence = "the body must be one envelope: a byte of flags, four of length, the message"
        raise ConnectError("invalid_argument", sentence, "MALFORMED")
    if body[0] & _COMPRESSED:
        raise ConnectError("unimplemented", "send messages as they are", "COMPRESSED")
    if body[0]:
        raise ConnectError("invalid_argument", f"flags {body[0]:#04x} mean nothing in a request", "MALFORMED")
    return body[_HEAD_BYTES:]
