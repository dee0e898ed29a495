"""What `history` needs from outside, as its loops see it; `app` puts the adapters in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from marketfeed.domain.bars import BarColumns
from marketfeed.domain.errors import Unavailable
from marketfeed.domain.rollups_due import DueBuckets
from marketfeed.domain.trades import Int64Array
from marketfeed.wire.trade_csv import BadLine, Decoded


class TradeSource(Protocol):
    """A file of trades; see `adapters.history_csv.TradeFile`. Blocking."""

    path: Path
    bytes_total: int

    def blocks(self) -> Iterator[tuple[Decoded, int]]:
        """Decoded lines, and how many of the file's bytes have been read by then."""


class BadLines(Protocol):
    """Where bad lines go; see `adapters.history_csv.BadLineFile`. Blocking."""

    counts: Counter[str]

    def add(self, bad: Iterable[BadLine]) -> None:
        """Keep and count them."""


class BarStore(Protocol):
    """One import's transaction; see `adapters.postgres.importer.BarImport`."""

    @property
    def claimed(self) -> tuple[Int64Array, Int64Array]:
        """(symbol_id, day since 1970) that this import owns."""

    async def symbol_ids(self, names: Sequence[str]) -> list[int]:
        """The store's ids."""

    async def claim(self, symbol_id: Int64Array, day: Int64Array) -> None:
        """Own these days."""

    async def take_back(self, interval: str, symbol_id: Int64Array, start_s: Int64Array) -> BarColumns:
        """Bars written before, to be written anew."""

    async def write(
        self, interval: str, bars: BarColumns, trade_date: Int64Array, session: npt.NDArray[np.int8]
    ) -> None:
        """Add bars."""

    async def finish(self, trade_days: DueBuckets, scales: tuple[Int64Array, Int64Array, Int64Array]) -> None:
        """Make the days and commit."""


class Producer(Protocol):
    """The log's writer; see `adapters.kafka.LogProducer`."""

    failure: Unavailable | None

    @property
    def buffered_bytes(self) -> int:
        """Bytes sent and not acknowledged."""

    def send(
        self,
        topic: str,
        partition: int,
        value: bytes,
        headers: Mapping[str, str] | None = None,
        on_ack: Callable[[int], None] | None = None,
    ) -> None:
        """Send a record."""

    def poll(self) -> int:
        """Serve acknowledgements."""

    async def flush(self, timeout_s: float) -> int:
        """Wait until all is acknowledged; how many are left."""
