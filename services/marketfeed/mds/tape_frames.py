"""Every trade, as encoded frames for any number of clients: each is no more than a place in the ring of the tape.

Clients at the same place share one stretch of the tape, cut by symbol once, and each symbol's frame is encoded once
however many take it. Who lags reads stretches of its own; how many trades are cut for such readers in a turn is
bounded, so that they wait for each other and nobody else for them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from marketfeed.domain.position import Position
from marketfeed.domain.tape import TapeTrades
from marketfeed.domain.tape_cut import SymbolTape, TapeCut
from marketfeed.domain.tape_ring import RingEvent
from marketfeed.mds.live import LiveState
from marketfeed.wire.finnhub_server import trade_frame
from marketfeed.wire.websocket import Stamps, TradesOut, encode
from marketfeed.wire.websocket_frames import encode_text_frame

# Trades in one stretch, and in all stretches of one turn, give or take a record of each partition.
STRETCH_TRADES = 16_384
TURN_TRADES = 65_536

# The next offset of each partition, from partition 0 on.
Place = tuple[int, ...]


class Dialect(enum.Enum):
    """Whose protocol a client speaks."""

    OURS = "ours"
    FINNHUB = "finnhub"


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """The tape from one place to another."""

    cut: TapeCut
    end: Place


class TapeFrames:
    """Frames of one state's tape. `begin` sets the stamp of everything made until the next call.

    end  the place after all that had been applied at the turn's begin
    """

    def __init__(self, state: LiveState) -> None:
        self._state = state
        self._now_ns = 0
        self._cut = 0
        self.end = place_of(state.next_offsets)
        self._stretches: dict[Place, Stretch] = {}
        self._frames: dict[tuple[Place, int, Dialect], bytes] = {}

    def position(self, place: Place) -> str:
        """A place as clients carry it."""
        return Position(self._state.topic_id, dict(enumerate(place))).text()

    def begin(self, now_ns: int) -> None:
        """A new turn: the tape has gone on."""
        self._now_ns = now_ns
        self._cut = 0
        self.end = place_of(self._state.next_offsets)
        self._stretches.clear()
        self._frames.clear()

    def after(self, place: Place, symbol_ids: frozenset[int], dialect: Dialect) -> tuple[bytes, Place] | None:
        """The frames of what follows a place, of these symbols, and the place after it; None if it is not held whole.

        The place stays where it is, without frames, while others are read for.
        """
        place = self._passed_learning(place)
        stretch = self._stretches.get(place)
        if stretch is None:
            if self._cut >= TURN_TRADES:
                return b"", place
            stretch = self._read(place)
            if stretch is None:
                return None
        wanted = sorted(stretch.cut.symbol_ids & symbol_ids)
        return b"".join(self._frame(place, stretch, symbol_id, dialect) for symbol_id in wanted), stretch.end

    def _passed_learning(self, place: Place) -> Place:
        """While owners are learned nothing counts, so that nobody misses what is not held."""
        readers, tape = self._state.readers, self._state.tape
        if not any(reader.learning for reader in readers.values()):
            return place
        return tuple(tape.next(p) if readers[p].learning else offset for p, offset in enumerate(place))

    def _read(self, place: Place) -> Stretch | None:
        room, events, end = STRETCH_TRADES, list[RingEvent](), list(place)
        for partition, offset in enumerate(place):
            if room <= 0:
                break
            found = self._state.tape.read(partition, offset, room)
            if found is None:
                return None
            events += found.events
            room -= sum(len(event) for event in found.events if isinstance(event, TapeTrades))
            end[partition] = found.next_offset
        stretch = self._stretches[place] = Stretch(TapeCut(events), tuple(end))
        self._cut += len(stretch.cut)
        return stretch

    def _frame(self, place: Place, stretch: Stretch, symbol_id: int, dialect: Dialect) -> bytes:
        key = (place, symbol_id, dialect)
        frame = self._frames.get(key)
        if frame is None:
            symbol, tape = self._state.symbols.name(symbol_id), stretch.cut.of(symbol_id)
            made = trade_frame(symbol, tape) if dialect is Dialect.FINNHUB else self._ours(symbol, tape)
            frame = self._frames[key] = made
        return frame

    def _ours(self, symbol: str, tape: SymbolTape) -> bytes:
        stamps = Stamps(str(tape.event_ts[-1]), str(tape.received_ts), str(tape.append_ts), str(self._now_ns))
        message = TradesOut(
            symbol=symbol,
            event_ts=list(map(str, tape.event_ts)),
            price=tape.price,
            size=tape.size,
            conditions=tape.conditions,
            partition=tape.partition,
            offset=tape.offset,
            index=tape.index,
            stamps=stamps,
        )
        return encode_text_frame(encode(message))


def place_of(offsets: dict[int, int]) -> Place:
    """Offsets by partition as a place."""
    return tuple(offsets[partition] for partition in range(len(offsets)))
