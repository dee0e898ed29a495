"""Closed and revised bars to <feed>.bars, from the store's position: at least once, in the order they were stored.

Bars are sent after the commit that stored them, and the next commit waits for their acknowledgement, so at most one
flush has to be sent again after a crash; the checkpoint says which.
"""

from __future__ import annotations

from collections.abc import Sequence

from marketfeed.adapters.kafka import LogProducer, bars_topic
from marketfeed.domain.bars import BarColumns
from marketfeed.domain.errors import Unavailable
from marketfeed.domain.partitions import partition_of
from marketfeed.domain.sessions import Calendar
from marketfeed.recorder import metrics
from marketfeed.wire.bar_updates import encode_updates

ACK_TIMEOUT_S = 10.0


class BarPublisher:
    """Sends bars of one feed. `send`, then `settled` before the next commit."""

    def __init__(self, bootstrap: str, feed: str, calendar: Calendar) -> None:
        self._bootstrap = bootstrap
        self._topic = bars_topic(feed)
        self._feed = feed
        self._calendar = calendar
        self._producer: LogProducer | None = None

    def send(self, bars: BarColumns, names: Sequence[str], partitions: int) -> None:
        """Hand bars (symbol_id into `names`) to the client. Raises Unavailable after a failure."""
        if not len(bars):
            return
        if self._producer is None:
            self._producer = LogProducer(self._bootstrap, client_id="marketfeed-recorder", linger_ms=20)
        for _, symbol, value in encode_updates(bars, names, 1, self._calendar):
            self._producer.send(
                self._topic,
                partition_of(symbol, partitions),
                value,
                {"kind": "bar", "feed": self._feed},
                on_ack=_acknowledged,
                key=symbol.encode(),
            )

    async def settled(self) -> None:
        """Return when all that was sent is acknowledged. Raises Unavailable, and forgets what was not."""
        if self._producer is None:
            return
        left = await self._producer.flush(ACK_TIMEOUT_S)
        failure = self._producer.failure
        if left or failure is not None:
            await self.close()
            raise failure or Unavailable("Kafka", self._bootstrap, f"{left} bars are not acknowledged")

    async def close(self) -> None:
        """Let the client go; what is not acknowledged by now is sent again after the next start."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.close(timeout_s=2.0)


def _acknowledged(_offset: int) -> None:
    metrics.PUBLISHED.inc()
