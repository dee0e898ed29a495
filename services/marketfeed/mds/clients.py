"""What a client is to the fan-out: its connection, what it is subscribed to, and how far it has been served."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from marketfeed.domain.client_messages import BARS, MINUTES, QUOTES, SETTLED, MessageId, Wish
from marketfeed.domain.client_session import ClientSession
from marketfeed.domain.conflation import ChangeLog, Receipt
from marketfeed.mds.tape_frames import Dialect, Place, TapeFrames


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

    def offer(self, data: bytes) -> bool:
        """`send_frames`, if the socket has taken everything before; False if it has not, and nothing is written."""

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye; never hangs."""


class FrameSource(Protocol):
    """Where the frames of this turn come from; every call of a turn has the same stamp."""

    log: ChangeLog
    tape: TapeFrames

    def begin(
        self, now_s: float, now_ns: int, watched: frozenset[int], bars_watched: frozenset[int], seen_before: int
    ) -> None:
        """A new turn at this instant; `watched` are the symbols that somebody gets live messages, or bars, of."""

    def quote_frame(self, symbol_id: int) -> bytes:
        """The newest quote, empty if there is none."""

    def bar_frame(self, symbol_id: int, starts: set[int], *, settled: bool) -> bytes:
        """The bars of these starts as they are now (only closed ones if settled), empty if none of them is held."""

    def minute_frame(self, symbol_id: int, starts: set[int], *, settled: bool) -> bytes:
        """The same of one minute."""

    def news_frame(self, symbol_id: int, news: object) -> bytes:
        """A gap or a change of status."""

    def heartbeat_frame(self, symbol_ids: frozenset[int], position: str | None, *, current: bool) -> bytes:
        """The sign of life for a client with these symbols; `current`: nothing that is known waits for it."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """Which symbols a client gets what of; `settled`: of whose bars only closed ones."""

    quotes: frozenset[int] = frozenset()
    bars: frozenset[int] = frozenset()
    minutes: frozenset[int] = frozenset()
    settled: frozenset[int] = frozenset()
    trades: frozenset[int] = frozenset()

    @property
    def all(self) -> frozenset[int]:
        """Symbols of which anything is sent."""
        return self.quotes | self.bars | self.minutes | self.trades

    def joined(self, symbol_ids: frozenset[int], wish: Wish) -> Subscription:
        """With what can be conflated of these symbols as the wish says, trades as before."""

        def of(channel: str, now: frozenset[int]) -> frozenset[int]:
            return now | symbol_ids if channel in wish.channels else now - symbol_ids

        settled = self.settled | symbol_ids if wish.emission == SETTLED else self.settled - symbol_ids
        quotes, bars, minutes = of(QUOTES, self.quotes), of(BARS, self.bars), of(MINUTES, self.minutes)
        return Subscription(quotes, bars, minutes, settled & (bars | minutes), self.trades)

    def parted(self, symbol_ids: frozenset[int]) -> Subscription:
        """Without what can be conflated of these symbols, trades as before."""
        quotes, bars, minutes = (names - symbol_ids for names in (self.quotes, self.bars, self.minutes))
        return Subscription(quotes, bars, minutes, self.settled - symbol_ids, self.trades)


NOTHING = Subscription()


@dataclass(slots=True, eq=False)
class Client:
    """One connection: how far it has been served, and what is still to come.

    since        the version it has seen; `seen` is the place in the log that belongs to it
    tape         the place up to which it has had trades, as long as it gets any
    joining      the symbols whose snapshot is still to come, and the version to catch up from
    settled      no snapshot and no resume is outstanding, so that a position means something
    catching_up  the id of a resume whose end is to be told
    plain        it gets nothing but what is conflated, in our own language, and missed nothing that it was not told of
    taken_s      when it had taken everything and was sent more, as far as the session was not told
    """

    session: ClientSession
    outlet: Outlet
    slot: int
    since: int = 0
    seen: Place = ()
    tape: Place | None = None
    dialect: Dialect = Dialect.OURS
    subscription: Subscription = NOTHING
    receipt: Receipt = field(default_factory=Receipt)
    joining: dict[int, int] = field(default_factory=dict)
    settled: bool = True
    catching_up: list[MessageId] = field(default_factory=list)
    leaving: bool = False
    plain: bool = False
    taken_s: float = 0.0

    def owe_end_of_resume(self, number: MessageId) -> None:
        """It is to be told when it has everything that this resume owes it."""
        self.catching_up.append(number)
        self.plain = False

    @property
    def place(self) -> Place:
        """Everything of the log before it has been sent."""
        return self.seen if self.tape is None else self.tape
