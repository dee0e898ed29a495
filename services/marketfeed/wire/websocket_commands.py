"""The JSON messages that clients of `/v1/stream` may send, as typed values, and what they ask for.

docs/websocket.md shows each of them; docs/asyncapi.yaml is made from these types.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from marketfeed.domain import client_messages as session
from marketfeed.domain.errors import ClientError

Id = int | str | None
Symbols = Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(min_length=1, max_length=1000)]
Interval = Annotated[int, Meta(ge=1, le=3_600_000)]
Emission = Literal["fast", "settled"]
# The longest position there is.
POSITION_LENGTH_MAX = 64 * 1024


class AuthIn(Struct, tag="auth"):
    """The first message where the server asks for a token; again with a new one before the old one ends."""

    token: str
    id: Id = None


class SubscribeIn(Struct, tag="subscribe"):
    """Ask for symbols; each gets its own status in the answer."""

    symbols: Symbols
    channels: list[str] | None = None
    interval_ms: Interval | None = None
    from_: Annotated[int, Meta(ge=0, le=2**40)] | None = msgspec.field(name="from", default=None)
    wait: bool = False
    emission: Emission = "fast"
    id: Id = None


class ResumeIn(Struct, tag="resume"):
    """Go on where another connection ended, with what was subscribed there."""

    position: Annotated[str, Meta(max_length=POSITION_LENGTH_MAX)]
    symbols: Symbols
    channels: list[str] | None = None
    interval_ms: Interval | None = None
    emission: Emission = "fast"
    id: Id = None


class UnsubscribeIn(Struct, tag="unsubscribe"):
    """Ask for no more of these."""

    symbols: Symbols
    id: Id = None


class SetIn(Struct, tag="set"):
    """Change the interval of this connection."""

    interval_ms: Interval
    id: Id = None


class PingIn(Struct, tag="ping"):
    """Answered by `pong` at once."""

    id: Id = None


ClientMessage = AuthIn | SubscribeIn | ResumeIn | UnsubscribeIn | SetIn | PingIn

_decoder = msgspec.json.Decoder(ClientMessage)


def decode_command(message: str | bytes) -> session.Command:
    """The command in a client's message.

    Raises ClientError with code bad_json, unknown_type or bad_message and a sentence that names the place.
    """
    if isinstance(message, bytes):
        raise ClientError("bad_json", "send text messages, not binary ones")
    try:
        found = _decoder.decode(message)
    except msgspec.ValidationError as error:
        text = str(error)
        kind = "unknown_type" if text.endswith("`$.type`") or "field `type`" in text else "bad_message"
        raise ClientError(kind, text) from error
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise ClientError("bad_json", f"this is not JSON: {error}") from error
    match found:
        case AuthIn():
            return session.Auth(found.id, found.token)
        case SubscribeIn():
            more = (found.interval_ms, found.from_, found.wait, found.emission)
            return session.Subscribe(found.id, _once(found.symbols), _channels(found), *more)
        case ResumeIn():
            names = _once(found.symbols)
            return session.Resume(found.id, found.position, names, _channels(found), found.interval_ms, found.emission)
        case UnsubscribeIn():
            return session.Unsubscribe(found.id, _once(found.symbols))
        case SetIn():
            return session.Set(found.id, found.interval_ms)
    return session.Ping(found.id)


def _once(names: list[str]) -> tuple[str, ...]:
    """Symbols of a request, each once, in their order."""
    return tuple(dict.fromkeys(names))


def _channels(message: SubscribeIn | ResumeIn) -> tuple[str, ...] | None:
    return None if message.channels is None else tuple(message.channels)


class _Identified(Struct):
    id: Id = None


_id_decoder = msgspec.json.Decoder(_Identified)


def message_id(message: str | bytes) -> session.MessageId:
    """The id of a message that could not be understood otherwise; None where there is none."""
    try:
        return _id_decoder.decode(message).id
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
