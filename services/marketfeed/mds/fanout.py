"""Sends what changed to every client that is due: one write per client and turn, each frame encoded once.

A turn (`tick`) costs, per symbol that changed, one encoding; per distinct pair of (subscription, version seen) one
joining of frames; per client one look-up and one write. Clients with the same subscription share the `Subscription`
object and, when in step, the same bytes. A client whose socket is full is skipped: its version stays behind, so its
next turn brings the newest state (`domain/conflation.py`); one that takes nothing for too long is told goodbye.

Not here: what a client may ask for (`domain/client_session.py`), snapshots (`snapshot.py`), reading from sockets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from marketfeed.domain.client_session import BARS, QUOTES, ClientSession, Goodbye
from marketfeed.domain.conflation import ChangeLog, Changes, Receipt
from marketfeed.mds import metrics
from marketfeed.wire.websocket import Conflated, encode
from marketfeed.wire.websocket_frames import encode_text_frame


class Outlet(Protocol):
    """A connection as the fan-out uses it."""

    @property
    def buffered_bytes(self) -> int:
        """Bytes the socket has not taken yet."""

    @property
    def closed(self) -> bool:
        """Whether closing has begun."""

    def send_frames(self, data: bytes) -> None:
        """Write encoded frames without waiting."""

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye; never hangs."""


