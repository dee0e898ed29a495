"""The public client of `marketfeed.v1.MarketData`: typed, asynchronous, resuming.

    async with MarketDataClient("127.0.0.1:9090") as client:
        price = await client.reference_price("AAPL", max_age_ms=2000)
        async for event in client.trades(["AAPL"]):
            match event:
                case TapeBatch(): ...          # columns of trades
                case TapeGap(): ...            # some may be missing
                case Resumed(recovered=False): # what was missed while away cannot be had: begin anew

A stream that is lost is opened again with back-off and the position of the last message. Failures that waiting cannot
mend (an unknown symbol, a bad token) are raised. One TCP connection serves all calls of a client.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from marketfeed.domain.errors import CallRefused, CallStatus, Unavailable
from marketfeed.runtime.tasks import backoff_s
from marketfeed.wire.market_data import TapeBatch, decode_tape
from marketfeed.wire.v1 import market_data_pb2 as pb

CALL_S = 5.0
# A live server sends a heartbeat every second; longer silence is a dead connection.
SILENCE_S = 10.0
MESSAGE_BYTES_MAX = 16 << 20
_SERVICE = "/marketfeed.v1.MarketData/"
# Statuses after which the same stream may succeed a little later.
_COMES_BACK = frozenset({CallStatus.UNAVAILABLE, CallStatus.RESOURCE_EXHAUSTED, CallStatus.ABORTED})
_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),  # the library's two minutes are longer than any restart
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.lb_policy_name", "round_robin"),  # a headless Service names every replica
)


@dataclass(frozen=True, slots=True)
class ReferencePrice:
    """A price to trade by. Stamps in Unix ns, ages in milliseconds."""

    symbol: str
    price_nanos: int
    event_ts: int
    last_trade_age_ms: int
    watermark_age_ms: int
    position: str


@dataclass(frozen=True, slots=True)
class TapeGap:
    """Trades of these symbols stamped in [from_ts, to_ts] may be missing."""

    symbols: tuple[str, ...]
    from_ts: int
    to_ts: int
    reason: str


@dataclass(frozen=True, slots=True)
class TapeBeat:
    """Silence is information: up to `watermark_ts` (0: not known) no trade of the symbols is missing."""

    server_ts: int
    watermark_ts: int
    position: str


@dataclass(frozen=True, slots=True)
class SymbolStands:
    """source live | stale | down, trading trading | halted | closed."""

    symbol: str
    source: str
    trading: str
    reason: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """The stream begins, at `position`: the first time, or after it was lost for `away_s` seconds.

    recovered   nothing is missing since the position that was asked for
    unknown     symbols that the server does not serve
    """

    position: str
    recovered: bool
    away_s: float
    unknown: tuple[str, ...]


TapeMessage = TapeBatch | TapeGap | TapeBeat | SymbolStands | Resumed


class MarketDataClient:
    """One channel to an address (host:port, or dns:///name:port for all of its replicas).

    token           sent as a bearer token with every call; a function is asked for it each time
    credentials     TLS; None for a plain connection
    """

    def __init__(
        self,
        target: str,
        *,
        token: str | Callable[[], str] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._target = target
        self._token = token
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(target, credentials, options=_OPTIONS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all calls."""
        await self._channel.close()

    async def quote(self, symbol: str, timeout_s: float = CALL_S) -> pb.GetQuoteResponse:
        """The newest quote and where the symbol stands. Raises CallRefused, Unavailable."""
        request = pb.GetQuoteRequest(symbol=symbol)
        found: pb.GetQuoteResponse = await self._call("GetQuote", request, pb.GetQuoteResponse, timeout_s)
        return found

    async def reference_price(self, symbol: str, max_age_ms: int = 0, timeout_s: float = CALL_S) -> ReferencePrice:
        """A price to trade by. Raises CallRefused with the reason why there is none, Unavailable."""
        request = pb.GetReferencePriceRequest(symbol=symbol, max_age_ms=max_age_ms)
        found = await self._call("GetReferencePrice", request, pb.GetReferencePriceResponse, timeout_s)
        return ReferencePrice(
            found.symbol, found.price_nanos, found.event_ts, found.last_trade_age_ms, found.watermark_age_ms,
            found.position,
        )  # fmt: skip

    async def bars(self, request: pb.GetBarsRequest, timeout_s: float = CALL_S) -> pb.GetBarsResponse:
        """Stored and live bars of one symbol. Raises CallRefused, Unavailable."""
        found: pb.GetBarsResponse = await self._call("GetBars", request, pb.GetBarsResponse, timeout_s)
        return found

    async def trades(
        self, symbols: Sequence[str], position: str = "", *, linger_ms: int = 0, seed: int | None = None
    ) -> AsyncIterator[TapeMessage]:
        """Every trade of the symbols (`*` alone: of all), from the position or from now on, for ever.

        Raises CallRefused for what waiting cannot mend.
        """
        jitter, tries, lost_s = random.Random(seed), 0, 0.0
        while True:
            request = pb.StreamTradesRequest(symbols=symbols, position=position, linger_ms=linger_ms)
            try:
                async for message in self._stream("StreamTrades", request, _tape_message):
                    if isinstance(message, pb.Acknowledged):
                        position = message.position
                        yield _resumed(message, time.monotonic() - lost_s if lost_s else 0.0)
                        continue
                    tries, lost_s = 0, 0.0
                    if isinstance(message, pb.Drain):
                        position = message.position or position
                        await asyncio.sleep(message.reconnect_after_ms / 1000)
                        break
                    yield message
                    if isinstance(message, TapeBatch | TapeBeat):
                        position = message.position
            except CallRefused as refused:
                renewable = callable(self._token) and refused.reason == "AUTH_EXPIRED"
                if refused.status not in _COMES_BACK and not renewable:
                    raise
                position = refused.facts.get("position", position)
            except Unavailable:
                pass  # the network, or nobody there: the next try tells
            lost_s = lost_s or time.monotonic()
            await asyncio.sleep(backoff_s(tries, 0.1, 5.0, jitter))
            tries += 1

    async def quotes(self, symbols: Sequence[str], interval_ms: int = 0) -> AsyncIterator[pb.StreamQuotesResponse]:
        """The messages of one StreamQuotes call; ends with CallRefused or Unavailable."""
        request = pb.StreamQuotesRequest(symbols=symbols, interval_ms=interval_ms)
        async for message in self._stream("StreamQuotes", request, pb.StreamQuotesResponse.FromString):
            yield message

    async def live_bars(self, request: pb.StreamBarsRequest) -> AsyncIterator[pb.StreamBarsResponse]:
        """The messages of one StreamBars call; ends with CallRefused or Unavailable."""
        async for message in self._stream("StreamBars", request, pb.StreamBarsResponse.FromString):
            yield message

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        token = self._token() if callable(self._token) else self._token
        return (("authorization", f"Bearer {token}"),) if token else ()

    async def _call(self, name: str, request: Message, answer: type[Message], timeout_s: float) -> Any:
        method = self._channel.unary_unary(_SERVICE + name, type(request).SerializeToString, answer.FromString)
        try:
            return await method(request, timeout=timeout_s, metadata=self._metadata())
        except grpc.aio.AioRpcError as error:
            raise translated(error, self._target) from error

    async def _stream(self, name: str, request: Message, decode: Callable[[bytes], Any]) -> AsyncIterator[Any]:
        """Messages of a stream. Raises CallRefused, Unavailable; silence is unavailability."""
        method = self._channel.unary_stream(_SERVICE + name, type(request).SerializeToString, decode)
        call = method(request, metadata=self._metadata())
        try:
            while True:
                async with asyncio.timeout(SILENCE_S):
                    message = await call.read()
                if message is grpc.aio.EOF:
                    raise Unavailable("MarketData", self._target, "the stream has ended")
                yield message
        except TimeoutError as error:
            raise Unavailable("MarketData", self._target, f"silent for {SILENCE_S:g} s") from error
        except grpc.aio.AioRpcError as error:
            raise translated(error, self._target) from error
        finally:
            call.cancel()


def translated(error: grpc.aio.AioRpcError, target: str, service: str = "MarketData") -> CallRefused | Unavailable:
    """A failed call in our terms: what the server said, or that it cannot be reached."""
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and error.code().name in CallStatus.__members__:
            return CallRefused(CallStatus[error.code().name], info.reason, error.details() or "", **info.metadata)
    if error.code().name in CallStatus.__members__ and error.code() is not grpc.StatusCode.UNAVAILABLE:
        return CallRefused(CallStatus[error.code().name], error.code().name, error.details() or "")
    return Unavailable(service, target, f"{error.code().name}: {error.details()}")


def _tape_message(data: bytes) -> Any:
    """A message of StreamTrades; a tape's columns are mapped, not parsed."""
    message = pb.StreamTradesResponse.FromString(data) if data[:1] != b"\x12" else None
    if message is None:
        return decode_tape(data)
    match message.WhichOneof("message"):
        case "acknowledged":
            return message.acknowledged
        case "gap":
            gap = message.gap
            return TapeGap(tuple(gap.symbols), gap.from_ts, gap.to_ts, gap.reason)
        case "heartbeat":
            beat = message.heartbeat
            return TapeBeat(beat.server_ts, beat.watermark_ts, beat.position)
        case "drain":
            return message.drain
        case _:
            state = message.state
            source = pb.SourceState.Name(state.source).removeprefix("SOURCE_STATE_").lower()
            trading = pb.TradingState.Name(state.trading).removeprefix("TRADING_STATE_").lower()
            return SymbolStands(state.symbol, source, trading, state.reason)


def _resumed(message: pb.Acknowledged, away_s: float) -> Resumed:
    unserved = (pb.SYMBOL_STATUS_UNKNOWN_SYMBOL, pb.SYMBOL_STATUS_LIMIT, pb.SYMBOL_STATUS_FORBIDDEN)
    unknown = tuple(symbol for symbol, status in message.symbols.items() if status in unserved)
    return Resumed(message.position, message.recovered, away_s, unknown)
