"""A take-over from its markers to going live.

1. `Takeover(epoch, symbols)` goes to every partition of the symbols, in the order of all else: the marker.
2. What the log counts up to the markers is read back.
3. What a previous run left in the spool is published under the new epoch, less what the log holds.
4. The buffer likewise, batch by batch; what the log holds beyond both stays as credits. Then the symbols are live, in
   the same step.

Whatever fails in between is tried again by the next claim: nothing of the spool is deleted before its trades are in
the log under the new epoch.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence

from marketfeed.domain.claim_actions import Predecessor
from marketfeed.domain.errors import MalformedRecord
from marketfeed.domain.log import Takeover, TradesRecord
from marketfeed.domain.reconciliation import CREDITS_KEPT_S, READ_BACK_NS, Credits
from marketfeed.domain.trades import NANOS, TradeColumns, concat, no_trades
from marketfeed.ingest import metrics
from marketfeed.ingest.buffer import StandbyBuffer, having
from marketfeed.ingest.cutter import Cutter
from marketfeed.ingest.pipeline import Pipeline
from marketfeed.ingest.readback import ReadBack, TradesReader
from marketfeed.ingest.sender import Sender
from marketfeed.ingest.spool import Spool
from marketfeed.runtime.logs import get_logger
from marketfeed.runtime.tasks import TaskKit
from marketfeed.wire.records import KIND_HEADER, decode_body

_log = get_logger("takeover")

# A trade this much older than our connection can still come over it: what the log holds of them is read back.
_LATENESS_MIN_NS = 10 * NANOS
_WAIT_S = 0.01
_ROOM_PATIENCE_S = 10.0
_BATCH_TRADES = 2_000

WentLive = Callable[[int, tuple[str, ...]], None]
OwnersAt = Callable[[Iterable[str], int], Mapping[str, int] | None]


class TakeoverDesk:
    """Carries out take-overs, any number at once."""

    def __init__(
        self,
        cutter: Cutter,
        sender: Sender,
        pipeline: Pipeline,
        buffer: StandbyBuffer,
        spool: Spool,
        open_reader: Callable[[], TradesReader],
        shard: str,
    ) -> None:
        self._cutter = cutter
        self._sender = sender
        self._pipeline = pipeline
        self._buffer = buffer
        self._spool = spool
        self._open_reader = open_reader
        self._shard = shard
        # Who has owned these symbols since before a time (the log's clock, Unix ns); None if that is not known.
        self.owners_at: OwnersAt = lambda symbols, since_ts: None
        self._symbols: dict[int, set[str]] = {}
        self._ever_live: set[str] = set()
        self._leftover_turn = asyncio.Lock()
        self._leftover_span: tuple[int, int] | None = None
        self._on_its_way = 0
        self._oldest_published: int | None = None
        self._waits_until_s = 0.0
        self._ahead: ReadBack | None = None
        self._ahead_task: asyncio.Task[None] | None = None
        self._ahead_of: frozenset[str] = frozenset()
        self.predecessors_watermark = 0
        self.published_from_ts: int | None = None  # oldest stamp of the last buffer published, which may be unlogged

    def withdraw(self, epoch: int, symbols: Iterable[str]) -> None:
        """These symbols of a take-over in progress are somebody else's now; they stay buffered."""
        self._symbols.get(epoch, set()).difference_update(symbols)

    def send_takeover(self, epoch: int, symbols: Iterable[str], markers: dict[int, int] | None) -> list[str]:
        """Append the marker to every partition of the symbols; offsets go to `markers` as they become known.

        Returns the symbols of partitions for which there was no room.
        """
        split: dict[int, list[str]] = {}
        for symbol in symbols:
            split.setdefault(self._cutter.partition(symbol), []).append(symbol)
        refused: list[str] = []
        for partition, names in split.items():
            if not self._sender.send_control(partition, Takeover(epoch, tuple(names)), _noting(markers, partition)):
                refused += names
        return refused

    def foresee(self, symbols: frozenset[str], tasks: TaskKit) -> None:
        """These symbols will probably be taken over soon (none: not any more): read back for them meanwhile."""
        if (symbols and symbols <= self._ahead_of) or (not symbols and self._symbols):
            return
        if self._ahead_task is not None:
            self._ahead_task.cancel()
        self._ahead, self._ahead_task, self._ahead_of = None, None, symbols
        if symbols:
            self._ahead_task = tasks.spawn("read-ahead", self._look_ahead(symbols))

    def take_over(
        self,
        epoch: int,
        symbols: tuple[str, ...],
        predecessors: Sequence[Predecessor],
        went_live: WentLive,
        *,
        known: bool = True,
    ) -> Coroutine[None, None, None]:
        """From the markers to going live; returns early when all symbols were withdrawn, which they may be at once.

        `known`: whether anybody may have published them before, so that the log has to be read.
        """
        mine = self._symbols[epoch] = set(symbols)
        return self._carry_out(epoch, symbols, mine, predecessors, went_live, known)

    async def _carry_out(
        self,
        epoch: int,
        symbols: tuple[str, ...],
        mine: set[str],
        predecessors: Sequence[Predecessor],
        went_live: WentLive,
        known: bool,
    ) -> None:
        began_s = time.monotonic()
        markers: dict[int, int] = {}
        partitions = set(map(self._cutter.partition, symbols))
        refused: Sequence[str] = symbols
        while mine and partitions - markers.keys():  # acknowledgements are served by the pump
            refused = self.send_takeover(epoch, refused, markers)
            await asyncio.sleep(_WAIT_S)
        # One at a time: the last one deletes the spool of the previous run.
        async with self._leftover_turn:
            self._oldest_published, self._waits_until_s = None, math.inf
            logged = no_trades()
            if mine and (known or self._spool.has_leftover):
                logged = await self._logged(markers, symbols, predecessors)
            if len(self._symbols) == 1 and self._ahead_task is not None:
                # Nobody else needs it, and it would only take turns from what follows.
                self._ahead_task.cancel()
                self._ahead, self._ahead_task, self._ahead_of = None, None, frozenset()
            read_s = time.monotonic() - began_s
            credits = Credits(logged, math.inf)
            if mine and self._spool.has_leftover:
                await self._publish_leftover(epoch, mine, credits)
            await self._publish_buffer(epoch, mine, credits)
            del self._symbols[epoch]
            if mine:
                self._finish(epoch, tuple(sorted(mine)), credits.left(), predecessors, went_live)
                took_s = time.monotonic() - began_s
                _log.info(
                    "took over", epoch=epoch, symbols=len(mine), took_s=round(took_s, 2), read_back_s=round(read_s, 2)
                )

    async def _look_ahead(self, symbols: frozenset[str]) -> None:
        since_ts, _ = await self._window(())
        self._ahead = self._read_back(symbols, set(map(self._cutter.partition, symbols)), since_ts)
        await self._ahead.ahead()

    async def _logged(
        self, markers: dict[int, int], symbols: Sequence[str], predecessors: Sequence[Predecessor]
    ) -> TradeColumns:
        """What counts in the log already and could match what we hold or will still receive."""
        since_ts, stamp_from_ts = await self._window(predecessors)
        back = self._ahead
        if back is not None and back.serves(symbols, markers.keys(), since_ts):
            logged = await back.up_to(markers)
        else:
            back = self._read_back(symbols, markers.keys(), since_ts)
            try:
                logged = await back.up_to(markers)
            finally:
                await back.close()
        return logged.take(having(logged, frozenset(symbols)) & (logged.event_ts >= stamp_from_ts))

    def _read_back(self, symbols: Collection[str], partitions: Collection[int], since_ts: int) -> ReadBack:
        owners = self.owners_at(symbols, since_ts - READ_BACK_NS)
        return ReadBack(self._open_reader, symbols, partitions, since_ts, owners)

    async def _window(self, predecessors: Sequence[Predecessor]) -> tuple[int, int]:
        """Since when (our clock, Unix ns) we hold anything, and from which stamp on the log can match it."""
        since_ts = self._buffer.since_ts or time.time_ns()
        lateness_ns = max([_LATENESS_MIN_NS, *(p.lateness_ns for p in predecessors)])
        # Stamps may lag our clock by more than any lateness: a delayed feed, or a vendor's clock that is slow.
        stamp_from_ts = min(since_ts, self._buffer.oldest_stamp or since_ts) - lateness_ns
        if not self._spool.has_leftover:
            return since_ts, stamp_from_ts
        if self._leftover_span is None:
            received_ts, stamp_ts = since_ts, stamp_from_ts
            for record in self._leftover_records():
                received_ts = min(received_ts, record.received_ts)
                stamp_ts = min(stamp_ts, int(record.trades.event_ts.min()))
                await asyncio.sleep(0)  # A spool may hold a gigabyte, and signs of life are due meanwhile.
            self._leftover_span = received_ts, stamp_ts
        return min(since_ts, self._leftover_span[0]), min(stamp_from_ts, self._leftover_span[1])

    async def _publish_leftover(self, epoch: int, mine: set[str], credits: Credits) -> None:
        """Publish a previous run's spool, record by record, less what the log holds.

        It is kept while it holds trades of symbols that are still to be taken over.
        """
        published = foreign = 0
        to_come = self._pipeline.followed - self._ever_live - mine
        keep = False
        for record in self._leftover_records():
            mask = having(record.trades, frozenset(mine))
            foreign += len(mask) - int(mask.sum())
            keep = keep or not to_come.isdisjoint(record.trades.symbols)
            if mask.any():
                published += await self._publish(record.trades.take(mask), epoch, record.received_ts, credits)
            await asyncio.sleep(0)
        _log.info("spool of the previous run published", trades=published, not_ours=foreign, kept=keep)
        while self._on_its_way > 0:  # noqa: ASYNC110 (acknowledgements are served by the pump)
            await asyncio.sleep(_WAIT_S)
        if not keep:
            self._spool.discard_leftover()

    async def _publish_buffer(self, epoch: int, mine: set[str], credits: Credits) -> None:
        """Publish the buffer batch by batch, less what the log holds; nothing of it is given up before the end.

        At its end nothing is left that was not looked at, and nothing must come between that and `_finish`.
        """
        published = 0
        seen: set[int] = set()
        # Room is waited for, so that the spool is not used up, but not for ever: it may be full of others' trades.
        self._waits_until_s = time.monotonic() + _ROOM_PATIENCE_S
        while True:
            self._pipeline.flush()
            before = len(seen)
            for received_ts, batch in _joined(self._buffer.unseen(mine, seen)):
                published += await self._publish(batch, epoch, received_ts, credits)
                await asyncio.sleep(0)  # Signs of life are due meanwhile.
            if len(seen) == before:
                break
        _log.info("reconciled", published=published, credits=len(credits))

    async def _publish(self, trades: TradeColumns, epoch: int, received_ts: int, credits: Credits) -> int:
        """Send what the log lacks as there is room; returns how many trades that were."""
        beyond = credits.spend(trades, 0.0)
        if len(beyond):
            oldest_ts = int(beyond.event_ts.min())
            self._oldest_published = min(oldest_ts, self._oldest_published or oldest_ts)
        for partition, cut in self._cutter.cut_as(beyond, epoch, received_ts) if len(beyond) else ():
            while not self._sender.has_room and time.monotonic() < self._waits_until_s:  # noqa: ASYNC110 (as above)
                await asyncio.sleep(_WAIT_S)
            self._on_its_way += 1
            self._sender.send_trades(partition, cut, None, self._logged_one)
        return len(beyond)

    def _finish(
        self,
        epoch: int,
        symbols: tuple[str, ...],
        credits: TradeColumns,
        predecessors: Sequence[Predecessor],
        went_live: WentLive,
    ) -> None:
        """One step, without a pause: buffer out, credits kept, live, gaps owed."""
        pipeline = self._pipeline
        heard_from = pipeline.heard_from(symbols)
        self._buffer.take(symbols)
        pipeline.add_credits(credits, CREDITS_KEPT_S)
        for one in predecessors:
            pipeline.clock.succeed(one.watermark, one.lateness_ns, time.time_ns())
            self.predecessors_watermark = max(self.predecessors_watermark, one.watermark)
        self._ever_live.update(symbols)
        self.published_from_ts = self._oldest_published
        went_live(epoch, symbols)
        if (lost := self._buffer.take_lost()) is not None:
            metrics.DROPPED.inc(lost.trades)
            pipeline.owe_gap(symbols, lost.from_ts, 0, "dropped", lost.to_ts, lost.trades)
        pipeline.forget_holes(symbol for one in predecessors if one.live for symbol in one.symbols)
        pipeline.say_holes(symbols)
        for one in predecessors:
            reason = "restart" if one.shard == self._shard else "handover"
            for begins_ts, names in heard_from.items():
                if begins_ts is None or begins_ts > one.watermark:
                    pipeline.owe_gap(names & set(one.symbols), one.watermark, one.lateness_ns, reason, begins_ts)

    def _leftover_records(self) -> Iterable[TradesRecord]:
        for spooled in self._spool.leftover():
            try:
                body = decode_body(spooled.headers.get(KIND_HEADER, ""), spooled.value, spooled.partition)
            except MalformedRecord as error:
                _log.warning("a record of the spool cannot be read", problem=str(error))
                continue
            if isinstance(body, TradesRecord):
                yield body

    def _logged_one(self, _: int) -> None:
        self._on_its_way -= 1


def _joined(batches: Iterable[tuple[int, TradeColumns]]) -> Iterator[tuple[int, TradeColumns]]:
    """Fewer, larger batches with the last one's arrival: what is done to each costs more than what is in it."""
    waiting: list[TradeColumns] = []
    arrived_ts = 0
    for received_ts, batch in batches:
        if len(batch):
            waiting.append(batch)
            arrived_ts = received_ts
        if sum(map(len, waiting)) >= _BATCH_TRADES:
            yield arrived_ts, concat(waiting)
            waiting.clear()
    if waiting:
        yield arrived_ts, concat(waiting)


def _noting(markers: dict[int, int] | None, partition: int) -> Callable[[int], None] | None:
    if markers is None:
        return None
    return lambda offset: markers.__setitem__(partition, offset)
