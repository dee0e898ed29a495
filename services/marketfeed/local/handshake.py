"""Readiness by the servers' own protocols: a request that only a server that serves can answer.

Spoken by hand, a few bytes each, so that waiting for a server needs no client library: Kafka's ApiVersions, Redis'
PING, PostgreSQL's start message. A listening socket alone says little: PostgreSQL listens while it recovers.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable

from marketfeed.domain.errors import Unavailable

ATTEMPT_S = 2.0
PAUSE_S = 0.05

Exchange = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]


async def kafka_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """ApiVersions version 0: the answer carries our correlation id and error 0."""
    body = struct.pack(">hhih", 18, 0, 7, -1)
    writer.write(struct.pack(">i", len(body)) + body)
    size, correlation, error = struct.unpack(">iih", await reader.readexactly(10))
    return bool(size > 6 and correlation == 7 and error == 0)


async def redis_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """PING: answered by PONG, or by NOAUTH from a server that wants a password; not by LOADING."""
    writer.write(b"PING\r\n")
    line = await reader.readline()
    return line.startswith((b"+PONG", b"-NOAUTH"))


async def postgres_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """A start message: a server that accepts sessions asks for the password, one that starts up sends an error."""
    body = struct.pack(">i", 196608) + b"user\0postgres\0database\0postgres\0\0"
    writer.write(struct.pack(">i", len(body) + 4) + body)
    return await reader.readexactly(1) == b"R"


async def wait_until_answers(what: str, host: str, port: int, exchange: Exchange, timeout_s: float) -> None:
    """Repeat the exchange until it succeeds. Raises Unavailable with the last reason when the time is over."""
    reason = "it did not answer"
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    if await _attempt(host, port, exchange):
                        return
                    reason = "it answers but does not serve yet"
                except (OSError, EOFError, TimeoutError) as error:
                    reason = str(error) or type(error).__name__
                await asyncio.sleep(PAUSE_S)
    except TimeoutError:
        raise Unavailable(what, f"{host}:{port}", f"{reason} within {timeout_s:.0f} s") from None


async def _attempt(host: str, port: int, exchange: Exchange) -> bool:
    async with asyncio.timeout(ATTEMPT_S):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            return await exchange(reader, writer)
        finally:
            writer.close()