class FrameSource(Protocol):
    """Where the frames of this turn come from; every call of a turn has the same stamp."""

    log: ChangeLog

    def begin(self, now_s: float, now_ns: int, watched: frozenset[int], seen_before: int) -> None:
        """A new turn at this instant; `watched` are the symbols that somebody gets live messages of."""

    def quote_frame(self, symbol_id: int) -> bytes:
        """The newest quote, empty if there is none."""

    def bar_frame(self, symbol_id: int, starts: set[int]) -> bytes:
        """The bars of these starts as they are now, empty if none of them is held."""

    def news_frame(self, symbol_id: int, news: object) -> bytes:
        """A gap or a change of status."""

    def heartbeat_frame(self, symbol_ids: frozenset[int]) -> bytes:
        """The sign of life for a client with these symbols."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """Which symbols a client gets quotes and bars of. One object per distinct value, shared by its clients."""

    quotes: frozenset[int] = frozenset()
    bars: frozenset[int] = frozenset()
    all: frozenset[int] = frozenset()


NOTHING = Subscription()


@dataclass(slots=True, eq=False)
class Client:
    """One connection: `since` is the version it has seen, `joining` the symbols whose snapshot is still to come."""

    session: ClientSession
    outlet: Outlet
    slot: int
    since: int = 0
    subscription: Subscription = NOTHING
    receipt: Receipt = field(default_factory=Receipt)
    joining: dict[int, int] = field(default_factory=dict)
    leaving: bool = False


class Fanout:
    """All clients. `on_goodbye` is called once for a client that must go; `tick_ms` is the length of a turn."""

    def __init__(
        self, source: FrameSource, tick_ms: int, on_goodbye: Callable[[Client, Goodbye], None], heartbeat_ms: int = 1000
    ) -> None:
        self._source = source
        self._tick_ms = tick_ms
        self._on_goodbye = on_goodbye
        self._turn = 0
        # Counted here and told once a turn: a metric's own counter costs as much as the rest of a write's Python.
        self._writes = self._bytes = 0
        self._seen_before = 0
        self._slots = max(1, heartbeat_ms // tick_ms)
        self._next_slot = 0
        self._by_slot: list[set[Client]] = [set() for _ in range(self._slots)]
        self._by_interval: dict[int, set[Client]] = {}
        self._interval_of: dict[Client, int] = {}
        self._shared: dict[tuple[frozenset[int], frozenset[int]], Subscription] = {}
        self._joined: dict[tuple[int, int], bytes] = {}
        self._bar_frames: dict[tuple[int, int], bytes] = {}
        self._quote_frames: dict[int, bytes] = {}
        self._heartbeats: dict[int, bytes] = {}
        self._users: Counter[Subscription] = Counter()
        self._watched: frozenset[int] | None = None

    @property
    def watched(self) -> frozenset[int]:
        """The symbols that somebody gets live messages of."""
        if self._watched is None:
            self._watched = frozenset().union(*(subscription.all for subscription in self._users))
        return self._watched

    @property
    def clients(self) -> int:
        """Connected clients."""
        return len(self._interval_of)

    @property
    def subscriptions(self) -> int:
        """Symbols subscribed, summed over all clients."""
        return sum(len(subscription.all) * users for subscription, users in self._users.items())

    def add(self, session: ClientSession, outlet: Outlet) -> Client:
        """A new client, which has seen everything up to now and holds nothing."""
        slot = self._next_slot
        self._next_slot = (slot + 1) % self._slots
        client = Client(session, outlet, slot, self._source.log.version)
        self._by_slot[slot].add(client)
        self._place(client)
        return client

    def remove(self, client: Client) -> None:
        """The connection is gone."""
        self._by_slot[client.slot].discard(client)
        interval = self._interval_of.pop(client, None)
        if interval is not None:
            self._by_interval[interval].discard(client)
            self._subscribe(client, NOTHING)

    def interval_changed(self, client: Client) -> None:
        """The client's session holds another interval."""
        if client in self._interval_of:
            self._by_interval[self._interval_of[client]].discard(client)
            self._place(client)

    def activate(self, client: Client, symbol_id: int, channels: tuple[str, ...]) -> None:
        """From now on the client gets the live messages of the symbol; it has been given everything before."""
        current = client.subscription
        quotes = current.quotes | {symbol_id} if QUOTES in channels else current.quotes - {symbol_id}
        bars = current.bars | {symbol_id} if BARS in channels else current.bars - {symbol_id}
        if client in self._interval_of:
            self._subscribe(client, self._share(quotes, bars))

    def deactivate(self, client: Client, symbol_id: int) -> None:
        """No more live messages of the symbol."""
        current = client.subscription
        if symbol_id in current.all:
            self._subscribe(client, self._share(current.quotes - {symbol_id}, current.bars - {symbol_id}))

    def begin(self, now_s: float, now_ns: int) -> None:
        """Forget the frames of the last turn: state or the stamp has moved on."""
        self._joined.clear()
        self._bar_frames.clear()
        self._quote_frames.clear()
        self._heartbeats.clear()
        self._source.begin(now_s, now_ns, self.watched, self._seen_before)

    def tick(self, now_s: float, now_ns: int) -> None:
        """One turn: everybody whose interval is over gets what is new, a share of all clients its heartbeat."""
        self.begin(now_s, now_ns)
        self._turn += 1
        for interval, clients in self._by_interval.items():
            if self._turn % interval == 0:
                for client in tuple(clients):
                    self.serve(client, now_s)
        for client in tuple(self._by_slot[self._turn % self._slots]):
            self._heartbeat(client, now_s)
        self._seen_before = self._source.log.version
        self._forget()
        metrics.WRITES.inc(self._writes)
        metrics.SENT_BYTES.inc(self._bytes)
        self._writes = self._bytes = 0

    def serve(self, client: Client, now_s: float) -> bool:
        """Give a client what is new to it, if it takes data; says whether it has seen everything now."""
        outlet = client.outlet
        version = self._source.log.version
        if not client.session.may_send(now_s, outlet.buffered_bytes):
            self._skip(client, now_s)
            return False
        if client.since != version:
            data = self._content(client.subscription, client.since)
            client.since = version
            if data:
                if client.receipt.count and (report := client.receipt.take(now_s)):
                    data = encode_text_frame(encode(Conflated(*report))) + data
                self.write(client, data)
        return True

    def write(self, client: Client, data: bytes) -> None:
        """Write frames to a client and count them."""
        client.outlet.send_frames(data)
        self._writes += 1
        self._bytes += len(data)

    def catch_up(self, symbol_id: int, channels: tuple[str, ...], since: int) -> bytes:
        """The frames of one symbol that are new since a version: what a snapshot taken then does not hold."""
        one = frozenset((symbol_id,))
        quotes, bars = one if QUOTES in channels else frozenset(), one if BARS in channels else frozenset()
        return self._frames(Subscription(quotes, bars, one), since)

    def everyone(self) -> tuple[Client, ...]:
        """All clients, in no order."""
        return tuple(self._interval_of)

    def _heartbeat(self, client: Client, now_s: float) -> None:
        overdue = client.session.overdue(now_s)
        if overdue is not None:
            self.dismiss(client, overdue)
        elif not client.session.authenticated:
            return
        elif client.session.may_send(now_s, client.outlet.buffered_bytes):
            self.write(client, self._heartbeat_frame(client.subscription))
        else:
            self._stalled(client, now_s)

    def _heartbeat_frame(self, subscription: Subscription) -> bytes:
        key = id(subscription)
        frame = self._heartbeats.get(key)
        if frame is None:
            frame = self._heartbeats[key] = self._source.heartbeat_frame(subscription.all)
        return frame

    def _skip(self, client: Client, now_s: float) -> None:
        missed = self._source.log.since(max(client.since, self._seen_before))
        count = len(missed.quotes & client.subscription.quotes)
        count += len(missed.bars.keys() & client.subscription.bars)
        client.receipt.skip(count, now_s)
        metrics.CONFLATED.inc(count)
        self._stalled(client, now_s)

    def _stalled(self, client: Client, now_s: float) -> None:
        goodbye = client.session.stalled(now_s)
        if goodbye is not None:
            self.dismiss(client, goodbye)

    def dismiss(self, client: Client, goodbye: Goodbye) -> None:
        """End a client, once."""
        if not client.leaving:
            client.leaving = True
            self.remove(client)
            self._on_goodbye(client, goodbye)

    def _content(self, subscription: Subscription, since: int) -> bytes:
        key = (id(subscription), since)
        data = self._joined.get(key)
        if data is None:
            data = self._joined[key] = self._frames(subscription, since)
        return data

    def _frames(self, subscription: Subscription, since: int) -> bytes:
        changes = self._source.log.since(since)
        if not changes:
            return b""
        parts = [self._news_frames(changes, subscription)] if changes.news else []
        parts += [self._bar_frame(i, changes.bars[i], since) for i in changes.bars.keys() & subscription.bars]
        parts += [self._quote_frame(i) for i in changes.quotes & subscription.quotes]
        metrics.FRAMES_JOINED.inc(len(parts))
        return b"".join(parts)

    def _news_frames(self, changes: Changes, subscription: Subscription) -> bytes:
        return b"".join(self._source.news_frame(i, news) for i, news in changes.news if i in subscription.all)

    def _quote_frame(self, symbol_id: int) -> bytes:
        frame = self._quote_frames.get(symbol_id)
        if frame is None:
            frame = self._quote_frames[symbol_id] = self._source.quote_frame(symbol_id)
        return frame

    def _bar_frame(self, symbol_id: int, starts: set[int], since: int) -> bytes:
        key = (symbol_id, since)
        frame = self._bar_frames.get(key)
        if frame is None:
            frame = self._bar_frames[key] = self._source.bar_frame(symbol_id, starts)
        return frame

    def _subscribe(self, client: Client, subscription: Subscription) -> None:
        """Keep count of who uses what."""
        before, client.subscription = client.subscription, subscription
        if subscription.all:
            self._users[subscription] += 1
        if before.all:
            self._users[before] -= 1
            if not self._users[before]:
                del self._users[before]
                self._shared.pop((before.quotes, before.bars), None)
        self._watched = None

    def _place(self, client: Client) -> None:
        interval = max(1, client.session.interval_ms // self._tick_ms)
        self._interval_of[client] = interval
        self._by_interval.setdefault(interval, set()).add(client)

    def _share(self, quotes: frozenset[int], bars: frozenset[int]) -> Subscription:
        key = (quotes, bars)
        found = self._shared.get(key)
        if found is None:
            found = self._shared[key] = Subscription(quotes, bars, quotes | bars)
        return found

    def _forget(self) -> None:
        """Changes that every client and every joining symbol has seen are of no use any more."""
        log = self._source.log
        if len(log) > 64:
            oldest = min((min((c.since, *c.joining.values())) for c in self._interval_of), default=log.version)
            log.forget(oldest)
