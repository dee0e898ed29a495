"""The public client of `/v1/stream`: typed messages, subscriptions that survive a reconnect, back-off with jitter.

    async for message in Stream("ws://127.0.0.1:8080/v1/stream", ["AAPL"]).messages():
        match message:
            case QuoteOut(): ...

Messages are the types of `marketfeed.wire.websocket`; types that this version does not know are skipped, as the
protocol asks. After a lost connection the stream connects again, subscribes anew and yields `Reconnected`; the
snapshots that follow replace what the caller holds. It keeps no state of the market.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import aiohttp
import msgspec

from marketfeed.domain.client_session import CHANNELS, EXPIRED, CloseCode
from marketfeed.domain.errors import ClientError, Unavailable
from marketfeed.runtime.tasks import backoff_s
from marketfeed.wire.websocket import AuthIn, Drain, ErrorOut, ServerMessage, SubscribeIn, encode

# A live server sends a heartbeat every second; longer silence is a dead connection.
SILENCE_S = 5.0
CONNECT_S = 5.0
MESSAGE_BYTES_MAX = 16 * 1024 * 1024

Token = str | Callable[[], str | None] | None

_decoder: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(ServerMessage)


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The connection was lost for `away_s` seconds, because of `reason`; fresh snapshots follow."""

    away_s: float
    reason: str


class Stream:
    """One connection to `/v1/stream`, made again whenever it is lost."""

    def __init__(
        self,
        url: str,
        symbols: Sequence[str],
        *,
        channels: Sequence[str] = CHANNELS,
        interval_ms: int | None = None,
        from_s: int | None = None,
        token: Token = None,
        seed: int | None = None,
        on_lost: Callable[[str], object] = lambda reason: None,
    ) -> None:
        """`token`, or what gives one, is shown on each connection; `on_lost` is told why one failed or ended."""
        self.url = url
        self._on_lost = on_lost
        self._subscribe = SubscribeIn(list(symbols), list(channels), interval_ms, from_s, wait=True, id=1)
        self._token = token
        self._jitter = random.Random(seed)
        self._pause_s: float | None = None

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
            try:
                async with asyncio.timeout(CONNECT_S):
                    token = self._token() if callable(self._token) else self._token
                    if token is not None:
                        await socket.send_str(encode(AuthIn(token, id=0)).decode())
                    await socket.send_str(encode(self._subscribe).decode())
            except (OSError, TimeoutError) as error:
                raise self._lost(str(error) or "the server takes no messages") from error
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
                yield message

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


def decode(text: str | bytes) -> ServerMessage | None:
    """A server's message; None for a type or a shape of a later version of the protocol."""
    try:
        return _decoder.decode(text)
    except msgspec.ValidationError:
        return None


__all__ = ["ErrorOut", "Reconnected", "Stream", "decode"]
