"""Encodes WebSocket frames as a server sends them (RFC 6455 section 5): unmasked, unfragmented, uncompressed.

A frame is made once and its bytes are written to any number of connections, so the cost of a message does not grow
with the number of its readers. Decoding (masked client frames) is the business of the server's library.
"""

from __future__ import annotations

import struct

TEXT = 0x1
BINARY = 0x2
CLOSE = 0x8
PING = 0x9
PONG = 0xA

CONTROL_PAYLOAD_BYTES_MAX = 125

_FIN = 0x80


def encode_frame(opcode: int, payload: bytes) -> bytes:
    """One final frame. Raises ValueError for a control frame of more than 125 bytes of payload."""
    size = len(payload)
    if size <= CONTROL_PAYLOAD_BYTES_MAX:
        return bytes((_FIN | opcode, size)) + payload
    if opcode >= CLOSE:
        raise ValueError(f"a control frame carries at most {CONTROL_PAYLOAD_BYTES_MAX} bytes, not {size}")
    if size < 0x10000:
        return struct.pack("!BBH", _FIN | opcode, 126, size) + payload
    return struct.pack("!BBQ", _FIN | opcode, 127, size) + payload


def encode_text_frame(payload: bytes) -> bytes:
    """A text frame; the payload must be UTF-8 already."""
    return encode_frame(TEXT, payload)


def encode_close_frame(code: int, reason: str) -> bytes:
    """A close frame; the reason is cut at a character's edge to what fits."""
    return encode_frame(CLOSE, struct.pack("!H", code) + close_reason(reason))


def close_reason(reason: str) -> bytes:
    """The reason of a close frame as UTF-8 of at most 123 bytes, cut at a character's edge."""
    cut = reason.encode()[: CONTROL_PAYLOAD_BYTES_MAX - 2]
    return cut.decode(errors="ignore").encode()
