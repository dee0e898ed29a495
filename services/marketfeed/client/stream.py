"""The public client of `/v1/stream`: typed messages, and a stream that goes on where it was when a connection is lost.

    async for message in Stream("ws://127.0.0.1:8080/v1/stream", ["AAPL"], channels=["quotes", "trades"]).messages():
        match message:
            case QuoteOut(): ...                   # the newest price
            case TradesOut(): ...                  # columns of trades, each trade once
            case ResumedOut(recovered=False): ...  # what was missed while away cannot be had: begin anew

Messages are the types of `marketfeed.wire.websocket`; types that this version does not know are skipped, as the
protocol asks. After a lost connection the stream connects again with jittered back-off, yields `Reconnected` and
resumes: what was missed follows, or, if it cannot be had as a whole, snapshots that replace what the caller holds. It
keeps no state of the market.
"""

from __future__ import annotations

import asyncio
import random
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import aiohttp
import msgspec

from marketfeed.domain.client_messages import DEFAULT_CHANNELS, CloseCode
from marketfeed.domain.client_session import EXPIRED
from marketfeed.domain.errors import ClientError, Unavailable
from marketfeed.runtime.tasks import backoff_s
from marketfeed.wire.websocket import (
    CaughtUp,
    Drain,
    ErrorOut,
    Heartbeat,
    ResumedOut,
    ServerMessage,
    Snapshot,
    SubscribedOut,
    TradesOut,
    encode,
)
from marketfeed.wire.websocket_commands import AuthIn, ResumeIn, SetIn, SubscribeIn

# A live server sends a heartbeat every second; longer silence is a dead connection.
SILENCE_S = 5.0
CONNECT_S = 5.0
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
_SUBSCRIBE_ID, _RESUME_ID, _SET_ID = 1, 2, 3

Token = str | Callable[[], str | None] | None

_decoder: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(ServerMessage)


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The connection was lost for `away_s` seconds, because of `reason`.

    A `ResumedOut` follows, with what was missed, or fresh snapshots.
    """

    away_s: float
    reason: str


class Stream:
    """One connection to `/v1/stream`, made again whenever it is lost."""

    def __init__(
        self,
        url: str,
        symbols: Sequence[str],
        *,
        channels: Sequence[str] = DEFAULT_CHANNELS,
        interval_ms: int | None = None,
        from_s: int | None = None,
        emission: Literal["fast", "settled"] = "fast",
        token: Token = None,
        seed: int | None = None,
        resumes: bool = True,
        on_lost: Callable[[str], object] = lambda reason: None,
    ) -> None:
        """`token`, or what gives one, is shown on each connection; `on_lost` is told why one failed or ended.

        resumes  go on where it was after a loss; else everything is subscribed anew
        """
        self.url = url
        self._on_lost = on_lost
        self._wanted = SubscribeIn(
            list(symbols), list(channels), interval_ms, from_s, wait=True, emission=emission, id=_SUBSCRIBE_ID
        )
        self._token = token
        self._jitter = random.Random(seed)
        self._pause_s: float | None = None
        self._memory = _Memory(resumes)
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    @property
    def position(self) -> str | None:
        """Where this stream would go on, None before that is known."""
        return self._memory.position

    async def set_interval(self, interval_ms: int) -> None:
        """Ask for another interval, now and on every later connection; an `IntervalOut` says what is in force."""
        self._wanted.interval_ms = interval_ms
        if self._socket is not None and not self._socket.closed:
            await self._say(self._socket, SetIn(interval_ms, id=_SET_ID))

    async def messages(self) -> AsyncIterator[ServerMessage | Reconnected]:
        """Every message, for ever. Raises ClientError when the server says that trying again is of no use."""
        failures, lost_s, reason = 0, 0.0, ""
        async with aiohttp.ClientSession() as http:
            while True:
                try:
                    async for message in self._connection(http):
                        if lost_s:
                            yield Reconnected(time.monotonic() - lost_s, reason)
                        failures, lost_s = 0, 0.0
                        yield message
                except Unavailable as error:
                    reason = error.reason
                    self._on_lost(str(error))
                lost_s = lost_s or time.monotonic()
                pause_s = backoff_s(failures, 0.1, 5.0, self._jitter) if self._pause_s is None else self._pause_s
                self._pause_s, failures = None, failures + 1
                await asyncio.sleep(pause_s)

    async def _connection(self, http: aiohttp.ClientSession) -> AsyncIterator[ServerMessage]:
        """The messages of one connection; raises Unavailable at its end."""
        try:
            async with asyncio.timeout(CONNECT_S):
                socket = await http.ws_connect(self.url, max_msg_size=MESSAGE_BYTES_MAX, autoping=True, compress=0)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._lost(str(error) or "no answer to the handshake") from error
        async with socket:
            self._socket = socket
            await self._begin(socket)
            while True:
                try:
                    frame = await socket.receive(timeout=SILENCE_S)
                except TimeoutError as error:
                    raise self._lost(f"silence for {SILENCE_S:.0f} s") from error
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    raise self._ended(socket.close_code, str(frame.extra or frame.type.name.lower()))
                message = decode(frame.data)
                if message is None:
                    continue
                if isinstance(message, Drain):
                    self._pause_s = message.reconnect_after_ms / 1e3
                if isinstance(message, ErrorOut) and message.id == _RESUME_ID:
                    self._memory.forget()
                    await self._say(socket, self._wanted)
                    continue
                if (kept := self._memory.take(message, self._wanted.symbols)) is not None:
                    yield kept

    async def _begin(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Show the token, then go on where the last connection was, or ask anew."""
        token = self._token() if callable(self._token) else self._token
        if token is not None:
            await self._say(socket, AuthIn(token, id=0))
        wanted, position = self._wanted, self._memory.position
        if position is None:
            await self._say(socket, wanted)
            return
        in_force = (wanted.channels, wanted.interval_ms, wanted.emission)
        await self._say(socket, ResumeIn(position, wanted.symbols, *in_force, id=_RESUME_ID))
        if unfinished := self._memory.unfinished(wanted.symbols):
            await self._say(socket, msgspec.structs.replace(wanted, symbols=unfinished))

    async def _say(self, socket: aiohttp.ClientWebSocketResponse, message: msgspec.Struct) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                await socket.send_str(encode(message).decode())
        except (OSError, TimeoutError) as error:
            raise self._lost(str(error) or "the server takes no messages") from error

    def _ended(self, code: int | None, reason: str) -> Exception:
        try:
            known = CloseCode(code or 0)
        except ValueError:
            return self._lost(reason)
        # Whoever can get another token comes back with it: this one was good until now.
        renewable = callable(self._token) and reason == EXPIRED
        if known.may_reconnect or renewable:
            return self._lost(f"{known.name.lower()}: {reason}")
        return ClientError(known.name.lower(), reason, fatal=True)

    def _lost(self, reason: str) -> Unavailable:
        return Unavailable("the market data server", self.url, reason)


