"""Market data as orders need it, by the public client of gRPC."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence

import numpy as np

from marketfeed.client.market_data import MarketDataClient, Resumed, TapeBeat, TapeGap
from marketfeed.domain.errors import CallRefused, CallStatus
from marketfeed.domain.order_matching import Prints, nanos
from marketfeed.domain.order_validation import Reference
from marketfeed.orders.ports import TapeBegins, TapeEvent, TapeHole, TapePasses, TapePrints
from marketfeed.wire.market_data import TapeBatch

# A price is asked for while a caller waits.
REFERENCE_S = 2.0


class GrpcMarket:
    """mds behind a client, with the symbols whose tape is read."""

    def __init__(self, client: MarketDataClient, symbols: Sequence[str]) -> None:
        self._client = client
        self._symbols = symbols

    async def tape(self, position: str) -> AsyncIterator[TapeEvent]:
        """See the port."""
        async for message in self._client.trades(self._symbols, position):
            match message:
                case TapeBatch():
                    yield TapePrints(prints_of(message), message.position)
                case TapeBeat():
                    yield TapePasses(message.watermark_ts, message.position)
                case TapeGap():
                    yield TapeHole(message.symbols, message.from_ts, message.to_ts)
                case Resumed():
                    yield TapeBegins(message.position, message.recovered)

    async def reference(self, symbol: str, max_age_ms: int) -> Reference:
        """See the port."""
        asked_ts = time.time_ns()
        try:
            found = await self._client.reference_price(symbol, max_age_ms, REFERENCE_S)
        except CallRefused as refused:
            if refused.status is not CallStatus.FAILED_PRECONDITION:
                raise
            return Reference(None, refused.reason, asked_ts)
        return Reference(found.price_nanos, "", asked_ts)


def prints_of(batch: TapeBatch) -> Prints:
    """A batch of the tape in nanos."""
    return Prints(
        partition=batch.partition,
        symbols=batch.symbols,
        symbol_index=batch.symbol_index,
        event_ts=batch.event_ts,
        price=nanos(batch.price),
        size=nanos(batch.size),
        offset=batch.offset,
        index=np.asarray(batch.index, np.int64),
        oldest_logged_ts=batch.oldest_logged_ts,
    )
