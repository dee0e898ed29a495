"""The one owner of a replayed feed: claims its symbols, cuts records, tells time, as an ingest without rivals does.

Symbols that come up later make it claim the whole set anew: its own order, so nothing has to be reconciled. See
`domain/claims.py` for what the records mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from marketfeed.domain.errors import Unavailable
from marketfeed.domain.log import Alive, Body, Claim, Takeover, TradesRecord, Watermark
from marketfeed.domain.partitions import by_partition, partitions_of
from marketfeed.domain.trades import TradeColumns
from marketfeed.history import metrics
from marketfeed.history.ports import Producer
from marketfeed.runtime import tracing
from marketfeed.wire.records import FEED_HEADER, KIND_HEADER, SHARD_HEADER, TRACEPARENT_HEADER, encode_body

SHARD = "replay"
# 32 bytes a trade: well below a broker's limit of 1 MiB.
_RECORD_TRADES_MAX = 8192
_CLAIM_TIMEOUT_S = 30.0


class Speaker:
    """Appends to `<feed>.trades` and `<feed>.control`. `claim` comes before the first `send`."""

    def __init__(self, producer: Producer, feed: str, partitions: int, instance: str) -> None:
        self.acknowledged = 0
        self.reached = 0
        self._producer = producer
        self._topic, self._control = f"{feed}.trades", f"{feed}.control"
        self._headers = {FEED_HEADER: feed, SHARD_HEADER: SHARD}
        self._partitions = partitions
        self._instance = instance
        self._epoch = -1
        self._claimed: dict[str, None] = {}
        self._by_partition: dict[int, tuple[str, ...]] = {}
        self._next_seq: dict[int, int] = {}
        self._watermark = 0

    def unknown(self, symbols: Sequence[str]) -> bool:
        """Whether one of these symbols was not claimed yet."""
        return any(symbol not in self._claimed for symbol in symbols)

    async def claim(self, symbols: Sequence[str]) -> None:
        """Own these symbols and all before. Somebody else serves acknowledgements. Raises Unavailable without any."""
        self._claimed.update(dict.fromkeys(symbols))
        everything = tuple(self._claimed)
        epoch: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._append(self._control, 0, Claim(SHARD, self._instance, everything), epoch.set_result)
        try:
            self._epoch = await asyncio.wait_for(epoch, _CLAIM_TIMEOUT_S)
        except TimeoutError as error:
            raise Unavailable("Kafka", self._control, f"no answer within {_CLAIM_TIMEOUT_S:.0f} s") from error
        self._by_partition = by_partition(everything, self._partitions)
        self._next_seq = dict.fromkeys(self._by_partition, 0)
        self.repeat_takeover()

    def repeat_takeover(self) -> None:
        """Say in each partition whose symbols these are."""
        for partition, symbols in self._by_partition.items():
            self._append(self._topic, partition, Takeover(self._epoch, symbols))

    def send(self, trades: TradeColumns, received_ts: int) -> None:
        """Send trades of claimed symbols, in their order within each partition."""
        home = partitions_of(trades.symbols, self._partitions)[trades.symbol_index]
        order = np.argsort(home, kind="stable")
        edges = np.flatnonzero(np.diff(home[order])) + 1
        for positions in np.split(order, edges):
            for first in range(0, len(positions), _RECORD_TRADES_MAX):
                part = positions[first : first + _RECORD_TRADES_MAX]
                with tracing.span("history.send", trades=len(part)):
                    self._send_record(int(home[part[0]]), trades.take(part), received_ts)

    def _send_record(self, partition: int, trades: TradeColumns, received_ts: int) -> None:
        count = len(trades)
        record = TradesRecord(self._epoch, self._next_seq[partition], received_ts, trades)
        self._next_seq[partition] += count

        def acknowledged(_: int) -> None:
            self.acknowledged += count
            metrics.TRADES_SENT.inc(count)

        self._append(self._topic, partition, record, acknowledged)

    def note(self, event_ts: int) -> None:
        """All trades up to this stamp were sent."""
        self.reached = max(self.reached, event_ts)

    def watermark(self, event_ts: int) -> None:
        """Say in each partition that event time has reached `event_ts`; it never falls."""
        if event_ts <= self._watermark:
            return
        self._watermark = event_ts
        for partition in self._by_partition:
            self._append(self._topic, partition, Watermark((self._epoch,), event_ts))

    def alive(self) -> None:
        """A sign of life."""
        self._append(self._control, 0, Alive((self._epoch,), SHARD, self._instance, self._watermark, 0))

    def leave(self) -> None:
        """The last sign of life: nothing is owned any more."""
        self._append(self._control, 0, Alive((), SHARD, self._instance, self._watermark, 0))

    def _append(self, topic: str, partition: int, body: Body, on_ack: Callable[[int], None] | None = None) -> None:
        kind, value = encode_body(body)
        headers = {KIND_HEADER: kind, **self._headers}
        if (traceparent := tracing.current_traceparent()) is not None:
            headers[TRACEPARENT_HEADER] = traceparent
        self._producer.send(topic, partition, value, headers, on_ack)