class _Memory:
    """What a stream has to know to go on: a position, whose snapshots are not whole, and the last trade of each symbol.

    A position holds for everything that was joined when it was told; trades that come again after it are dropped.
    """

    def __init__(self, resumes: bool) -> None:
        self._resumes = resumes
        self.position: str | None = None
        self._unfinished: set[str] = set()
        self._last: dict[str, tuple[int, int]] = {}

    def unfinished(self, symbols: Sequence[str]) -> list[str]:
        """Symbols that need another snapshot; those of a pattern by their names."""
        return [name for name in symbols if name in self._unfinished] + sorted(self._unfinished - set(symbols))

    def forget(self) -> None:
        """Nothing is known of where to go on."""
        self.position = None
        self._unfinished.clear()
        self._last.clear()

    def take(self, message: ServerMessage, symbols: Sequence[str]) -> ServerMessage | None:
        """Note a message; what of it is new, None for nothing."""
        match message:
            case SubscribedOut() if self.position is None:
                self._anew(message.position, symbols)
            case ResumedOut(recovered=False):
                self._last.clear()
                self._anew(message.position, symbols)
            case Heartbeat(position=str(position)) | CaughtUp(position=position) | Drain(position=str(position)):
                self._note(position)
                self._unfinished.clear()
            case Snapshot():
                finished = message.part + 1 == message.parts
                (self._unfinished.discard if finished else self._unfinished.add)(message.symbol)
            case TradesOut():
                return self._fresh(message)
        return message

    def _anew(self, position: str, symbols: Sequence[str]) -> None:
        self._note(position)
        self._unfinished = set(symbols)

    def _note(self, position: str) -> None:
        if self._resumes:
            self.position = position

    def _fresh(self, message: TradesOut) -> TradesOut | None:
        """The trades that are newer than the last one of their symbol."""
        places = list(zip(message.offset, message.index, strict=True))
        last = self._last.get(message.symbol)
        known = 0 if last is None or places[0] > last else bisect_right(places, last)
        self._last[message.symbol] = max(places[-1], last or places[-1])
        if known == len(places):
            return None
        return message if not known else _without_first(message, known)


def _without_first(message: TradesOut, count: int) -> TradesOut:
    """Trades without the first ones."""
    conditions = None if message.conditions is None else message.conditions[count:]
    columns = {name: getattr(message, name)[count:] for name in ("event_ts", "price", "size", "offset", "index")}
    return msgspec.structs.replace(message, conditions=conditions, **columns)


def decode(text: str | bytes) -> ServerMessage | None:
    """A server's message; None for a type or a shape of a later version of the protocol."""
    try:
        return _decoder.decode(text)
    except msgspec.ValidationError:
        return None


__all__ = ["ErrorOut", "Reconnected", "ResumedOut", "Stream", "TradesOut", "decode"]
