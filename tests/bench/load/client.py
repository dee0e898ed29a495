"""The load: many WebSocket clients in one process, as raw sockets; the same for every server.

Commands: `connect N` opens N more connections, `subscribe` has each follow `--follows` symbols, `stalling N` opens N
more that follow every symbol, `stall K` lets K of those read no more, `count` begins to count, `report` ends it,
`newest` tells who has not the newest quote of its symbol.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import time
from array import array
from typing import Any

import numpy as np
import uvloop
from tests.bench.load.child import tell
from tests.bench.load.commands import commands
from tests.bench.load.scenario import MARK, NAMES, QUOTE, allow_files

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
AT_ONCE = 50
# One quote of so many is timed.
TIMED = 10
# Receive buffer of a client that is going to stall, so that the kernel does not hide it for long.
STALLING_BUFFER = 16 * 1024

# What a client says first, and how it asks for a symbol.
DIALECTS: dict[str, tuple[str, str]] = {
    "marketfeed": ("", '{"type":"subscribe","symbols":["%s"],"channels":["quotes"]}'),
    "websockets": ("", '{"subscribe":["%s"]}'),
    "centrifuge": ('{"id":1,"connect":{}}', '{"id":2,"subscribe":{"channel":"%s"}}'),
}


def frame(payload: bytes, first: int = 0x81) -> bytes:
    """A client's frame, masked with zeros."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes((first,)) + length + bytes(4) + payload


class Counts:
    """What all connections count together."""

    def __init__(self) -> None:
        self.open = self.heard = self.quotes = self.closed = 0
        self.counting = False
        self.latencies = array("q")
        self.closed_codes: dict[str, int] = {}
        self.changed = asyncio.Event()


class Reader(asyncio.Protocol):
    """One client. `timed`: whether it is counted at all; the stalling ones are not."""

    def __init__(self, counts: Counts, handshake: bytes, greeting: str, *, timed: bool = True) -> None:
        self.counts = counts
        self.timed = timed
        self.last = b""
        self.transport: Any = None
        self._handshake = handshake
        self._greeting = greeting
        self._rest = b""
        self._open = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self._handshake)

    def connection_lost(self, exc: Exception | None) -> None:
        self.counts.closed += 1
        self.counts.changed.set()

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data, self._rest = self._rest + data, b""
        place = 0
        if not self._open:
            place = self._opened(data)
            if not place:
                return
        size, begin = len(data), place
        while size - place >= 2:
            length, header = data[place + 1], 2
            if length >= 126:
                header = 4 if length == 126 else 10
                if size - place < header:
                    break
                length = int.from_bytes(data[place + 2 : place + header], "big")
            end = place + header + length
            if end > size:
                break
            if data[place] != 0x81:
                self._control(data[place] & 0x0F, data[place + header : end])
            place = end
        if place < size:
            self._rest = data[place:]
        if self.timed and (found := data.count(MARK, begin, place)):
            self._quotes(data, begin, place, found)

    def _opened(self, data: bytes) -> int:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._rest = data
            return 0
        assert data.startswith(b"HTTP/1.1 101"), data
        self._open = True
        self.counts.open += 1
        self.counts.changed.set()
        if self._greeting:
            self.transport.write(frame(self._greeting.encode()))
        return end + 4

    def _quotes(self, data: bytes, begin: int, end: int, found: int) -> None:
        counts = self.counts
        if not self.last:
            counts.heard += 1
            counts.changed.set()
        self.last = data
        if not counts.counting:
            return
        before = counts.quotes
        counts.quotes = before + found
        if counts.quotes // TIMED != before // TIMED:
            now_ns = time.time_ns()
            counts.latencies.extend(now_ns - int(stamp) for _, stamp in QUOTE.findall(data, begin, end))

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == 0x9:
            self.transport.write(frame(payload, 0x8A))
        elif opcode == 0x8:
            code = str(int.from_bytes(payload[:2], "big"))
            self.counts.closed_codes[code] = self.counts.closed_codes.get(code, 0) + 1
            self.transport.close()


