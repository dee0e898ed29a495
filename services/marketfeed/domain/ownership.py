"""The readers' rule: which trades of a partition count. Every reader decides by it, live or replaying, and so alike.

1. `Takeover(epoch, symbols)` makes `epoch` the owner of each symbol whose present owner's epoch is lower.
2. A trade counts only if its record's epoch EQUALS its symbol's owner. (Not "is not lower": with two symbols changing
   hands separately that counts trades twice.) A writer that was replaced may go on writing; nobody listens.
3. A record whose last seq is not above the highest seen of its (partition, epoch) is a repeat and counts nothing. Of a
   record that overlaps what was seen, which no correct writer makes, only the part above counts.
4. `Watermark(epochs, ts)` raises those epochs' watermark. A symbol's watermark is the higher of its owner epoch's and
   of what it had reached when that owner took over: it never falls.
5. A reader that knows no owners and does not start at offset 0, or for which part of the log was trimmed away, LEARNS:
   for `LEARN_NS` of LogAppendTime it takes in take-overs, sequence numbers and watermarks, counts nothing, and then
   reports one `TapeGap` over what it did not count. Owners repeat their `Takeover` more often than that. While
   `learning` is true there is nothing to store; a reader that stops meanwhile starts over.

The outcome is a pure function of the records in offset order: how they are cut into calls of `read` changes nothing but
how counted trades are joined into events. Costs are per record and per symbol in a record, never per trade.
`Correction` and `Cancel` are counted in `ignored_amendments` and not applied: no writer makes them yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from marketfeed.domain.log import Gap, Logged, Status, Takeover, TradesRecord, Watermark
from marketfeed.domain.tape import TapeEvent, TapeGap, TapeOwner, TapeStatus, TapeTrades, TapeWatermark
from marketfeed.domain.trades import NANOS, Conditions, Int64Array, SymbolTable, UInt32Array

__all__ = [
    "EpochRow",
    "EpochState",
    "OwnerRow",
    "OwnershipChanges",
    "PartitionReader",
    "PartitionState",
    "TapeEvent",
    "TapeGap",
    "TapeOwner",
    "TapeStatus",
    "TapeTrades",
    "TapeWatermark",
    "state_at",
]

LEARN_NS = 60 * NANOS
"""How much of the log, by LogAppendTime, a reader without owners learns from."""

LATE_NS = 900 * NANOS
"""Lateness allowed before a bar is final: how far below the first stamp seen a gap begins when it is not known how
late trades were, as that of a learning reader or of a first owner's successor."""

NO_OWNER = -1
NO_WATERMARK = 0


@dataclass(frozen=True, slots=True)
class OwnerRow:
    """`epoch` owns `symbol` from the record `from_offset` on; the symbol's watermark was `watermark_ts` then."""

    symbol: str
    epoch: int
    from_offset: int
    watermark_ts: int


@dataclass(frozen=True, slots=True)
class EpochState:
    """Highest seq seen of an epoch in the partition (-1: none), and the epoch's watermark (0: none)."""

    epoch: int
    last_seq: int
    watermark_ts: int


@dataclass(frozen=True, slots=True)
class EpochRow:
    """An epoch's state as of `as_of_offset`, the next offset to read when it was stored."""

    state: EpochState
    as_of_offset: int


