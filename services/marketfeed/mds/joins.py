"""From history to live: a symbol's past goes to a client first, then the client gets what is new, without a hole.

Joins of a client run one after the other, so that one that asks for a hundred symbols gets the first one quickly and
cannot crowd out the rest. Whoever resumes gets what it missed in place of a snapshot.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from marketfeed.domain.bars import CLOSED, OPEN, BarColumns, no_bars, stack
from marketfeed.domain.client_messages import BARS, MINUTES, QUOTES, SETTLED, Wish
from marketfeed.domain.errors import Unavailable
from marketfeed.domain.rollup import roll_up
from marketfeed.domain.trades import NANOS
from marketfeed.mds.clients import Client
from marketfeed.mds.frames import parts_of
from marketfeed.mds.history import Archive
from marketfeed.mds.hub import Hub
from marketfeed.mds.snapshot import FOR_EVER_S, ROWS_MAX, History, Snapshots
from marketfeed.runtime.tasks import TaskKit
from marketfeed.wire.websocket import BarOut, Snapshot, bars_of, encode
from marketfeed.wire.websocket_frames import encode_text_frame

# How often a join looks whether the client takes data again.
ROOM_PAUSE_S = 0.01
# Between two tries of a join whose read failed.
AGAIN_PAUSE_S = 1.0
# A minute does not change any more so long after its begin, and its roll-up is stored: the lateness allowed and more.
SETTLED_AFTER_S = 18 * 60


@dataclass(frozen=True, slots=True)
class Missed:
    """In place of a snapshot: what changed since a version of the change log, and bars from a second on.

    from_s  None if no bar has changed before that version
    """

    version: int
    from_s: int | None


@dataclass(frozen=True, slots=True, eq=False)
class _Past:
    """What a join has read: from a second on, seconds with their history, and minutes."""

    from_s: int
    history: History | None = None
    minutes: BarColumns | None = None
    minutes_incomplete: bool = False


class Joins:
    """Joins clients to the live state. `bars_per_part`, `span_s`: bounds of a snapshot's message and reach.

    What a joining client has not seen is remembered until `forget`, also while its join is tried again.
    """

    def __init__(
        self, hub: Hub, snapshots: Snapshots, archive: Archive, bars_per_part: int, span_s: int, buffer_bytes_max: int
    ) -> None:
        self._hub = hub
        self._snapshots = snapshots
        self._archive = archive
        self._bars_per_part = bars_per_part
        self._span_s = span_s
        self._room_bytes = buffer_bytes_max // 2

    async def join(self, client: Client, symbol: str, wish: Wish, missed: Missed | None) -> None:
        """Give a client the past of a symbol, then its live messages. Raises Unavailable, ConnectionError."""
        hub, state = self._hub, self._hub.state
        symbol_id = state.symbols.id(symbol)
        hub.fanout.deactivate(client, [symbol_id])
        begun = client.joining[symbol_id] = state.log.version if missed is None else missed.version
        past = await self._past(symbol, wish, missed)
        if missed is not None and not self._is_whole(past):
            await self.join(client, symbol, wish, None)
            return
        await self.room(client)
        if hub.state is not state or client.session.wish_of(symbol) != wish:
            return
        hub.refresh()
        known = state.log.version if missed is None else missed.version
        parts = self._snapshot(symbol, wish, past) if missed is None else self._missed(symbol, wish, past)
        await self._send(client, parts)
        hub.fanout.write(client, hub.fanout.catch_up(symbol_id, wish, known))
        if client.session.wish_of(symbol) == wish:
            if MINUTES in wish.channels:
                self._join_minutes(client, symbol_id, wish, past, begun)
            hub.fanout.activate(client, [symbol_id], wish)

    def forget(self, client: Client, symbol: str) -> None:
        """The join is over, or not wanted any more."""
        if (symbol_id := self._hub.state.symbols.find(symbol)) is not None:
            client.joining.pop(symbol_id, None)

    def _is_whole(self, past: _Past) -> bool:
        """Whether all bars that a resume owes were read; if not, a snapshot says where they are from."""
        stored = past.history is None or past.history.source == "store"
        held = past.from_s >= self._hub.state.window.held_from_s
        return held or (stored and not past.minutes_incomplete)

    async def room(self, client: Client, bytes_max: int | None = None) -> None:
        """Wait until the client takes data. Raises ConnectionError when it is gone or has to go."""
        while not (client.leaving or client.outlet.closed):
            if client.outlet.buffered_bytes <= (self._room_bytes if bytes_max is None else bytes_max):
                return
            await asyncio.sleep(ROOM_PAUSE_S)
        raise ConnectionResetError

    async def _past(self, symbol: str, wish: Wish, missed: Missed | None) -> _Past:
        from_s = self._from_s(symbol, wish) if missed is None else missed.from_s
        if from_s is None:
            return _Past(FOR_EVER_S)
        history = await self._snapshots.history(symbol, from_s) if BARS in wish.channels else None
        if MINUTES not in wish.channels:
            return _Past(from_s, history)
        minutes, incomplete = await self._minutes(symbol, from_s // 60 * 60)
        return _Past(from_s, history, minutes, incomplete)

    async def _minutes(self, symbol: str, from_s: int) -> tuple[BarColumns, bool]:
        """Bars of one minute, and whether some may be missing.

        Those that may still change are made of their seconds, as stored roll-ups follow half a minute behind.
        """
        state = self._hub.state
        symbol_id = state.symbols.id(symbol)
        watermark = state.window.watermark(symbol_id)
        cut_s = max(from_s, (watermark // NANOS - SETTLED_AFTER_S) // 60 * 60)
        older, incomplete = no_bars(), False
        if from_s < cut_s:
            try:
                span = await self._archive.span(symbol, "1m", from_s, cut_s, ROWS_MAX)
                older, incomplete = span.bars, span.incomplete
            except Unavailable:
                incomplete = True
        history = await self._snapshots.history(symbol, cut_s)
        if self._hub.state is not state:
            raise Unavailable("log", state.topic_id, "it was replaced")
        self._hub.refresh()
        seconds = self._snapshots.join(symbol, cut_s, history)
        marks = {symbol_id: state.window.watermark(symbol_id)}
        newer = roll_up(seconds, "1m", state.calendar, marks, state.window.gaps_of(symbol_id))
        incomplete |= self._snapshots.incomplete(symbol, history) or history.source == "cache"
        return stack([older, newer]), incomplete

    def _join_minutes(self, client: Client, symbol_id: int, wish: Wish, past: _Past, begun: int) -> None:
        """Tell of minutes that were made since the read began, and have those made that changed or are still open."""
        hub = self._hub
        hub.fanout.write(client, hub.fanout.minutes_since(symbol_id, wish, begun))
        state = hub.state
        state.minutes.renew(symbol_id, state.log.since(begun).bars.get(symbol_id, ()))
        if past.minutes is not None:
            state.minutes.renew(symbol_id, past.minutes.start_s[past.minutes.state == OPEN].tolist())

    def _snapshot(self, symbol: str, wish: Wish, past: _Past) -> Iterator[bytes]:
        """The parts of a snapshot as of now, each encoded when it is asked for."""
        hub, state = self._hub, self._hub.state
        symbol_id = state.symbols.id(symbol)
        history = past.history
        bars = None if history is None else self._snapshots.join(symbol, past.from_s, history)
        parts = [None] if bars is None else parts_of(_emitted(bars, wish), self._bars_per_part)
        position, status = state.position.text(), hub.frames.symbol_state(symbol_id)
        quote = hub.frames.quote(symbol_id) if QUOTES in wish.channels else None
        incomplete = history is not None and self._snapshots.incomplete(symbol, history)
        for number, part in enumerate(parts):
            message = Snapshot(
                symbol=symbol,
                part=number,
                parts=len(parts),
                position=position,
                source="memory" if history is None else history.source,
                incomplete=incomplete or past.minutes_incomplete,
                from_=past.from_s,
                status=status,
                quote=quote if number == 0 else None,
                bars=None if part is None else bars_of(part),
                bars_1m=None if past.minutes is None or number else bars_of(_emitted(past.minutes, wish)),
            )
            yield encode_text_frame(encode(message))

    def _missed(self, symbol: str, wish: Wish, past: _Past) -> Iterator[bytes]:
        """Bars that may have changed, oldest first, and the newest quote, each encoded when it is asked for."""
        frames, symbol_id = self._hub.frames, self._hub.state.symbols.id(symbol)
        if past.history is not None:
            bars = self._snapshots.join(symbol, past.from_s, past.history)
            yield from self._bars(symbol, _emitted(bars, wish), "1s")
        if past.minutes is not None:
            yield from self._bars(symbol, _emitted(past.minutes, wish), "1m")
        if QUOTES in wish.channels:
            yield frames.quote_frame(symbol_id)

    def _bars(self, symbol: str, bars: BarColumns, interval: str) -> Iterator[bytes]:
        for part in reversed(parts_of(bars, self._bars_per_part)):
            if len(part):
                yield encode_text_frame(encode(BarOut(symbol, bars_of(part), interval)))

    async def _send(self, client: Client, parts: Iterator[bytes]) -> None:
        """Write all parts; returns at the instant at which the client has seen everything else."""
        hub = self._hub
        for number, part in enumerate(parts):
            if number:
                await asyncio.sleep(0)  # a part is milliseconds of work, and others have their turn between two
                await self.room(client)
            hub.fanout.write(client, part)
        while True:
            hub.refresh()
            if hub.fanout.serve(client, time.monotonic()):
                return
            await self.room(client)

    def _from_s(self, symbol: str, wish: Wish) -> int:
        """The second from which a client gets bars: by default the start of the symbol's newest trade date."""
        state = self._hub.state
        event_ts = state.last_trade_ts(state.symbols.id(symbol)) or time.time_ns()
        if wish.from_s is not None:
            return max(wish.from_s, event_ts // NANOS - self._span_s)
        return state.calendar.day(state.calendar.trade_date(event_ts))[0]


def _emitted(bars: BarColumns, wish: Wish) -> BarColumns:
    """Only closed bars for whoever wants settled ones."""
    return bars.take(bars.state >= CLOSED) if wish.emission == SETTLED else bars


class Joiner:
    """The joins of one client, one after the other; a symbol waits at most once.

    There is a task only while there is something to join: most connections are idle, and a task waiting is memory.
    """

    __slots__ = ("_client", "_joins", "_over", "_running", "_tasks", "_waiting")

    def __init__(self, joins: Joins, client: Client, tasks: TaskKit) -> None:
        self._joins = joins
        self._client = client
        self._tasks = tasks
        self._waiting: dict[str, Missed | None] = {}
        self._running: asyncio.Task[None] | None = None
        self._over = False

    def add(self, symbols: Iterable[str], missed: Mapping[str, Missed] | None = None) -> None:
        """Join these, too; those in `missed` have everything else already."""
        if self._over:
            return
        for symbol in symbols:
            self._waiting[symbol] = None if missed is None else missed.get(symbol)
        if self._waiting:
            self._client.settled = False
            self._running = self._running or self._tasks.spawn("join", self._run())

    def end(self) -> None:
        """Join nothing any more."""
        self._over = True
        if self._running is not None:
            self._running.cancel()

    async def _run(self) -> None:
        """Until all is joined, or the connection is gone."""
        try:
            while self._waiting:
                symbol = next(iter(self._waiting))
                await self._next(symbol, self._waiting.pop(symbol))
            self._client.settled = True
        except ConnectionError:
            self._over = True
        finally:
            self._running = None

    async def _next(self, symbol: str, missed: Missed | None) -> None:
        wish = self._client.session.wish_of(symbol)
        try:
            if wish is not None:
                await self._joins.join(self._client, symbol, wish, missed)
        except Unavailable:
            # A shared read failed or the log was replaced: the next try finds another way or no client.
            await asyncio.sleep(AGAIN_PAUSE_S)
            self._waiting.setdefault(symbol, missed)
        if symbol not in self._waiting:
            self._joins.forget(self._client, symbol)
