"""Client of Finnhub's stream, and of everything that speaks its protocol (our generator, a stand-in): one source.

Rules of this file
- Frames go to a `FeedListener` as bytes with the time of their arrival, in order, from the event loop's thread; what is
  in them is the listener's business. Only the protocol is handled here: subscribe, pings of the socket, fragments.
- Liveness: no frame for `watchdog_s` (Finnhub pings every 60 s) means that the connection hangs, whatever TCP says.
- Coming back: jittered, doubling back-off, capped at 5 s; at 60 s when the handshake is refused (HTTP 200, 429 or 5xx
  in place of 101), because a hot loop against a rate limit keeps the limit in force. `Retry-After` is honoured up to
  the cap. The back-off starts anew only after a connection has lasted, not when it was merely accepted: with a key in
  use elsewhere Finnhub accepts and drops within a second.
- The key travels in the URL: no message, error or log line of this module contains it.
- Bounded: a message above `message_bytes_max` is reported by its start and not delivered; a frame above
  `frame_bytes_max` ends the connection, as the WebSocket library has to hold it whole.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from picows import (
    WSError,
    WSFrame,
    WSHandshakeError,
    WSListener,
    WSMsgType,
    WSTransport,
    ws_connect,
)

from marketfeed.domain.errors import SettingError
from marketfeed.runtime.logs import get_logger, redact
from marketfeed.runtime.tasks import backoff_s
from marketfeed.wire.finnhub import subscribe_message, unsubscribe_message

_log = get_logger("finnhub")

WATCHDOG_S = 75.0
BACKOFF_CAP_S = 5.0
REFUSED_CAP_S = 60.0
_BACKOFF_BASE_S = 0.2
_REFUSED_BASE_S = 2.0
# A connection that lasted this long was a good one: the next loss starts with a short pause again.
_LASTING_S = 10.0
_SUBSCRIBE_BURST = 500
_OVERSIZED_SAMPLE_BYTES = 512


class FeedListener(Protocol):
    """Who is told what happens on the feed. Calls are short and synchronous; an exception ends the source."""

    def on_open(self) -> None:
        """A connection stands; its subscriptions are sent next."""

    def on_frame(self, frame: bytes, received_ts: int) -> None:
        """A text message arrived at `received_ts` (Unix ns)."""

    def on_unreadable(self, reason: str, sample: bytes) -> None:
        """A message was refused unread: `oversized_frame` or `binary_frame`."""

    def on_lost(self, reason: str) -> None:
        """The connection is gone. `on_open` follows when there is a new one."""


@dataclass(slots=True)
class SourceState:
    """What can be seen from outside; counters grow only."""

    connected: bool = False
    connections: int = 0
    reconnects: int = 0
    refused: int = 0
    watchdog_cuts: int = 0
    last_frame_s: float = 0.0  # monotonic
    problem: str = "not connected yet"
    retry_in_s: float = 0.0


class FinnhubSource:
    """Keeps one connection to `url` with all wanted symbols subscribed, for as long as `run` runs."""

    def __init__(
        self,
        url: str,
        token: str,
        listener: FeedListener,
        *,
        watchdog_s: float = WATCHDOG_S,
        connect_timeout_s: float = 15.0,
        message_bytes_max: int = 1024 * 1024,
        frame_bytes_max: int = 16 * 1024 * 1024,
        jitter: random.Random | None = None,
    ) -> None:
        """Raises SettingError if `url` is not ws:// or wss://. `token` is added to its query, unless empty."""
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.netloc:
            raise SettingError("--finnhub-url", f"{redact(url)!r} is not a WebSocket URL such as wss://ws.finnhub.io")
        query = parse_qsl(parts.query, keep_blank_values=True) + ([("token", token)] if token else [])
        self._url = urlunsplit(parts._replace(query=urlencode(query)))
        self._secrets = tuple(value for name, value in query if name == "token" and value)
        self._listener = listener
        self._watchdog_s = watchdog_s
        self._connect_timeout_s = connect_timeout_s
        self._message_bytes_max = message_bytes_max
        self._frame_bytes_max = frame_bytes_max
        self._jitter = jitter or random.Random()
        self._symbols: frozenset[str] = frozenset()
        self._connection: _Connection | None = None
        self._connected_s: float | None = None  # monotonic, of the present or last connection
        self.state = SourceState()

    @property
    def where(self) -> str:
        """The address without the key, for messages."""
        parts = urlsplit(self._url)
        return urlunsplit(parts._replace(query=""))

    def set_symbols(self, symbols: Collection[str]) -> None:
        """From now on exactly these; on a standing connection only the difference is sent."""
        wanted = frozenset(symbols)
        added, removed = wanted - self._symbols, self._symbols - wanted
        self._symbols = wanted
        if self._connection is not None and self.state.connected:
            for symbol in sorted(removed):
                self._connection.send(unsubscribe_message(symbol))
            for symbol in sorted(added):
                self._connection.send(subscribe_message(symbol))

    async def run(self) -> None:
        """Connect, read, and come back, until cancelled. Raises what the listener raises."""
        losses = refusals = 0
        while True:
            self._connected_s = None
            refused: _Refused | None = None
            try:
                await self._one_connection()
            except _Refused as refusal:
                refused, self.state.problem = refusal, str(refusal)
            except (OSError, TimeoutError, WSError) as error:
                self.state.problem = self._without_key(f"{type(error).__name__}: {error}")
            if self._connected_s is not None:
                refusals = 0
                losses = losses if time.monotonic() - self._connected_s < _LASTING_S else 0
            # Counted apart: a refusal after a long outage is a first one, and a short outage after refusals, too.
            if refused is not None and refused.status is not None:
                self.state.refused += 1
                least_s = min(refused.retry_after_s, REFUSED_CAP_S)
                pause_s = max(least_s, backoff_s(refusals, _REFUSED_BASE_S, REFUSED_CAP_S, self._jitter))
                refusals += 1
            else:
                pause_s = backoff_s(losses, _BACKOFF_BASE_S, BACKOFF_CAP_S, self._jitter)
                losses += 1
            self.state.retry_in_s = pause_s
            _log.warning("feed not connected", url=self.where, problem=self.state.problem, retry_in_s=round(pause_s, 2))
            await asyncio.sleep(pause_s)
            self.state.reconnects += 1

    async def _one_connection(self) -> None:
        """One connection from handshake to loss. Raises _Refused, OSError, TimeoutError or WSError if none came up."""
        connection = _Connection(self)
        try:
            await self._connect(connection)
            await self._serve(connection)
        finally:
            # The library opens the connection before `_connect` returns: it may stand although that was cancelled.
            if connection.transport is not None:
                self._connection = None
                self.state.connected = False
                connection.transport.disconnect(graceful=False)
                await self._ended(connection.transport)
                self._listener.on_lost(self.state.problem)
        if connection.failure is not None:
            raise connection.failure

    async def _connect(self, connection: _Connection) -> None:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await ws_connect(
                    lambda: connection,
                    self._url,
                    websocket_handshake_timeout=self._connect_timeout_s,
                    max_frame_size=self._frame_bytes_max,
                    max_redirects=0,
                    enable_auto_ping=False,
                )
        except WSHandshakeError as error:
            raise _Refused.from_handshake(error, self._without_key) from None

    def opened(self, connection: _Connection) -> None:
        """The handshake is done and frames may follow at once; called by the connection."""
        self._connection = connection
        self.state.connected = True
        self.state.connections += 1
        self.state.problem = "closed by the other side"
        self.state.last_frame_s = self._connected_s = time.monotonic()
        self._listener.on_open()

    async def _ended(self, transport: WSTransport) -> None:
        """Wait for the socket's end, briefly, and learn from the library if the protocol was broken."""
        try:
            async with asyncio.timeout(1.0):
                await transport.wait_disconnected()
        except TimeoutError:
            pass
        except (OSError, WSError) as error:
            self.state.problem = self._without_key(f"{type(error).__name__}: {error}")

    async def _serve(self, connection: _Connection) -> None:
        """Subscribe, then watch until the connection is gone or hangs."""
        for count, symbol in enumerate(sorted(self._symbols)):
            if symbol in self._symbols:  # still: they may change while this loop gives others a turn
                connection.send(subscribe_message(symbol))
            if count % _SUBSCRIBE_BURST == _SUBSCRIBE_BURST - 1:
                await asyncio.sleep(0)
        _log.info("feed connected", url=self.where, symbols=len(self._symbols), connections=self.state.connections)
        while not connection.gone.is_set():
            left_s = self.state.last_frame_s + self._watchdog_s - time.monotonic()
            if left_s <= 0:
                self.state.watchdog_cuts += 1
                self.state.problem = f"no frame for {self._watchdog_s:g} s"
                return
            try:
                async with asyncio.timeout(left_s):
                    await connection.gone.wait()
            except TimeoutError:
                continue

    def deliver(self, frame: bytes) -> None:
        """A whole text message; called by the connection."""
        self.state.last_frame_s = time.monotonic()
        if len(frame) > self._message_bytes_max:
            self._listener.on_unreadable("oversized_frame", frame[:_OVERSIZED_SAMPLE_BYTES])
        else:
            self._listener.on_frame(frame, time.time_ns())

    def refuse(self, reason: str, sample: bytes) -> None:
        """A message that is not delivered; called by the connection."""
        self.state.last_frame_s = time.monotonic()
        self._listener.on_unreadable(reason, sample[:_OVERSIZED_SAMPLE_BYTES])

    @property
    def message_bytes_max(self) -> int:
        """Largest message that is delivered."""
        return self._message_bytes_max

    def _without_key(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return redact(text)


class _Connection(WSListener):  # type: ignore[misc, unused-ignore]
    """The library's callbacks of one connection: fragments are joined, exceptions kept for the source to raise."""

    def __init__(self, source: FinnhubSource) -> None:
        self._source = source
        self.transport: WSTransport | None = None
        self._fragments: list[bytes] = []
        self._fragments_bytes = 0
        self._fragments_text = True
        self.gone = asyncio.Event()
        self.failure: Exception | None = None

    def send(self, message: bytes) -> None:
        """Send one text message."""
        if self.transport is not None and not self.transport.is_disconnected:
            self.transport.send(WSMsgType.TEXT, message)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Called by the library after the handshake."""
        self.transport = transport
        try:
            self._source.opened(self)
        except Exception as error:  # As in `on_ws_frame`.
            self.failure = error
            transport.disconnect(graceful=False)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Called by the library when the socket is gone."""
        self.gone.set()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Called by the library for each frame."""
        try:
            kind = frame.msg_type
            if kind is WSMsgType.TEXT and frame.fin:
                self._source.deliver(frame.get_payload_as_bytes())
            elif kind in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
                self._fragment(kind, frame.get_payload_as_bytes(), frame.fin)
            elif kind is WSMsgType.CLOSE:
                reason = self._source._without_key(str(frame.get_close_reason() or ""))
                self._source.state.problem = f"closed by the other side: {frame.get_close_code()} {reason}".rstrip()
                transport.disconnect()
        except Exception as error:  # The library would log it and reconnect; a bug has to end the service instead.
            self.failure = error
            transport.disconnect(graceful=False)

    def _fragment(self, kind: WSMsgType, payload: bytes, last: bool) -> None:
        if kind is not WSMsgType.CONTINUATION:
            self._fragments, self._fragments_bytes = [], 0
            self._fragments_text = kind is WSMsgType.TEXT
        self._fragments_bytes += len(payload)
        if self._fragments_bytes <= self._source.message_bytes_max:
            self._fragments.append(payload)
        if not last:
            return
        message = b"".join(self._fragments)
        if not self._fragments_text:
            self._source.refuse("binary_frame", message)
        elif self._fragments_bytes > self._source.message_bytes_max:
            self._source.refuse("oversized_frame", message)
        else:
            self._source.deliver(message)
        self._fragments, self._fragments_bytes = [], 0


class _Refused(Exception):
    """The server answered the handshake with something else than 101."""

    def __init__(self, status: int | None, reason: str, retry_after_s: float) -> None:
        super().__init__(f"handshake refused with HTTP {status}: {reason}" if status else f"handshake failed: {reason}")
        self.status = status
        self.retry_after_s = retry_after_s

    @classmethod
    def from_handshake(cls, error: WSHandshakeError, clean: Callable[[str], str]) -> _Refused:
        """The library's error, without the key, with the server's wish for a pause."""
        response = error.response
        if response is None:  # The library knows no status like Cloudflare's 524; its message quotes the line.
            quoted = re.search(r"HTTP/1\.\d (\d{3})", str(error))
            return cls(int(quoted.group(1)) if quoted else None, clean(str(error)), 0.0)
        body = (error.raw_body or b"")[:200].decode("utf-8", "replace")
        return cls(int(response.status), clean(body), _retry_after_s(response.headers))


def _retry_after_s(headers: Mapping[str, str]) -> float:
    text = headers.get("Retry-After", "") or ""
    return float(text) if text.strip().isdecimal() else 0.0
