"""Frames as RFC 6455 section 5 writes them."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.wire.websocket_frames import (
    BINARY,
    CLOSE,
    PING,
    TEXT,
    encode_close_frame,
    encode_frame,
    encode_text_frame,
)


def decode(frame: bytes) -> tuple[int, bytes, bytes]:
    """Opcode, payload and what follows the frame; an independent reading of the RFC."""
    assert frame[0] & 0x80, "final"
    assert not frame[0] & 0x70, "no extension bits"
    assert not frame[1] & 0x80, "a server does not mask"
    size, start = frame[1], 2
    if size == 126:
        size, start = struct.unpack_from("!H", frame, 2)[0], 4
    elif size == 127:
        size, start = struct.unpack_from("!Q", frame, 2)[0], 10
    return frame[0] & 0x0F, frame[start : start + size], frame[start + size :]


@given(st.lists(st.tuples(st.sampled_from([TEXT, BINARY]), st.binary(max_size=300)), max_size=8))
@settings(max_examples=25)
def test_joined_frames_come_apart_again(messages: list[tuple[int, bytes]]) -> None:
    """Frames joined into one write are read back one by one."""
    stream = b"".join(encode_frame(opcode, payload) for opcode, payload in messages)
    read = []
    while stream:
        opcode, payload, stream = decode(stream)
        read.append((opcode, payload))
    assert read == messages


@pytest.mark.parametrize(("size", "header"), [(0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10)])
def test_each_length_uses_the_shortest_header(size: int, header: int) -> None:
    """The length field has the size that the RFC prescribes."""
    frame = encode_text_frame(b"x" * size)
    assert len(frame) == header + size
    assert decode(frame) == (TEXT, b"x" * size, b"")


def test_a_control_frame_is_short() -> None:
    """More than 125 bytes do not fit a ping."""
    with pytest.raises(ValueError, match="at most 125"):
        encode_frame(PING, b"x" * 126)


def test_a_close_reason_is_cut_at_a_character() -> None:
    """A long reason stays valid UTF-8 and inside the limit."""
    opcode, payload, rest = decode(encode_close_frame(4003, "ö" * 100))
    assert (opcode, rest) == (CLOSE, b"")
    assert struct.unpack("!H", payload[:2]) == (4003,)
    assert payload[2:].decode() == "ö" * 61