@dataclass(frozen=True, slots=True)
class PartitionState:
    """All that a reader must keep to go on at `next_offset`: the owner of each symbol and each epoch's state."""

    next_offset: int = 0
    owners: dict[str, OwnerRow] = field(default_factory=dict)
    epochs: dict[int, EpochState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OwnershipChanges:
    """What changed since the last call of `take_changes`, to be appended to storage as of `next_offset`."""

    next_offset: int
    owners: tuple[OwnerRow, ...]
    epochs: tuple[EpochState, ...]


def state_at(start: int, owners: Iterable[OwnerRow], epochs: Iterable[EpochRow]) -> PartitionState | None:
    """The newest state at or below the offset `start` that append-only rows allow; None if they know none.

    The reader goes on from its `next_offset`, which may lie below `start`: repeats in between must be seen by every
    reader. Rows may be of any age and order.
    """
    usable = sorted((row for row in epochs if row.as_of_offset <= start), key=lambda row: row.as_of_offset)
    if not usable:
        return None
    next_offset = usable[-1].as_of_offset
    held = sorted((row for row in owners if row.from_offset < next_offset), key=lambda row: row.from_offset)
    return PartitionState(
        next_offset, {row.symbol: row for row in held}, {row.state.epoch: row.state for row in usable}
    )


@dataclass(slots=True)
class _Epoch:
    last_seq: int = -1
    watermark_ts: int = NO_WATERMARK


@dataclass(slots=True)
class _Learning:
    """`since_ts` is None until the first record is seen; stamps are those of the trades that were not counted."""

    reason: str
    since_ts: int | None = None
    from_ts: int | None = None
    to_ts: int = 0
    symbol_ids: set[int] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class _Counted:
    """A record's share in the next `TapeTrades`: ids of its dictionary, and which positions count (None: all)."""

    record: Logged
    body: TradesRecord
    ids: Int64Array
    chosen: npt.NDArray[np.intp] | None
    count: int

    def of(self, column: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What counts of a column of the record."""
        return column if self.chosen is None else column[self.chosen]


class PartitionReader:
    """Follows one partition by the readers' rule. `state` is what an earlier reader stored, None for a new one.

    Counters: `counted`, `ignored_foreign` (epoch is not the owner), `ignored_repeat`, `ignored_learning` (all trades),
    `skipped_seqs` (trades of an owner that never reached the log), `ignored_amendments` and `malformed` (records).
    """

    def __init__(self, partition: int, symbols: SymbolTable, state: PartitionState | None = None) -> None:
        self.partition = partition
        self.counted = 0
        self.ignored_foreign = 0
        self.ignored_repeat = 0
        self.ignored_learning = 0
        self.ignored_amendments = 0
        self.skipped_seqs = 0
        self.malformed = 0
        self._symbols = symbols
        self._next_offset = state.next_offset if state else 0
        self._new = state is None
        self._learning: _Learning | None = None
        self._owners: dict[str, OwnerRow] = dict(state.owners) if state else {}
        self._epochs = {e.epoch: _Epoch(e.last_seq, e.watermark_ts) for e in state.epochs.values()} if state else {}
        self._owner_epoch: Int64Array = np.full(64, NO_OWNER, np.int64)
        self._watermark: Int64Array = np.full(64, NO_WATERMARK, np.int64)
        self._changed_owners: dict[str, OwnerRow] = {}
        self._changed_epochs: set[int] = set()
        for row in self._owners.values():
            symbol_id = int(self._ids((row.symbol,))[0])
            self._owner_epoch[symbol_id] = row.epoch
            owner = self._epochs.get(row.epoch)
            self._watermark[symbol_id] = max(row.watermark_ts, owner.watermark_ts if owner else NO_WATERMARK)

    @property
    def next_offset(self) -> int:
        """The offset of the first record not yet read."""
        return self._next_offset

    @property
    def learning(self) -> bool:
        """True while owners are being learned: nothing counts, and nothing must be stored."""
        return self._learning is not None

    @property
    def state(self) -> PartitionState:
        """A copy of everything needed to go on from here. Costs per symbol and epoch; see `take_changes`."""
        return PartitionState(self._next_offset, dict(self._owners), {e: self._epoch_state(e) for e in self._epochs})

    def take_changes(self) -> OwnershipChanges:
        """Owners and epochs that are new or changed since the last call, for append-only storage."""
        changes = OwnershipChanges(
            self._next_offset,
            tuple(self._changed_owners.values()),
            tuple(self._epoch_state(epoch) for epoch in sorted(self._changed_epochs)),
        )
        self._changed_owners = {}
        self._changed_epochs = set()
        return changes

    def watermark(self, symbol: str) -> int:
        """The watermark of a symbol (Unix ns), 0 when it has none in this partition."""
        symbol_id = self._symbols.find(symbol)
        known = symbol_id is not None and symbol_id < len(self._watermark)
        return int(self._watermark[symbol_id]) if known else NO_WATERMARK

    def owner_of(self, symbol: str) -> int | None:
        """The epoch that speaks for a symbol here, None if nobody does."""
        row = self._owners.get(symbol)
        return None if row is None else row.epoch

    def read(self, records: Sequence[Logged]) -> list[TapeEvent]:
        """The events of records given in offset order; those below `next_offset` were read before and are skipped."""
        events: list[TapeEvent] = []
        counted: list[_Counted] = []
        for record in records:
            if record.offset < self._next_offset:
                continue
            told: list[TapeEvent] = []
            if self._new or self._learning is not None:
                told += self._learn(record)
            if isinstance(record.body, TradesRecord):
                share = self._trades(record, record.body)
            else:
                share = None
                told += self._control(record)
            if told:
                _flush(counted, events)
                events += told
            if share is not None:
                counted.append(share)
            self._next_offset = record.offset + 1
        _flush(counted, events)
        return events

    def pass_malformed(self, offset: int) -> None:
        """A record that could not be decoded: counted, and passed over if it is the next one to read."""
        self.malformed += 1
        if offset == self._next_offset:
            self._next_offset += 1

    def restart(self, first_offset: int, reason: str = "log_trimmed") -> None:
        """Records below `first_offset` are gone: go on from there, learning who owns what (rule 5)."""
        known = self._watermark[self._watermark > NO_WATERMARK].tolist()
        ids = set(np.flatnonzero(self._owner_epoch != NO_OWNER).tolist())
        to_ts = 0
        if self._learning is not None:  # what was not counted so far stays part of the gap
            known += [] if self._learning.from_ts is None else [self._learning.from_ts]
            ids |= self._learning.symbol_ids
            to_ts = self._learning.to_ts
        self._learning = _Learning(reason, None, min(known, default=None), to_ts, ids)
        self._next_offset = first_offset
        self._new = False

    def _learn(self, record: Logged) -> list[TapeEvent]:
        """Begin or end learning, as of a record that is about to be read."""
        if self._new:
            self._new = False
            if record.offset == 0:
                return []
            self._learning = _Learning("no_owner")
        learning = self._learning
        if learning is None:
            return []
        if learning.since_ts is None:
            learning.since_ts = record.append_ts
        if record.append_ts < learning.since_ts + LEARN_NS:
            return []
        self._learning = None
        if learning.from_ts is None or not learning.symbol_ids:
            return []
        symbol_id = np.array(sorted(learning.symbol_ids), np.int64)
        to_ts = max(learning.to_ts, learning.from_ts)
        return [
            TapeGap(self.partition, record.offset, symbol_id, learning.from_ts - LATE_NS, to_ts, learning.reason, 0)
        ]

    def _trades(self, record: Logged, body: TradesRecord) -> _Counted | None:
        """Apply rules 2 and 3 to a trades record."""
        trades = body.trades
        count = len(trades)
        epoch = self._epochs.get(body.epoch) or self._epoch(body.epoch)
        seen = epoch.last_seq
        last_seq = body.first_seq + count - 1
        if last_seq <= seen:
            self.ignored_repeat += count
            return None
        epoch.last_seq = last_seq
        self._changed_epochs.add(body.epoch)
        ids = self._ids(trades.symbols)
        if self._learning is not None:
            self._note_uncounted(self._learning, trades.event_ts, ids)
            return None
        owned = self._owner_epoch[ids] == body.epoch
        chosen = None
        if not owned.all():
            chosen = np.flatnonzero(owned[trades.symbol_index])
            self.ignored_foreign += count - len(chosen)
        if body.first_seq <= seen:
            positions = np.arange(count) if chosen is None else chosen
            chosen = positions[positions > seen - body.first_seq]
            self.ignored_repeat += len(positions) - len(chosen)
        elif owned.any():
            self.skipped_seqs += body.first_seq - seen - 1
        if chosen is not None and not len(chosen):
            return None
        counted = count if chosen is None else len(chosen)
        self.counted += counted
        return _Counted(record, body, ids, chosen, counted)

    def _note_uncounted(self, learning: _Learning, event_ts: Int64Array, ids: Int64Array) -> None:
        self.ignored_learning += len(event_ts)
        first = int(event_ts.min())
        learning.from_ts = first if learning.from_ts is None else min(learning.from_ts, first)
        learning.to_ts = max(learning.to_ts, int(event_ts.max()))
        learning.symbol_ids.update(ids.tolist())

    def _control(self, record: Logged) -> list[TapeEvent]:
        """The events of a record that is not trades. While learning, only what was learned is kept."""
        body, here = record.body, (self.partition, record.offset)
        if isinstance(body, Takeover):
            events = self._takeover(record.offset, body)
        elif isinstance(body, Watermark):
            events = self._raise_watermark(record.offset, body)
        elif isinstance(body, Gap):
            events = [TapeGap(*here, self._ids(body.symbols), body.from_ts, body.to_ts, body.reason, body.dropped)]
        elif isinstance(body, Status):
            events = [TapeStatus(*here, self._ids(body.symbols), body.status, body.event_ts, body.reason)]
        else:
            self.ignored_amendments += 1
            return []
        if self._learning is not None:
            return [event for event in events if isinstance(event, TapeGap | TapeStatus)]
        return events

    def _takeover(self, offset: int, body: Takeover) -> list[TapeEvent]:
        """Rule 1. A repeat changes nothing and says nothing."""
        ids = self._ids(body.symbols)
        gained = self._owner_epoch[ids] < body.epoch
        if not gained.any():
            return []
        epoch = self._epoch(body.epoch)
        for at in np.flatnonzero(gained).tolist():
            symbol = body.symbols[at]
            row = OwnerRow(symbol, body.epoch, offset, int(self._watermark[ids[at]]))
            self._owners[symbol] = self._changed_owners[symbol] = row
        won = ids[gained]
        self._owner_epoch[won] = body.epoch
        events: list[TapeEvent] = [TapeOwner(self.partition, offset, body.epoch, won)]
        return events + self._rise(offset, won, epoch.watermark_ts)

    def _raise_watermark(self, offset: int, body: Watermark) -> list[TapeEvent]:
        """Rule 4."""
        raised = False
        for number in body.epochs:
            epoch = self._epoch(number)
            if body.event_ts > epoch.watermark_ts:
                epoch.watermark_ts = body.event_ts
                self._changed_epochs.add(number)
                raised = True
        if not raised:
            return []
        if len(body.epochs) == 1:
            spoken = self._owner_epoch == body.epochs[0]
        else:
            spoken = np.isin(self._owner_epoch, np.array(body.epochs, np.int64))
        return self._rise(offset, np.flatnonzero(spoken), body.event_ts)

    def _rise(self, offset: int, ids: Int64Array, event_ts: int) -> list[TapeEvent]:
        """Lift the watermark of those symbols that are below `event_ts`."""
        rising = ids[self._watermark[ids] < event_ts]
        if not len(rising):
            return []
        self._watermark[rising] = event_ts
        return [TapeWatermark(self.partition, offset, rising, event_ts)]

    def _epoch(self, number: int) -> _Epoch:
        found = self._epochs.get(number)
        if found is None:
            found = self._epochs[number] = _Epoch()
            self._changed_epochs.add(number)
        return found

    def _epoch_state(self, number: int) -> EpochState:
        epoch = self._epochs[number]
        return EpochState(number, epoch.last_seq, epoch.watermark_ts)

    def _ids(self, names: Sequence[str]) -> Int64Array:
        """Ids of symbols, with the arrays by id made long enough for all of the table."""
        ids = self._symbols.ids(names)
        short = len(self._symbols) - len(self._owner_epoch)
        if short > 0:
            more = short + len(self._owner_epoch)
            self._owner_epoch = np.concatenate([self._owner_epoch, np.full(more, NO_OWNER, np.int64)])
            self._watermark = np.concatenate([self._watermark, np.full(more, NO_WATERMARK, np.int64)])
        return ids


def _flush(counted: list[_Counted], events: list[TapeEvent]) -> None:
    """Join the counted shares of neighbouring records into one event."""
    if counted:
        events.append(_join(counted))
        counted.clear()


def _join(counted: list[_Counted]) -> TapeTrades:
    first, last = counted[0].record, counted[-1].record
    counts = [share.count for share in counted]
    symbol_id = np.empty(sum(counts), np.int64)
    index = np.empty(len(symbol_id), np.int64)
    start = 0
    for share in counted:
        end = start + share.count
        # "clip" lets numpy write straight into the slice; indices were checked when the record was decoded.
        np.take(share.ids, share.of(share.body.trades.symbol_index), out=symbol_id[start:end], mode="clip")
        index[start:end] = np.arange(share.count) if share.chosen is None else share.chosen
        start = end
    sets, condition_index = _join_conditions(counted)
    return TapeTrades(
        first.partition,
        first.offset,
        last.offset,
        symbol_id,
        _joined([share.of(share.body.trades.event_ts) for share in counted]),
        _joined([share.of(share.body.trades.price) for share in counted]),
        _joined([share.of(share.body.trades.size) for share in counted]),
        np.repeat(np.array([share.record.offset for share in counted], np.int64), counts),
        index,
        sets,
        condition_index,
        max(share.body.received_ts for share in counted),
        max(share.record.append_ts for share in counted),
        min(share.record.append_ts for share in counted),
    )


def _joined(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _join_conditions(counted: Sequence[_Counted]) -> tuple[tuple[Conditions, ...], UInt32Array]:
    joint: dict[Conditions, int] = {}
    indexes = []
    for share in counted:
        trades = share.body.trades
        index = share.of(trades.condition_index)
        places = [joint.setdefault(codes, len(joint)) for codes in trades.condition_sets]
        unmoved = places == list(range(len(places)))
        indexes.append(index if unmoved else np.array(places, np.uint32)[index])
    return tuple(joint), _joined(indexes)
