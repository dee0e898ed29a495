"""The calls of `marketfeed.v1.MarketData` that are answered once; the streams are in `market_streams.py`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from marketfeed.adapters.grpc_server import Call, Caller
from marketfeed.domain.access import Principal
from marketfeed.domain.client_messages import BARS, QUOTES
from marketfeed.domain.errors import CallRefused, CallStatus, ClientError
from marketfeed.domain.reference_price import PriceFacts, refusal
from marketfeed.domain.trades import NANOS
from marketfeed.mds.history import Archive, filled_span
from marketfeed.mds.hub import Hub
from marketfeed.mds.live import LiveState
from marketfeed.mds.market_streams import Streams
from marketfeed.wire.market_data import INTERVALS, bars_message, quote_message, state_message
from marketfeed.wire.v1 import market_data_pb2 as pb

MAX_AGE_MS = 5_000
# Bars of one answer where the caller names no limit: under a megabyte.
BARS_DEFAULT = 5_000
BARS_MAX = 20_000
_SECONDS_MAX = 2**40


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketData:
    """Answers calls about one feed."""

    hub: Hub
    archive: Archive
    streams: Streams

    def calls(self) -> Mapping[str, Call]:
        """The methods by name."""
        return {
            "GetQuote": Call(pb.GetQuoteRequest, unary=self.get_quote),
            "GetReferencePrice": Call(pb.GetReferencePriceRequest, unary=self.get_reference_price),
            "GetBars": Call(pb.GetBarsRequest, unary=self.get_bars),
            "StreamQuotes": Call(pb.StreamQuotesRequest, stream=self.streams.quotes),
            "StreamTrades": Call(pb.StreamTradesRequest, stream=self.streams.trades),
            "StreamBars": Call(pb.StreamBarsRequest, stream=self.streams.bars),
        }

    async def get_quote(self, request: pb.GetQuoteRequest, caller: Caller) -> pb.GetQuoteResponse:
        """The newest quote, however old."""
        state, symbol_id = self._symbol(request.symbol, caller.principal, QUOTES)
        now_ns = time.time_ns()
        quote = self.hub.frames.quote(symbol_id)
        stands = state.source(symbol_id, time.monotonic(), now_ns)
        return pb.GetQuoteResponse(
            quote=None if quote is None else quote_message(quote, now_ns),
            state=state_message(request.symbol, stands.source, stands.trading, stands.since_ts, stands.reason),
            position=state.position.text(),
        )

    async def get_reference_price(
        self, request: pb.GetReferencePriceRequest, caller: Caller
    ) -> pb.GetReferencePriceResponse:
        """A price to trade by, or FAILED_PRECONDITION."""
        state, symbol_id = self._symbol(request.symbol, caller.principal, QUOTES)
        now_ns = time.time_ns()
        facts = price_facts(state, symbol_id, time.monotonic(), now_ns)
        refused = refusal(facts, now_ns, (request.max_age_ms or MAX_AGE_MS) * 1_000_000)
        if refused is not None:
            reason, sentence = refused
            raise CallRefused(
                CallStatus.FAILED_PRECONDITION,
                reason.value,
                f"no price for {request.symbol}: {sentence}",
                symbol=request.symbol,
                position=state.position.text(),
            )
        assert facts.price is not None
        assert facts.event_ts is not None
        assert facts.watermark_ts is not None
        return pb.GetReferencePriceResponse(
            symbol=request.symbol,
            price=facts.price,
            price_nanos=round(facts.price * NANOS),
            event_ts=facts.event_ts,
            last_trade_age_ms=(now_ns - facts.event_ts) // 1_000_000,
            watermark_ts=facts.watermark_ts,
            watermark_age_ms=(now_ns - facts.watermark_ts) // 1_000_000,
            position=state.position.text(),
        )

    async def get_bars(self, request: pb.GetBarsRequest, caller: Caller) -> pb.GetBarsResponse:
        """Bars of [from, to), oldest first."""
        state, symbol_id = self._symbol(request.symbol, caller.principal, BARS)
        interval = INTERVALS.get(request.interval)
        if interval is None:
            raise CallRefused(CallStatus.INVALID_ARGUMENT, "BAD_INTERVAL", "interval is missing; it is one of the enum")
        event_ts = state.last_trade_ts(symbol_id) or time.time_ns()
        day_s = state.calendar.day(state.calendar.trade_date(event_ts))[0]
        from_s = getattr(request, "from") or day_s
        to_s = request.to or max(from_s, event_ts // NANOS + 1)
        limit = min(request.limit or BARS_DEFAULT, BARS_MAX)
        if not 0 <= from_s <= to_s <= _SECONDS_MAX:
            raise CallRefused(
                CallStatus.INVALID_ARGUMENT, "BAD_SPAN", "from and to are Unix seconds, from not after to"
            )
        try:
            span = await self.archive.span(request.symbol, interval, from_s, to_s, limit)
        except ClientError as error:
            raise CallRefused(CallStatus.INVALID_ARGUMENT, error.code.upper(), error.message) from error
        bars, filled, next_from_s = span.bars, None, span.next_from_s
        if request.fill:
            bars, filled, next_from_s = filled_span(state, span, interval, to_s, limit)
        return pb.GetBarsResponse(
            bars=bars_message(request.symbol, request.interval, bars, filled),
            position=state.position.text(),
            incomplete=span.incomplete,
            next_from=next_from_s or 0,
        )

    def _symbol(self, symbol: str, principal: Principal, channel: str) -> tuple[LiveState, int]:
        """The state as of now, and the symbol's id in it. Raises CallRefused."""
        if not principal.may_subscribe(symbol, channel):
            message = f"{principal.subject} may not have {channel} of {symbol[:64]}"
            raise CallRefused(CallStatus.PERMISSION_DENIED, "FORBIDDEN", message)
        if not self.hub.serving:
            raise CallRefused(CallStatus.UNAVAILABLE, "STARTING", "the server is waiting for the log; try again")
        self.hub.refresh()
        state = self.hub.state
        symbol_id = state.known_id(symbol)
        if symbol_id is None:
            name = symbol[:64] or "a symbol without a name"
            raise CallRefused(CallStatus.NOT_FOUND, "UNKNOWN_SYMBOL", f"the feed does not carry {name}")
        return state, symbol_id


def price_facts(state: LiveState, symbol_id: int, now_s: float, now_ns: int) -> PriceFacts:
    """What is known of a symbol's price."""
    stands, gap = state.source(symbol_id, now_s, now_ns), state.newest_gap(symbol_id)
    return PriceFacts(
        price=state.price(symbol_id),
        event_ts=state.last_trade_ts(symbol_id),
        watermark_ts=state.watermark([symbol_id]),
        source=stands.source,
        trading=stands.trading,
        session=state.calendar.session_of(now_ns),
        gap_to_ts=None if gap is None else gap.to_ts,
    )
