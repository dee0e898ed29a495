"""Sends what changed to every client that is due: one write per client and turn, each frame encoded once.

A turn (`tick`) costs, per symbol that changed, one encoding; per distinct pair of (subscription, version seen) one
joining of frames; per client one look-up and one write. Clients with the same subscription share the `Subscription`
object and, when in step, the same bytes. A client whose socket is full is skipped: its version stays behind, so its
next turn brings the newest state (`domain/conflation.py`); one that takes nothing for too long is told goodbye.

Trades are never conflated: a client keeps its place in the ring of the tape (`tape_frames.py`), and goes when the ring
has let go of it.

Not here: what a client may ask for (`domain/client_session.py`), snapshots (`snapshot.py`), reading from sockets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from operator import attrgetter

from marketfeed.domain.client_messages import SETTLED, CloseCode, Goodbye, Wish
from marketfeed.domain.client_session import ClientSession
from marketfeed.domain.conflation import Changes
from marketfeed.mds import metrics
from marketfeed.mds.clients import NOTHING, Client, FrameSource, Outlet, Subscription
from marketfeed.mds.tape_frames import Dialect, Place
from marketfeed.wire.finnhub_server import PING_FRAME
from marketfeed.wire.websocket import CaughtUp, Conflated, encode
from marketfeed.wire.websocket_frames import encode_text_frame

_ALL, _BARS, _MINUTES = attrgetter("all"), attrgetter("bars"), attrgetter("minutes")

TAPE_LOST = Goodbye(CloseCode.TAPE_LOST, "too slow for trades: the tape is never thinned; resume from your position")


class Fanout:
    """All clients. `on_goodbye` is called once for a client that must go; `tick_ms` is the length of a turn."""

    def __init__(
        self,
        source: FrameSource,
        tick_ms: int,
        on_goodbye: Callable[[Client, Goodbye], None],
        heartbeat_ms: int = 1000,
        ping_ms: int = 60_000,
    ) -> None:
        self._source = source
        self._tick_ms = tick_ms
        self._on_goodbye = on_goodbye
        self._turn = 0
        # Counted here and told once a turn: a metric's own counter costs as much as the rest of a write's Python.
        self._writes = self._bytes = self._frames_joined = 0
        self._seen_before = 0
        self._slots = max(1, heartbeat_ms // tick_ms)
        self._ping_beats = max(1, ping_ms // heartbeat_ms)
        self._next_slot = 0
        self._by_slot: list[set[Client]] = [set() for _ in range(self._slots)]
        self._by_interval: dict[int, set[Client]] = {}
        self._interval_of: dict[Client, int] = {}
        self._shared: dict[Subscription, tuple[Subscription, frozenset[int]]] = {}
        self._joined: dict[tuple[int, int], bytes] = {}
        self._taped: dict[tuple[int, Place, Dialect], tuple[bytes, Place] | None] = {}
        self._bar_frames: dict[tuple[int, int, bool, bool], bytes] = {}
        self._quote_frames: dict[int, bytes] = {}
        self._heartbeats: dict[tuple[int, Place | None, bool], bytes] = {}
        self._users: Counter[Subscription] = Counter()
        self._watched: dict[Callable[[Subscription], frozenset[int]], frozenset[int]] = {}

    @property
    def watched(self) -> frozenset[int]:
        """The symbols that somebody gets live messages of."""
        return self._union(_ALL)

    @property
    def bars_watched(self) -> frozenset[int]:
        """The symbols that somebody gets bars of one second of."""
        return self._union(_BARS)

    @property
    def minutes_watched(self) -> frozenset[int]:
        """The symbols that somebody gets bars of one minute of."""
        return self._union(_MINUTES)

    def _union(self, of: Callable[[Subscription], frozenset[int]]) -> frozenset[int]:
        found = self._watched.get(of)
        if found is None:
            found = self._watched[of] = frozenset().union(*map(of, self._users))
        return found

    @property
    def clients(self) -> int:
        """Connected clients."""
        return len(self._interval_of)

    @property
    def subscriptions(self) -> int:
        """Symbols subscribed, summed over all clients."""
        return sum(len(self._shared[subscription][1]) * users for subscription, users in self._users.items())

    def add(self, session: ClientSession, outlet: Outlet, dialect: Dialect = Dialect.OURS) -> Client:
        """A new client, which has seen everything up to now and holds nothing."""
        slot = self._next_slot
        self._next_slot = (slot + 1) % self._slots
        client = Client(session, outlet, slot, self._source.log.version, self._source.tape.end, dialect=dialect)
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

    def activate(self, client: Client, symbol_ids: Iterable[int], wish: Wish) -> None:
        """From now on the client gets quotes and bars of these symbols; it has been given everything before."""
        self._subscribe(client, client.subscription.joined(frozenset(symbol_ids), wish))

    def deactivate(self, client: Client, symbol_ids: Iterable[int]) -> None:
        """No more quotes and bars of these symbols."""
        self._subscribe(client, client.subscription.parted(frozenset(symbol_ids)))

    def tape_from(self, client: Client, symbol_ids: Iterable[int], place: Place | None = None) -> None:
        """From a place on the client gets all trades of these symbols, too; by default from where it is."""
        if not (ids := frozenset(symbol_ids)):
            return
        if place is not None or client.tape is None:
            client.tape = place or client.seen
            client.plain = False
        self._subscribe(client, replace(client.subscription, trades=client.subscription.trades | ids))

    def tape_end(self, client: Client, symbol_ids: Iterable[int]) -> None:
        """No more trades of these symbols."""
        trades = client.subscription.trades
        rest = trades - frozenset(symbol_ids)
        if len(rest) == len(trades):
            return
        self._subscribe(client, replace(client.subscription, trades=rest))
        if not rest:
            client.tape = None

    def position(self, client: Client) -> str | None:
        """Where the client could go on, None while that means nothing."""
        return self._source.tape.position(client.place) if client.settled else None

    def begin(self, now_s: float, now_ns: int) -> None:
        """Forget the frames of the last turn: state or the stamp has moved on."""
        self._joined.clear()
        self._taped.clear()
        self._bar_frames.clear()
        self._quote_frames.clear()
        self._heartbeats.clear()
        self._source.begin(now_s, now_ns, self.watched, self.bars_watched, self._seen_before)

    def tick(self, now_s: float, now_ns: int) -> None:
        """One turn: everybody whose interval is over gets what is new, a share of all clients its heartbeat.

        Both go out in one write.
        """
        self.begin(now_s, now_ns)
        self._turn += 1
        beating = set(self._by_slot[self._turn % self._slots])
        for interval, clients in self._by_interval.items():
            if self._turn % interval == 0:
                for client in self._serve_plain(clients - beating, now_s):
                    self.serve(client, now_s)
                for client in clients & beating:
                    self.serve(client, now_s, beats=True)
                beating -= clients
        for client in beating:
            self.serve(client, now_s, beats=True, due=False)
        self._seen_before = self._source.log.version
        self._forget()
        metrics.WRITES.inc(self._writes)
        metrics.SENT_BYTES.inc(self._bytes)
        metrics.FRAMES_JOINED.inc(self._frames_joined)
        self._writes = self._bytes = self._frames_joined = 0

    def _serve_plain(self, clients: set[Client], now_s: float) -> list[Client]:
        """Serve those who get nothing but what is conflated and have taken all they were sent; returns the others.

        It is `serve` for nearly everybody nearly always, as one loop without calls: they cost as much as the write.
        """
        version, end, joined = self._source.log.version, self._source.tape.end, self._joined
        others = []
        for client in clients:
            if not client.plain:
                others.append(client)
                continue
            if (since := client.since) == version:
                continue
            subscription = client.subscription
            data = joined.get((id(subscription), since))
            if data is None:
                data = self._content(subscription, since)
            if data:
                if not client.outlet.offer(data):
                    others.append(client)
                    continue
                client.taken_s = now_s
                self._writes += 1
                self._bytes += len(data)
            client.since, client.seen = version, end
        return others

    def serve(self, client: Client, now_s: float, *, beats: bool = False, due: bool = True) -> bool:
        """Give a client what is new to it, if it takes data; says whether it has seen everything now but trades.

        beats  its heartbeat's turn has come
        due    its interval is over; who gets trades is due with its heartbeat, too: the watermark is true of them then
        """
        session, outlet = client.session, client.outlet
        client.plain = False
        session.took_all(client.taken_s)
        due = due or client.tape is not None
        if beats and (overdue := session.overdue(now_s)) is not None:
            self.dismiss(client, overdue)
            return False
        if not session.may_send(now_s, outlet.buffered_bytes):
            self._skip(client, now_s, due=due)
            return False
        data = self._news(client, now_s) if due else b""
        if client.tape is not None:
            found = self._tape(client)
            if found is None:
                self.dismiss(client, TAPE_LOST)
                return False
            data += found
        if client.catching_up and client.settled and self._is_current(client):
            data += self._caught_up(client)
        if beats and session.authenticated:
            data += self._beat(client)
        self.write(client, data)
        client.plain = client.tape is None and not client.catching_up and client.dialect is Dialect.OURS
        return client.since == self._source.log.version

    def _news(self, client: Client, now_s: float) -> bytes:
        """What has changed since the version that the client has seen; it has seen the newest one then."""
        version = self._source.log.version
        data = b""
        if client.since != version:
            data = self._content(client.subscription, client.since)
            client.since = version
            if data and client.receipt.count and (report := client.receipt.take(now_s)):
                data = encode_text_frame(encode(Conflated(*report))) + data
        client.seen = self._source.tape.end
        return data if client.dialect is Dialect.OURS else b""

    def _tape(self, client: Client) -> bytes | None:
        """The trades after the client's place, which moves on; None if the ring has let go of it."""
        assert client.tape is not None
        key = (id(client.subscription), client.tape, client.dialect)
        if key not in self._taped:
            self._taped[key] = self._source.tape.after(client.tape, client.subscription.trades, client.dialect)
        found = self._taped[key]
        if found is None:
            return None
        data, client.tape = found
        return data

    def _is_current(self, client: Client) -> bool:
        return client.tape is None or client.tape == self._source.tape.end

    def _caught_up(self, client: Client) -> bytes:
        position = self._source.tape.position(client.place)
        told = b"".join(encode_text_frame(encode(CaughtUp(number, position))) for number in client.catching_up)
        client.catching_up.clear()
        return told

    def _beat(self, client: Client) -> bytes:
        if client.dialect is Dialect.FINNHUB:
            return PING_FRAME if self._turn // self._slots % self._ping_beats == 0 else b""
        place = client.place if client.settled else None
        key = (id(client.subscription), place, current := self._is_current(client))
        frame = self._heartbeats.get(key)
        if frame is None:
            position = None if place is None else self._source.tape.position(place)
            symbol_ids = self._all(client.subscription)
            frame = self._heartbeats[key] = self._source.heartbeat_frame(symbol_ids, position, current=current)
        return frame

    def write(self, client: Client, data: bytes) -> None:
        """Write frames to a client, if there are any, and count them."""
        if not data:
            return
        client.outlet.send_frames(data)
        self._writes += 1
        self._bytes += len(data)

    def catch_up(self, symbol_id: int, wish: Wish, since: int) -> bytes:
        """The frames of one symbol that are new since a version: what a snapshot taken then does not hold."""
        return self._frames(NOTHING.joined(frozenset((symbol_id,)), wish), since)

    def minutes_since(self, symbol_id: int, wish: Wish, since: int) -> bytes:
        """The bars of one minute of a symbol that are new since a version."""
        starts = self._source.log.since(since).minutes.get(symbol_id)
        return self._minute_frame(symbol_id, starts, since, wish.emission == SETTLED) if starts else b""

    def everyone(self) -> tuple[Client, ...]:
        """All clients, in no order."""
        return tuple(self._interval_of)

    def _skip(self, client: Client, now_s: float, *, due: bool) -> None:
        if due:
            missed = self._source.log.since(max(client.since, self._seen_before))
            count = len(missed.quotes & client.subscription.quotes)
            count += len(missed.bars.keys() & client.subscription.bars)
            client.receipt.skip(count, now_s)
            metrics.CONFLATED.inc(count)
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
        if subscription.bars or subscription.minutes:
            parts += self._all_bars(changes, subscription, since)
        if quotes := changes.quotes & subscription.quotes:
            frames = self._quote_frames
            parts += [frames.get(i) or self._quote_frame(i) for i in quotes]
        self._frames_joined += len(parts)
        return b"".join(parts)

    def _all_bars(self, changes: Changes, subscription: Subscription, since: int) -> Iterator[bytes]:
        settled = subscription.settled
        for i in changes.bars.keys() & subscription.bars:
            yield self._bar_frame(i, changes.bars[i], since, i in settled)
        for i in changes.minutes.keys() & subscription.minutes:
            yield self._minute_frame(i, changes.minutes[i], since, i in settled)

    def _news_frames(self, changes: Changes, subscription: Subscription) -> bytes:
        symbol_ids = self._all(subscription)
        return b"".join(self._source.news_frame(i, news) for i, news in changes.news if i in symbol_ids)

    def _quote_frame(self, symbol_id: int) -> bytes:
        frame = self._quote_frames.get(symbol_id)
        if frame is None:
            frame = self._quote_frames[symbol_id] = self._source.quote_frame(symbol_id)
        return frame

    def _bar_frame(self, symbol_id: int, starts: set[int], since: int, settled: bool) -> bytes:
        key = (symbol_id, since, settled, False)
        frame = self._bar_frames.get(key)
        if frame is None:
            frame = self._bar_frames[key] = self._source.bar_frame(symbol_id, starts, settled=settled)
        return frame

    def _minute_frame(self, symbol_id: int, starts: set[int], since: int, settled: bool) -> bytes:
        key = (symbol_id, since, settled, True)
        frame = self._bar_frames.get(key)
        if frame is None:
            frame = self._bar_frames[key] = self._source.minute_frame(symbol_id, starts, settled=settled)
        return frame

    def _all(self, subscription: Subscription) -> frozenset[int]:
        """All of a subscription's symbols, put together once where it is in use."""
        found = self._shared.get(subscription)
        return subscription.all if found is None else found[1]

    def _subscribe(self, client: Client, subscription: Subscription) -> None:
        """Keep count of who uses what; equal subscriptions are one object."""
        if client not in self._interval_of and subscription != NOTHING:
            return
        before = client.subscription
        if subscription == NOTHING:
            subscription = NOTHING
        else:
            subscription, _ = self._shared.setdefault(subscription, (subscription, subscription.all))
            self._users[subscription] += 1
        client.subscription = subscription
        if before != NOTHING:
            self._users[before] -= 1
            if not self._users[before]:
                del self._users[before], self._shared[before]
        self._watched.clear()

    def _place(self, client: Client) -> None:
        interval = max(1, client.session.interval_ms // self._tick_ms)
        self._interval_of[client] = interval
        self._by_interval.setdefault(interval, set()).add(client)

    def _forget(self) -> None:
        """Changes that every client and every joining symbol has seen are of no use any more."""
        log = self._source.log
        if len(log) > 64:
            oldest = min((min((c.since, *c.joining.values())) for c in self._interval_of), default=log.version)
            log.forget(oldest)