class Load:
    """All connections of the process."""

    def __init__(self, port: int, path: str, dialect: str, follows: int) -> None:
        self._port = port
        self._dialect = dialect
        self._follows = follows
        self._handshake = HANDSHAKE.format(path=path).encode()
        self._greeting, self._wish = DIALECTS[dialect]
        self.counts = Counts()
        self.readers: list[Reader] = []
        self.stalling: list[Reader] = []
        self._began_s = 0.0

    async def until(self, reached: Any) -> None:
        """Wait for a condition on the counts."""
        async with asyncio.timeout(120):
            while not reached():
                self.counts.changed.clear()
                await self.counts.changed.wait()

    async def connect(self, number: int) -> None:
        """Open so many more, some at a time."""
        for begun in range(0, number, AT_ONCE):
            await asyncio.gather(*(self._open(self.readers) for _ in range(min(AT_ONCE, number - begun))))
            await self.until(lambda: self.counts.open == len(self.readers) + len(self.stalling))

    async def stall_soon(self, number: int) -> None:
        """Open so many that follow every symbol, and read for now."""
        for _ in range(number):
            await self._open(self.stalling, STALLING_BUFFER)
        await self.until(lambda: self.counts.open == len(self.readers) + len(self.stalling))
        symbols = '","'.join(NAMES)
        for reader in self.stalling[-number:]:
            reader.transport.write(frame((self._wish % symbols).encode()))

    def stall(self, number: int) -> None:
        """So many of those read no more, and are forgotten here."""
        for reader in self.stalling[:number]:
            reader.transport.pause_reading()

    async def subscribe(self) -> None:
        """A watch list for each; all at once, as whoever is served already slows others down."""
        draw = random.Random(1)
        for number, reader in enumerate(self.readers):
            first = NAMES[number % len(NAMES)]
            others = draw.sample([name for name in NAMES if name != first], self._follows - 1)
            reader.transport.write(b"".join(frame(text.encode()) for text in self._wishes([first, *others])))

    def _wishes(self, names: list[str]) -> list[str]:
        """What a client says to follow these: one message, or one for each where the server wants it so."""
        if self._dialect == "centrifuge":
            return [(self._wish % name).replace('"id":2', f'"id":{2 + i}') for i, name in enumerate(names)]
        return [self._wish % '","'.join(names)]

    def count(self) -> None:
        """Begin to count."""
        counts = self.counts
        counts.quotes, counts.latencies, counts.counting = 0, array("q"), True
        self._began_s = time.monotonic()
        self._stay_awake()

    def _stay_awake(self) -> None:
        """Never sleep while counting.

        A write to a sleeping reader on the same machine wakes it, which costs the writer as much as the write itself,
        and the more so the less the reader has to do. Clients of a real server sleep elsewhere.
        """
        if self.counts.counting:
            asyncio.get_running_loop().call_soon(self._stay_awake)

    def report(self) -> dict[str, object]:
        """What was counted since."""
        counts = self.counts
        passed_s, counts.counting = time.monotonic() - self._began_s, False
        millis = np.frombuffer(counts.latencies, np.int64) / 1e6 if counts.latencies else np.zeros(1)
        p50, p99 = np.percentile(millis, (50, 99)).tolist()
        return {
            "passed_s": passed_s, "quotes": counts.quotes, "p50_ms": p50, "p99_ms": p99, "max_ms": float(millis.max()),
            "closed": counts.closed, "codes": counts.closed_codes,
        }  # fmt: skip

    def behind(self) -> int:
        """How many clients have an older quote than another client of the same symbol."""
        held: list[tuple[bytes, bytes]] = [QUOTE.findall(reader.last)[-1] for reader in self.readers if reader.last]
        newest: dict[bytes, bytes] = {}
        for symbol, stamp in held:
            newest[symbol] = max(stamp, newest.get(symbol, stamp))
        return len(self.readers) - sum(newest[symbol] == stamp for symbol, stamp in held)

    async def _open(self, into: list[Reader], buffer: int = 0) -> None:
        reader = Reader(self.counts, self._handshake, self._greeting, timed=into is self.readers)
        plain = socket.socket()
        plain.setblocking(False)
        if buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(plain, ("127.0.0.1", self._port))
        await loop.create_connection(lambda: reader, sock=plain)
        into.append(reader)


async def main(arguments: argparse.Namespace) -> None:
    """Obey commands until the parent has gone."""
    load = Load(arguments.port, arguments.path, arguments.dialect, arguments.follows)
    tell("ready")
    async for name, *words in commands():
        facts: dict[str, object] = {}
        match name:
            case "connect":
                allow_files(len(load.readers) + int(words[0]))
                await load.connect(int(words[0]))
            case "subscribe":
                await load.subscribe()
            case "heard":
                await load.until(lambda: load.counts.heard == len(load.readers))
            case "stalling":
                await load.stall_soon(int(words[0]))
            case "stall":
                load.stall(int(words[0]))
            case "count":
                load.count()
            case "report":
                facts = load.report()
            case "newest":
                facts = {"behind": load.behind()}
        tell(name, **facts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--dialect", choices=DIALECTS, required=True)
    parser.add_argument("--follows", type=int, default=1)
    uvloop.run(main(parser.parse_args()))
