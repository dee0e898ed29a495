"""What a reader of the tape wants, how far it has read, and which bars changed meanwhile.

Streams of gRPC and resumes of the WebSocket stand on this.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from marketfeed.domain.access import ANY as ALL
from marketfeed.domain.access import Principal
from marketfeed.domain.bars import OPEN, BarColumns, no_bars
from marketfeed.domain.client_messages import SymbolStatus
from marketfeed.domain.errors import CallRefused, CallStatus
from marketfeed.domain.position import Position
from marketfeed.domain.tape import TapeGap, TapeTrades, TapeWatermark
from marketfeed.domain.tape_ring import TapeSlice
from marketfeed.domain.trades import NANOS, BoolArray
from marketfeed.mds import metrics
from marketfeed.mds.live import LiveState, SourceState
from marketfeed.wire.market_data import state_message
from marketfeed.wire.v1 import market_data_pb2 as pb

HEARTBEAT_S = 1.0
# Trades read from the ring for one stream at a time: a message of at most a megabyte.
TRADES_AT_ONCE = 8_192
# A bar is final so long after its end: no older one can have been open.
BEFORE_S = 900
_LAG_MS_MAX = 2**32 - 1


class Wanted:
    """The symbols of a stream: those of a list that the principal may see, or all, later ones included."""

    def __init__(self, state: LiveState, symbols: Sequence[str], symbols_max: int, principal: Principal) -> None:
        self._state = state
        self._principal = principal
        self.all = tuple(symbols) == (ALL,)
        self.statuses: dict[str, SymbolStatus] = {}
        for symbol in () if self.all else dict.fromkeys(symbols):
            self.statuses[symbol] = self._status(symbol, symbols_max)
        self._names = [s for s, status in self.statuses.items() if status in (SymbolStatus.OK, SymbolStatus.PENDING)]
        self._seen = -1
        self._mask: BoolArray = np.zeros(0, np.bool_)
        self._ids: list[int] = []
        self._look_up()

    def _status(self, symbol: str, symbols_max: int) -> SymbolStatus:
        if not self._principal.may_see(symbol):
            return SymbolStatus.FORBIDDEN
        if len(self.statuses) >= symbols_max:
            return SymbolStatus.LIMIT
        if self._state.known_id(symbol) is not None:
            return SymbolStatus.OK
        return SymbolStatus.UNKNOWN if self._state.knows_symbols else SymbolStatus.PENDING

    def _look_up(self) -> None:
        """Find the ids again, once there are more symbols."""
        symbols = self._state.symbols
        if self._seen == len(symbols):
            return
        self._seen = len(symbols)
        if self.all:
            self._ids = list(range(len(symbols)))
        else:
            self._ids = [i for name in self._names if (i := symbols.find(name)) is not None]
        self._mask = np.zeros(len(symbols), np.bool_)
        self._mask[self._ids] = True

    @property
    def ids(self) -> list[int]:
        """The ids of those that are there."""
        self._look_up()
        return self._ids

    @property
    def partitions(self) -> Iterable[int]:
        """The partitions that have to be read for them."""
        if self.all:
            return range(self._state.partitions)
        return {self._state.partition_of(name) for name in self._names}

    def of(self, trades: TapeTrades) -> TapeTrades:
        """The trades of these symbols."""
        self._look_up()
        mask = self._mask[trades.symbol_id]
        return trades if mask.all() else trades.take(mask)

    def names_in(self, symbol_ids: Iterable[int]) -> list[str]:
        """The names of those among these ids."""
        self._look_up()
        return [self._state.symbols.name(i) for i in symbol_ids if self._mask[i]]


@dataclass(slots=True)
class TapePlace:
    """How far a stream has read."""

    state: LiveState
    offsets: dict[int, int]
    told_states: dict[int, SourceState] = field(default_factory=dict)
    heartbeat_s: float = 0.0

    @property
    def text(self) -> str:
        """The position up to which everything has been sent."""
        return Position(self.state.topic_id, self.offsets).text()

    def read(self, partition: int) -> TapeSlice:
        """What follows there. Raises CallRefused when it is no longer held."""
        found = self.state.tape.read(partition, self.offsets[partition], TRADES_AT_ONCE)
        if found is None:
            metrics.GOODBYES.labels("grpc_too_slow").inc()
            raise CallRefused(
                CallStatus.RESOURCE_EXHAUSTED,
                "TOO_SLOW",
                "the stream was read too slowly for a tape that is never thinned; resume from the position",
                position=self.text,
            )
        return found

    def changed_states(self, ids: Iterable[int]) -> Iterator[pb.SymbolState]:
        """Symbols that stand otherwise than last told."""
        now_s, now_ns = time.monotonic(), time.time_ns()
        for symbol_id in ids:
            stands = self.state.source(symbol_id, now_s, now_ns)
            if self.told_states.get(symbol_id) is not stands:
                self.told_states[symbol_id] = stands
                name = self.state.symbols.name(symbol_id)
                yield state_message(name, stands.source, stands.trading, stands.since_ts, stands.reason)

    def heartbeat(self, watermark: int | None, lag_s: float) -> pb.Heartbeat | None:
        """The sign of life, once a second; everything up to the watermark has been sent."""
        now_s = time.monotonic()
        if now_s < self.heartbeat_s:
            return None
        self.heartbeat_s = now_s + HEARTBEAT_S
        lag_ms = min(round(lag_s * 1000), _LAG_MS_MAX)
        return pb.Heartbeat(server_ts=time.time_ns(), watermark_ts=watermark or 0, lag_ms=lag_ms, position=self.text)


class Touched:
    """The bars that a stream has to tell of: (symbol id, start) of those that changed since its place.

    gaps  those read on the way, if they are to be kept
    """

    def __init__(self, wanted: Wanted, place: TapePlace, *, keeps_gaps: bool = False) -> None:
        self.gaps: list[TapeGap] = []
        self._keeps_gaps = keeps_gaps
        self._wanted = wanted
        self._place = place
        self._changed: set[tuple[int, int]] = set()
        self._open: set[tuple[int, int]] = set()
        self._watermark_rose = False
        self._oldest_ts: int | None = None  # of all that was read

    def since(self) -> dict[int, int]:
        """From which second on bars may have changed since the place, by symbol id; the tape up to now is read.

        Bars that were open there may have closed without a trade, so symbols count that last traded at most `BEFORE_S`
        before anything that was read since; an open bar is at most that much older than its symbol's last trade.
        """
        while self.read():
            pass
        state = self._place.state
        newest_ts = state.newest_stamps[0] if state.newest_stamps is not None else 0
        horizon_ts = (newest_ts if self._oldest_ts is None else min(newest_ts, self._oldest_ts)) - BEFORE_S * NANOS
        first: dict[int, int] = {}
        for symbol_id in self._wanted.ids:
            last_ts = state.last_trade_ts(symbol_id)
            if last_ts is not None and last_ts >= horizon_ts:
                first[symbol_id] = last_ts // NANOS - BEFORE_S
        for symbol_id, start in self._changed:
            first[symbol_id] = min(first.get(symbol_id, start), start - BEFORE_S)
        self._changed.clear()
        return first

    def add_open(self) -> None:
        """After a snapshot: what was open in it has to be told of when it closes."""
        for symbol_id in self._wanted.ids:
            held = self._place.state.window.of_symbol(symbol_id)
            self._open.update((symbol_id, start) for start in held.start_s[held.state == OPEN].tolist())

    def read(self) -> bool:
        """Take in what the tape says since; returns whether there is more."""
        behind = False
        for partition in self._place.offsets:
            part = self._place.read(partition)
            for event in part.events:
                if isinstance(event, TapeTrades):
                    self._note_age(int(event.event_ts.min()))
                    trades = self._wanted.of(event)
                    keys = np.unique(np.stack([trades.symbol_id, trades.event_ts // NANOS]), axis=1)
                    self._changed.update(zip(*keys.tolist(), strict=True))
                elif isinstance(event, TapeWatermark):
                    self._watermark_rose = True
                    self._note_age(event.event_ts)
                elif self._keeps_gaps and isinstance(event, TapeGap):
                    self.gaps.append(event)
            self._place.offsets[partition] = part.next_offset
            behind |= part.next_offset < self._place.state.tape.next(partition)
        return behind

    def _note_age(self, event_ts: int) -> None:
        if self._oldest_ts is None or event_ts < self._oldest_ts:
            self._oldest_ts = event_ts

    def take(self, least: int) -> BarColumns:
        """The bars as they are now that have reached the state `least`; the others are kept for later."""
        touched, waiting = self._changed, self._open - self._changed if self._watermark_rose else set()
        self._changed, self._watermark_rose = set(), False
        if not (asked := touched | waiting):
            return no_bars()
        ordered = np.array(sorted(asked), np.int64)
        bars = self._place.state.bars(ordered[:, 0], ordered[:, 1])
        keys = list(zip(bars.symbol_id.tolist(), bars.start_s.tolist(), strict=True))
        is_open = bars.state == OPEN
        self._open = (self._open - asked) | {key for key, still in zip(keys, is_open.tolist(), strict=True) if still}
        # One that only waited for its end is told of when that has come.
        was_touched = np.fromiter((key in touched for key in keys), np.bool_, len(keys))
        return bars.take((bars.state >= least) & (was_touched | ~is_open))
