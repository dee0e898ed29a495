"""The fast path: frames -> columns -> judged -> repeats set off -> records -> sender, every few milliseconds.

Rules of this file
- Everything runs in the event loop's thread and no step waits: a flush is one synchronous pass over what came since the
  last one, so no lock is needed and the order in the log is the order of arrival.
- Costs are per frame, per flush and per record; nothing here loops over trades.
- Gaps are owed (`owe_gap`) when a connection is lost or an owner is succeeded, and paid as soon as it is known where
  they end: at the first stamp of the new connection, and always before a watermark that jumps over them. Of symbols
  that are not published then they are kept as holes, and said when those go live.
- A subscription is taken to be in force `SUBSCRIBED_AFTER_NS` after it was sent: it is never acknowledged.

Who speaks for what is decided in `owner.py`; this file asks the cutter.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from marketfeed.domain.intake import REASONS, Limits, Silence, refused, stamps
from marketfeed.domain.log import Watermark
from marketfeed.domain.ownership import LATE_NS
from marketfeed.domain.reconciliation import READ_BACK_NS, Credits
from marketfeed.domain.repeats import RecentTrades, RepeatFilter
from marketfeed.domain.trades import NANOS, Int64Array, SymbolTable, TradeColumns, concat
from marketfeed.domain.watermarks import AckedWatermark, WatermarkClock, WholeSince, gap
from marketfeed.ingest import metrics
from marketfeed.ingest.buffer import StandbyBuffer, having
from marketfeed.ingest.cutter import Cutter
from marketfeed.ingest.quarantine import Quarantine
from marketfeed.ingest.sender import Sender
from marketfeed.runtime import tracing
from marketfeed.runtime.logs import RateLimited, get_logger
from marketfeed.wire.finnhub import Decoded, FrameDecoder

_log = get_logger("ingest")
_rare = RateLimited(_log)

SUBSCRIBED_AFTER_NS = NANOS // 2
# Overlap of two connections that is searched for repeats: what a source re-sends after a reconnect.
OVERLAP_S = 5.0
# What was sent is remembered for so long, or so many: what a challenged owner may have to reconcile.
_RECENT_TRADES_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class OwedGap:
    """A gap that could not be said yet: its end is not known (None), or there is no room for it."""

    symbols: frozenset[str]
    watermark: int
    lateness_ns: int
    reason: str
    end_ts: int | None = None
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class _Hole:
    """A gap in what is buffered of a symbol; Unix ns."""

    from_ts: int
    to_ts: int
    reason: str


@dataclass(frozen=True, slots=True)
class _Standing:
    """Credits, their newest stamp (Unix ns) and when they lapse (monotonic); overlap: with the last connection."""

    newest_ts: int
    until_s: float
    credits: Credits
    overlap: bool


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """flush_bytes: frames' bytes at which a flush does not wait for its time; dedup: drop repeats at all."""

    flush_interval_s: float
    flush_bytes: int
    dedup: bool
    limits: Limits = field(default_factory=Limits)


