"""Redis (or Valkey), the hot cache: quotes, arrays of seconds and the position they belong to. Nothing lives only here.

A flush is one Lua call: it compares the stored position with the expected one and, if they agree, writes everything
and the new position; else it writes nothing (StalePosition). So a reader may stop and another go on at any moment, and
of two writers one wins each step. Commands, not bytes, are what costs: neighbouring seconds go in one range.

Keys (feed in the second place; no cluster slots are assumed)
  mf:{feed}:quote:{symbol}               hash, see `QUOTE_FIELDS`
  mf:{feed}:sec:{symbol}:{YYYYMMDDHH}    3,600 closes, see wire/redis_cells; sec_ts beside it; both expire after 48 h
  mf:{feed}:symbols                      set of the symbols that have a quote
  mf:{feed}:pos                          hash: position, append_ts, and per partition what the readers' rule knew there
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import hiredis
import numpy as np
from redis import asyncio as client
from redis import exceptions

from marketfeed.domain.errors import SettingError, StalePosition, Unavailable
from marketfeed.domain.position import Position
from marketfeed.domain.second_cells import Cells
from marketfeed.domain.trades import Float64Array, Int64Array
from marketfeed.wire.redis_cells import CELL_BYTES, HOUR_S, closes_key, hours_of, read_hour, runs, stamps_key

TIMEOUT_S = 5.0
KEEP_S = 48 * 3600
_AWAY = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.BusyLoadingError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    OSError,
    TimeoutError,
)

# Answers by which a server says "not now" that the client has no class for: the disk is full, a script is busy,
# replicas are missing, a cluster is not whole.
_NOT_NOW = ("MISCONF", "BUSY", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN")
# Hours seen to are forgotten beyond this many; the price is one EXPIRE more for each that is written again.
_HOURS_KNOWN_MAX = 100_000

# ARGV: expected position, number of values that follow for the position's hash, those values, then operations, each
# led by its kind: R key offset bytes | E key seconds | H key count (field value)* | S key member
_FLUSH = """
local found = redis.call('HGET', KEYS[1], 'position') or ''
if found ~= ARGV[1] then return {0, found} end
local at = 3 + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], unpack(ARGV, 3, at - 1))
local count = #ARGV
while at <= count do
    local kind = ARGV[at]
    if kind == 'R' then
        redis.call('SETRANGE', ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
        at = at + 4
    elseif kind == 'H' then
        local stop = at + 2 + tonumber(ARGV[at + 2])
        redis.call('HSET', ARGV[at + 1], unpack(ARGV, at + 3, stop))
        at = stop + 1
    elseif kind == 'E' then
        redis.call('EXPIRE', ARGV[at + 1], ARGV[at + 2])
        at = at + 3
    else
        redis.call('SADD', ARGV[at + 1], ARGV[at + 2])
        at = at + 3
    end
end
return {1, ''}
"""


class _PackingConnection(client.Connection):
    """A connection that packs commands in C: a flush has tens of thousands of arguments, and the client's own packing
    in Python took a third of the sink's time. (Over TLS the client chooses its own class.)"""

    def pack_command(self, *args: Any) -> list[bytes]:
        """As the client's, which also splits a command name of two words."""
        if isinstance(args[0], str) and " " in args[0]:
            args = (*args[0].split(), *args[1:])
        return [hiredis.pack_command(args)]


@dataclass(frozen=True, slots=True, eq=False)
class CacheFlush:
    """What one call writes. `expected` None: there must be no position yet.

    quotes  hash values by symbol; cells with symbol ids as in `names`; state  values by field of the position's hash
    """

    expected: Position | None
    position: Position
    state: Mapping[str, str | int]
    names: Sequence[str]
    quotes: Mapping[str, Mapping[str, str | int | float]]
    cells: Cells


@dataclass(slots=True)
class _Known:
    """Keys whose expiry, and symbols whose membership, this process has seen to."""

    hours: set[tuple[int, int]] = field(default_factory=set)
    symbols: set[str] = field(default_factory=set)


class RedisCache:
    """The hot cache of one feed. Calls raise Unavailable when the server is away, SettingError when it refuses us."""

    def __init__(self, url: str, feed: str) -> None:
        self.feed = feed
        self._url = url
        pool = client.ConnectionPool.from_url(
            url, connection_class=_PackingConnection, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
        )
        self._client: Any = client.Redis.from_pool(pool)
        self._script: Any = self._client.register_script(_FLUSH)
        self._known = _Known()

    @property
    def place(self) -> str:
        """Host and port, without secrets."""
        parts = urlsplit(self._url)
        return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(2 * TIMEOUT_S):
                yield
        except exceptions.AuthenticationError as error:
            raise SettingError("--redis", f"{self.place} refuses: {error}; correct user or password") from error
        except _AWAY as error:
            raise Unavailable("Redis", self.place, str(error) or type(error).__name__) from error
        except exceptions.ResponseError as error:
            if not str(error).startswith(_NOT_NOW):
                raise
            raise Unavailable("Redis", self.place, str(error)) from error

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        """As `_translated`; after a failure nobody knows what was obeyed, so expiry and membership are sent again."""
        try:
            async with self._translated():
                yield
        except BaseException:
            self._known = _Known()
            raise

    async def ping(self) -> None:
        """Return if the server answers."""
        async with self._translated():
            await self._client.ping()

    async def close(self) -> None:
        """Let the connections go."""
        await self._client.aclose()

    async def position(self) -> Position | None:
        """The position of what is cached, None if there is none."""
        async with self._translated():
            text = await self._client.hget(self._key("pos"), "position")
        return Position.parse(text.decode()) if text else None

    async def read_state(self) -> dict[str, str]:
        """All fields of the position's hash, empty if there is none."""
        async with self._translated():
            found = await self._client.hgetall(self._key("pos"))
        return {name.decode(): value.decode() for name, value in found.items()}

    async def flush(self, flush: CacheFlush) -> None:
        """Write everything and the position, or raise StalePosition and write nothing."""
        expected = "" if flush.expected is None else flush.expected.text()
        state = {"position": flush.position.text(), **flush.state}
        arguments: list[Any] = [expected, 2 * len(state)]
        for pair in state.items():
            arguments += pair
        arguments += self._cell_operations(flush.names, flush.cells)
        arguments += self._quote_operations(flush.quotes)
        async with self._writing():
            done, found = await self._script(keys=[self._key("pos")], args=arguments)
        if not done:
            self._known = _Known()
            raise StalePosition("cache", expected, found.decode())

    def _cell_operations(self, names: Sequence[str], cells: Cells) -> list[Any]:
        operations: list[Any] = []
        if len(self._known.hours) > _HOURS_KNOWN_MAX:
            self._known.hours.clear()
        for symbol_id, hour, offset, closes, stamps in runs(cells):
            symbol = names[symbol_id]
            keys = closes_key(self.feed, symbol, hour), stamps_key(self.feed, symbol, hour)
            operations += ("R", keys[0], offset, closes, "R", keys[1], offset, stamps)
            if (symbol_id, hour) not in self._known.hours:
                self._known.hours.add((symbol_id, hour))
                operations += ("E", keys[0], KEEP_S, "E", keys[1], KEEP_S)
        return operations

    def _quote_operations(self, quotes: Mapping[str, Mapping[str, str | int | float]]) -> list[Any]:
        operations: list[Any] = []
        prefix = self._key("quote", "")
        for symbol, values in quotes.items():
            operations += ("H", prefix + symbol, 2 * len(values))
            for pair in values.items():
                operations += pair
            if symbol not in self._known.symbols:
                self._known.symbols.add(symbol)
                operations += ("S", self._key("symbols"), symbol)
        return operations

    async def symbols(self) -> list[str]:
        """The symbols that have a quote, sorted."""
        async with self._translated():
            return sorted(name.decode() for name in await self._client.smembers(self._key("symbols")))

    async def read_quote(self, symbol: str) -> dict[str, str] | None:
        """The fields of a symbol's quote as text, None if there is none."""
        found = await self.read_quotes([symbol])
        return found.get(symbol)

    async def read_quotes(self, symbols: Sequence[str]) -> dict[str, dict[str, str]]:
        """The quotes of those of the symbols that have one."""
        async with self._translated():
            pipe = self._client.pipeline(transaction=False)
            for symbol in symbols:
                pipe.hgetall(self._key("quote", symbol))
            answers = await pipe.execute()
        return {
            symbol: {name.decode(): value.decode() for name, value in answer.items()}
            for symbol, answer in zip(symbols, answers, strict=True)
            if answer
        }

    async def read_seconds(self, symbol: str, from_s: int, to_s: int) -> tuple[Position | None, Cells]:
        """The closes of a symbol's seconds in [from_s, to_s) that have one, with their stamps, and the position they
        belong to. symbol_id is 0."""
        hours = list(hours_of(from_s, to_s))
        keys = [key(self.feed, symbol, hour) for hour in hours for key in (closes_key, stamps_key)]
        async with self._translated():
            pipe = self._client.pipeline(transaction=True)
            pipe.hget(self._key("pos"), "position")
            pipe.mget(keys or [""])
            text, strings = await pipe.execute()
        columns = [read_hour(strings[2 * i], strings[2 * i + 1]) for i in range(len(hours))]
        closes: Float64Array = np.concatenate([c for c, _ in columns]) if columns else np.empty(0)
        stamps: Int64Array = np.concatenate([s for _, s in columns]) if columns else np.empty(0, np.int64)
        second = np.arange(len(stamps)) + (hours[0] * HOUR_S if hours else 0)
        held = (stamps != 0) & (second >= from_s) & (second < to_s)
        cells = Cells(np.zeros(int(held.sum()), np.int64), second[held], closes[held], stamps[held])
        return (Position.parse(text.decode()) if text else None), cells

    async def read_cells(self, wanted: Iterable[tuple[int, str, int]]) -> Cells:
        """The content of single cells (symbol id, symbol, second) that have one, in the order asked."""
        wanted = list(wanted)
        async with self._translated():
            pipe = self._client.pipeline(transaction=False)
            for _, symbol, second in wanted:
                hour, place = divmod(second, HOUR_S)
                first, last = place * CELL_BYTES, (place + 1) * CELL_BYTES - 1
                pipe.getrange(closes_key(self.feed, symbol, hour), first, last)
                pipe.getrange(stamps_key(self.feed, symbol, hour), first, last)
            answers = await pipe.execute()
        rows = [
            (symbol_id, second, float(np.frombuffer(close, "<f8")[0]), int(np.frombuffer(stamp, "<i8")[0]))
            for (symbol_id, _, second), close, stamp in zip(wanted, answers[::2], answers[1::2], strict=True)
            if len(stamp) == CELL_BYTES and any(stamp)
        ]
        return Cells(
            np.array([r[0] for r in rows], np.int64),
            np.array([r[1] for r in rows], np.int64),
            np.array([r[2] for r in rows], np.float64),
            np.array([r[3] for r in rows], np.int64),
        )

    async def write_cells(self, names: Sequence[str], cells: Cells) -> None:
        """Write cells without a position: a rebuild fills the arrays first and sets the position last."""
        operations = self._cell_operations(names, cells)
        if operations:
            async with self._writing():
                await self._client.eval(_FLUSH_CELLS, 0, *operations)

    async def forget(self) -> None:
        """Delete the position, so that whoever writes next rebuilds the cache."""
        async with self._translated():
            await self._client.delete(self._key("pos"))

    def _key(self, *parts: str) -> str:
        return ":".join(("mf", self.feed, *parts))


_FLUSH_CELLS = """
local at = 1
while at <= #ARGV do
    if ARGV[at] == 'R' then
        redis.call('SETRANGE', ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
        at = at + 4
    else
        redis.call('EXPIRE', ARGV[at + 1], ARGV[at + 2])
        at = at + 3
    end
end
return 1
"""
