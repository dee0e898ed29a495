"""What waits for the desk, commands and tape in the order in which they came, bounded on both sides.

Too many commands are refused. Tape that does not fit waits in the stream, where mds' own bound holds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from marketfeed.domain.errors import CallRefused, CallStatus
from marketfeed.domain.order_commands import Answer, Command
from marketfeed.orders.ports import TapeEvent, TapePrints

# Trades and events of the tape that wait at a time.
TRADES_MAX = 200_000
EVENTS_MAX = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A command and where its answer goes."""

    command: Command
    answer: asyncio.Future[Answer] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def refuse(self, error: Exception) -> None:
        """Answer with an error, unless nobody waits any more."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def give(self, answer: Answer) -> None:
        """Answer, unless nobody waits any more."""
        if not self.answer.done():
            self.answer.set_result(answer)


class Inbox:
    """A queue for one taker. `commands_max` bounds the commands that wait."""

    def __init__(self, commands_max: int) -> None:
        self._commands_max = commands_max
        self._items: deque[Asked | TapeEvent] = deque()
        self._commands = self._trades = self._events = 0
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()

    def ask(self, command: Command) -> Asked:
        """Put a command in. Raises CallRefused when there are too many."""
        if self._commands >= self._commands_max:
            message = "too many commands wait; try again with the same client order id"
            raise CallRefused(CallStatus.RESOURCE_EXHAUSTED, "BUSY", message)
        self._commands += 1
        asked = Asked(command)
        self._items.append(asked)
        self._filled.set()
        return asked

    async def put(self, event: TapeEvent) -> None:
        """Put tape in, once there is room."""
        while self._events >= EVENTS_MAX or self._trades >= TRADES_MAX:
            self._emptied.clear()
            await self._emptied.wait()
        self._events += 1
        self._trades += len(event.prints) if isinstance(event, TapePrints) else 0
        self._items.append(event)
        self._filled.set()

    async def take(self, timeout_s: float) -> list[Asked | TapeEvent]:
        """All that waits, after waiting for something for at most `timeout_s`."""
        if not self._items:
            self._filled.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._filled.wait()
            except TimeoutError:
                return []
        taken = list(self._items)
        self._items.clear()
        self._commands = self._trades = self._events = 0
        self._emptied.set()
        return taken

    def refuse_all(self, error: Exception) -> None:
        """Empty it: commands are refused, tape is let go."""
        for item in self._items:
            if isinstance(item, Asked):
                item.refuse(error)
        self._items.clear()
        self._commands = self._trades = self._events = 0
        self._emptied.set()