class Pipeline:
    """The listener of the feed, and the only writer of trades."""

    def __init__(
        self,
        symbols: SymbolTable,
        cutter: Cutter,
        sender: Sender,
        buffer: StandbyBuffer,
        quarantine: Quarantine,
        options: PipelineOptions,
    ) -> None:
        self.symbols = symbols
        self._names: tuple[str, ...] = ()
        self._cutter = cutter
        self._sender = sender
        self._buffer = buffer
        self._quarantine = quarantine
        self._options = options
        self._decoder = FrameDecoder({})
        self._repeats = RepeatFilter()
        self._recent = RecentTrades(READ_BACK_NS / NANOS, _RECENT_TRADES_MAX)
        self._credits: list[_Standing] = []
        self._kept_too: frozenset[str] = frozenset()
        self._owed: list[OwedGap] = []
        self._holes: dict[str, _Hole] = {}
        self._followed: frozenset[str] = frozenset()
        self._heard_whole = WholeSince(SUBSCRIBED_AFTER_NS)
        self._received_ts = 0
        self._opened_ts: int | None = None  # our clock when the present connection opened
        self._first_ts: int | None = None  # first accepted stamp of it
        self.clock = WatermarkClock()
        self.acked = AckedWatermark(())
        self.silence = Silence()
        self.received = 0
        self.received_by_symbol = np.zeros(0, np.int64)  # accepted ones, by symbol id
        self.traded_ts = 0  # arrival of the newest accepted trade (our clock, Unix ns), 0 before the first
        self.repeated = 0
        self.gaps = 0

    @property
    def received_ts(self) -> int:
        """Arrival of the newest frame (our clock, Unix ns), 0 before the first."""
        return self._received_ts

    @property
    def followed(self) -> frozenset[str]:
        """The symbols that are subscribed to."""
        return self._followed

    def held_from_ts(self) -> int:
        """Nothing that is buffered, was pushed out of the buffer, or is still to come is stamped below this.

        How late trades of this feed are may not be known yet, so what is to come may be as late as a bar waits for.
        """
        now_ns = time.time_ns()
        to_come_ts = min(now_ns, self.clock.value or now_ns) - LATE_NS
        held = (self._buffer.oldest_stamp, self._buffer.lost.from_ts if self._buffer.lost else None)
        return min([to_come_ts, *(stamp for stamp in held if stamp is not None)])

    def whole_from(self, symbols: Iterable[str]) -> dict[str, int]:
        """Of those of these symbols that the present connection carries: the stamp from which on all has come over it.

        An owner whose watermark has reached that stamp has logged what we did not hear.
        """
        return self._heard_whole.since(symbols)

    def heard_from(self, symbols: Iterable[str]) -> dict[int | None, set[str]]:
        """The symbols by the stamp at which what we hold of them begins, None where the connection has to tell yet."""
        names = set(symbols)
        begins: dict[str, int] = {**self._heard_whole.since(names)}
        if self._opened_ts is not None:
            # What was subscribed to with the connection is heard from its first stamp on.
            first_ts = self._opened_ts + SUBSCRIBED_AFTER_NS
            begins |= {symbol: due_ts for symbol, due_ts in self._heard_whole.due(names).items() if due_ts > first_ts}
        found: dict[int | None, set[str]] = {}
        for symbol in names:
            found.setdefault(begins.get(symbol), set()).add(symbol)
        return found

    # The feed's listener

    def on_open(self) -> None:
        """A new connection: what was sent last may come again."""
        self._opened_ts, self._first_ts = time.time_ns(), None
        self._heard_whole.subscribed(self._followed, self._opened_ts)
        self._repeats = RepeatFilter()
        # Of a connection before the last one all that may come again is among what was sent, too.
        self._credits = [one for one in self._credits if not one.overlap]
        if self._options.dedup:
            self.add_credits(concat(self._recent.last(OVERLAP_S)), OVERLAP_S, overlap=True)

    def on_frame(self, frame: bytes, received_ts: int) -> None:
        """A frame of the feed; flushes at once when there is much."""
        if self._options.dedup and self._repeats.is_repeat(frame, received_ts):
            metrics.REPEATED_FRAMES.inc()
            return
        self._received_ts = received_ts
        self._decoder.feed(frame)
        if self._decoder.bytes_fed >= self._options.flush_bytes:
            self.flush()

    def on_unreadable(self, reason: str, sample: bytes) -> None:
        """A frame that the client did not deliver."""
        self._quarantine.put(reason, "not read", sample, time.time_ns())

    def on_lost(self, reason: str) -> None:
        """The connection is gone: what is missing from here on is owed as a gap."""
        self.flush()
        self._opened_ts = self._first_ts = None
        self._heard_whole.lost()
        symbols, watermark = self._followed | self._cutter.owned.keys(), self.clock.value
        # A connection that brought nothing before it was lost again is in the gap that is owed already.
        if not any(one.watermark == watermark and one.symbols >= symbols for one in self._owed):
            self.owe_gap(symbols, watermark, self.clock.lateness_ns(time.time_ns()), "connection_lost")

    # What the owner asks for

    def follow(self, symbols: Collection[str]) -> None:
        """From now on exactly these symbols are known to the decoder and expected to be heard of."""
        self.flush()
        ids = {symbol: self.symbols.id(symbol) for symbol in symbols}
        self._names = self.symbols.names()
        before, self._followed = self._followed, frozenset(symbols)
        self._heard_whole.unsubscribed(before - self._followed)
        if self._opened_ts is not None:
            self._heard_whole.subscribed(self._followed - before, time.time_ns())
        self._holes = {symbol: hole for symbol, hole in self._holes.items() if symbol in ids}
        self._decoder.set_symbols(ids)
        self.silence.follow(np.array(sorted(ids.values()), np.int64), time.time_ns())

    def add_credits(self, trades: TradeColumns, lapse_s: float, *, overlap: bool = False) -> None:
        """Set off what arrives within `lapse_s` against these trades, which the log holds already."""
        if len(trades):
            until_s = time.monotonic() + lapse_s
            self._credits.append(_Standing(int(trades.event_ts.max()), until_s, Credits(trades, until_s), overlap))

    def owe_gap(
        self,
        symbols: Iterable[str],
        watermark: int,
        lateness_ns: int,
        reason: str,
        end_ts: int | None = None,
        dropped: int = 0,
    ) -> None:
        """A gap begins at this watermark less the lateness; it is written when its end is known and there is room.

        No `Alive` says more than that watermark until one that follows the gap is acknowledged.
        """
        if watermark > 0 and (owed := frozenset(symbols)):
            if watermark < self.clock.value:  # One above it may be on its way.
                self.acked = self.acked.lowered(watermark)
            self._owed.append(OwedGap(owed, watermark, lateness_ns, reason, end_ts, dropped))
            self._pay_gaps()

    def say_holes(self, symbols: Iterable[str]) -> None:
        """These symbols are published from now on: write the gaps in what was buffered of them."""
        found: dict[_Hole, list[str]] = {}
        for symbol in symbols:
            if (hole := self._holes.pop(symbol, None)) is not None:
                found.setdefault(hole, []).append(symbol)
        for hole, names in found.items():
            self.owe_gap(names, hole.from_ts, 0, hole.reason, hole.to_ts)

    def yielding(self, symbols: Collection[str]) -> None:
        """Another process publishes these symbols from now on: say what is owed of the time before we took them over.

        What a lost connection owes is not said: the successor has heard what came since.
        """
        names = frozenset(symbols)
        owed, self._owed = self._owed, []
        for one in owed:
            given, kept = one.symbols & names, one.symbols - names
            if given and one.end_ts is None and one.reason != "connection_lost":
                end_ts = max(self.clock.value, one.watermark)
                if left := self._say_gap(replace(one, symbols=given), end_ts):
                    self._owed.append(replace(one, symbols=left, end_ts=end_ts))
            if kept:
                self._owed.append(replace(one, symbols=kept))

    def forget_holes(self, symbols: Iterable[str]) -> None:
        """Somebody else published these symbols meanwhile."""
        for symbol in symbols:
            self._holes.pop(symbol, None)

    def keep_too(self, symbols: Collection[str]) -> None:
        """From now on keep trades of these published symbols in the buffer as well, the last minute included."""
        added = frozenset(symbols) - self._kept_too
        self._kept_too |= added
        for received_ts, batch in self._recent.batches():
            mask = having(batch, added)
            if mask.any():
                self._buffer.add(batch.take(mask), received_ts)

    def stop_keeping(self, symbols: Collection[str]) -> None:
        """The reverse of `keep_too`."""
        self._kept_too -= frozenset(symbols)

    def send_watermarks(self) -> None:
        """Say in every partition of ours how far event time has come, after every trade accepted so far."""
        self.flush()
        self._pay_gaps()
        event_ts = self.clock.value
        if not event_ts or self._unsaid():
            return
        acked = self.acked  # Another one by the time of the answer: then this watermark does not speak for its reason.
        for partition, epochs in self._cutter.epochs_by_partition().items():
            self._sender.send_control(
                partition,
                Watermark(tuple(sorted(epochs)), event_ts),
                lambda _, partition=partition: acked.acked(partition, event_ts),  # type: ignore[misc]
            )

    # The loop and its step

    async def run(self) -> None:
        """Flush and serve acknowledgements, for ever."""
        while True:
            await asyncio.sleep(self._options.flush_interval_s)
            self.flush()
            self._sender.pump()

    def flush(self) -> None:
        """Judge and send everything that came since the last call."""
        if not self._decoder.bytes_fed:
            return
        started_s = time.perf_counter()
        received_ts = self._received_ts
        decoded = self._decoder.drain()
        with tracing.span("ingest.flush", trades=len(decoded)):
            self._report(decoded)
            if len(decoded):
                self._trades(decoded, received_ts)
        if decoded.pings and self._opened_ts is not None:
            self._ping(received_ts)
        metrics.FLUSH_S.observe(time.perf_counter() - started_s)

    def _trades(self, decoded: Decoded, received_ts: int) -> None:
        self.received += len(decoded)
        metrics.RECEIVED.inc(len(decoded))
        trades = self._accepted(decoded, received_ts)
        if trades is None:
            return
        self.clock.accept(trades.event_ts, received_ts)
        self._heard_whole.reached(self.clock.value, received_ts)
        if self._first_ts is None:
            self._first_ts = int(trades.event_ts[0])
        if self._owed:
            self._pay_gaps()
        self.silence.heard(trades.symbol_index.astype(np.int64), received_ts)
        self._tally(trades, received_ts)
        if self._credits:
            trades = self._less_credits(trades)
        if not len(trades):
            return
        self._recent.add(received_ts, trades)
        self._send(trades, received_ts)

    def _tally(self, trades: TradeColumns, received_ts: int) -> None:
        """Note what came of each symbol, for rates."""
        self.traded_ts = received_ts
        missing = len(self.symbols) - len(self.received_by_symbol)
        if missing > 0:
            self.received_by_symbol = np.concatenate([self.received_by_symbol, np.zeros(missing, np.int64)])
        self.received_by_symbol += np.bincount(trades.symbol_index, minlength=len(self.received_by_symbol))

    def _send(self, trades: TradeColumns, received_ts: int) -> None:
        if self._kept_too and (mask := having(trades, self._kept_too)).any():
            self._buffer.add(trades.take(mask), received_ts)
        records, parked = self._cutter.cut(trades, received_ts)
        traceparent = tracing.current_traceparent()
        for partition, record in records:
            self._sender.send_trades(partition, record, traceparent)
        if parked is not None:
            self._buffer.add(parked, received_ts)

    def _accepted(self, decoded: Decoded, received_ts: int) -> TradeColumns | None:
        """The trades that pass the rules; the others go to quarantine."""
        ids, stamp_ms, price, size = decoded.symbol_id, decoded.stamp_ms, decoded.price, decoded.size
        condition_index = decoded.condition_index
        reasons = refused(ids, stamp_ms, price, size, received_ts, self._options.limits)
        if reasons is not None:
            self._quarantine_trades(decoded, reasons.astype(np.int64), received_ts)
            good = reasons == 0
            if not good.any():
                return None
            ids, stamp_ms, price, size = ids[good], stamp_ms[good], price[good], size[good]
            condition_index = condition_index[good]
        index = ids.astype(np.uint32)
        return TradeColumns(self._names, index, stamps(stamp_ms), price, size, decoded.condition_sets, condition_index)

    def _quarantine_trades(self, decoded: Decoded, reasons: Int64Array, received_ts: int) -> None:
        """One sample per reason and flush, counted for all."""
        unknown = iter(decoded.unknown)
        for code, count in enumerate(np.bincount(reasons, minlength=len(REASONS)).tolist()):
            if code == 0 or not count:
                continue
            at = int(np.flatnonzero(reasons == code)[0])
            symbol_id = int(decoded.symbol_id[at])
            symbol = self.symbols.name(symbol_id) if symbol_id >= 0 else next(unknown, "?")
            sample = f"s={symbol} p={decoded.price[at]!r} v={decoded.size[at]!r} t={decoded.stamp_ms[at]!r}"
            self._quarantine.put(REASONS[code], f"{count} in one flush", sample, received_ts, count)

    def _less_credits(self, trades: TradeColumns) -> TradeColumns:
        now_s = time.monotonic()
        for standing in self._credits:
            if len(trades) and int(trades.event_ts.min()) <= standing.newest_ts:
                before = len(trades)
                trades = standing.credits.spend(trades, now_s)
                self.repeated += before - len(trades)
                metrics.REPEATED_TRADES.inc(before - len(trades))
        self._credits = [one for one in self._credits if len(one.credits) and now_s < one.until_s]
        return trades

    def _report(self, decoded: Decoded) -> None:
        for error in decoded.errors:
            metrics.FEED_ERRORS.inc()
            _rare.warning("the feed says", error=error)
        for one in decoded.rejected:
            self._quarantine.put(one.reason, one.detail, one.sample, self._received_ts, one.count)

    def _ping(self, received_ts: int) -> None:
        """A ping moves the watermark like a trade would, so what is owed has to be said before."""
        self._pay_gaps(at_ping=True)
        if not self._unsaid():
            self.clock.ping(received_ts)
            self._heard_whole.reached(self.clock.value, received_ts)

    def _unsaid(self) -> bool:
        """Whether there is a gap that no watermark may jump over.

        One without room, or one whose end the next connection has to tell although what was buffered goes on beyond it.
        """
        return any(one.end_ts is not None or one.watermark < self.clock.value for one in self._owed)

    def _say_gap(self, one: OwedGap, end_ts: int) -> frozenset[str]:
        """Write a gap to every partition of those symbols that are published; those without room come back."""
        split: dict[int, list[str]] = {}
        for symbol in sorted(self._cutter.owned.keys() & one.symbols):
            split.setdefault(self._cutter.partition(symbol), []).append(symbol)
        left: set[str] = set()
        for partition, names in split.items():
            body = gap(names, one.watermark, one.lateness_ns, end_ts, one.reason, one.dropped)
            if body is not None and not self._sender.send_control(partition, body):
                left.update(names)
        if (said := sum(map(len, split.values())) - len(left)) > 0:
            self.gaps += 1
            metrics.GAPS.labels(one.reason).inc()
            from_ts = one.watermark - one.lateness_ns
            _log.warning("gap", reason=one.reason, symbols=said, from_ts=from_ts, to_ts=end_ts)
        return frozenset(left)

    def _pay_gaps(self, at_ping: bool = False) -> None:
        """Write the gaps whose end is known."""
        if not self._owed:
            return
        opened_ts, here_ts = self._opened_ts, None
        if opened_ts is not None and (self._first_ts is not None or at_ping):
            here_ts = max(self._first_ts or 0, opened_ts + SUBSCRIBED_AFTER_NS)
        owed, self._owed = self._owed, []
        for one in owed:
            end_ts = here_ts if one.end_ts is None else one.end_ts
            if end_ts is None:
                self._owed.append(one)
                continue
            self._note_holes(one, end_ts)
            if left := self._say_gap(one, end_ts):
                self._owed.append(replace(one, symbols=left, end_ts=end_ts))

    def _note_holes(self, one: OwedGap, end_ts: int) -> None:
        """A gap of symbols that are not published (yet) is told when they are; several of a symbol become one."""
        from_ts = one.watermark - one.lateness_ns
        for symbol in (one.symbols & self._followed) - self._cutter.owned.keys():
            before = self._holes.get(symbol, _Hole(from_ts, end_ts, one.reason))
            self._holes[symbol] = _Hole(min(from_ts, before.from_ts), max(end_ts, before.to_ts), before.reason)
