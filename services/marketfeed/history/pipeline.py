"""`history import`: files to bars to PostgreSQL.

Reading, decoding and reducing a block is one call in a worker thread; while PostgreSQL takes a piece of bars, the next
blocks are read. One piece is on its way at a time, so memory is bounded by two pieces and a block.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from marketfeed.domain.bar_window import LATENESS_S
from marketfeed.domain.bars import FINAL, BarColumns, merge, reduce_trades
from marketfeed.domain.errors import SettingError
from marketfeed.domain.rollup import bucket_ends, bucket_starts
from marketfeed.domain.rollups_due import DueBuckets
from marketfeed.domain.sessions import DAY_S, Calendar
from marketfeed.domain.trades import Int64Array, SymbolTable
from marketfeed.history import metrics
from marketfeed.history.ports import BadLines, BarStore, TradeSource
from marketfeed.history.progress import Progress
from marketfeed.history.staging import BarStaging, Staged
from marketfeed.runtime.logs import Logger
from marketfeed.runtime.tasks import TaskKit
from marketfeed.wire.trade_csv import Decoded

PROGRESS_EVERY_S = 2.0
# Imported bars are part of no log: no position may ever find them changed.
NO_OFFSET = -1


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """What a block gave: its partial bars (symbol_id of the reader's table) and counts."""

    bars: BarColumns
    rows: int
    bad_lines: int
    bytes_read: int


class BarReader:
    """Reads files to partial bars; `next_piece` runs in a worker thread, one call at a time.

    A trade's place is its line, counted over all files, so that trades of the same stamp keep the order of the files.
    """

    def __init__(self, files: Sequence[TradeSource], bad_lines: BadLines) -> None:
        self.symbols = SymbolTable()
        self.bytes_total = sum(file.bytes_total for file in files)
        self._blocks = blocks_of(files)
        self._bad_lines = bad_lines

    def next_piece(self) -> Piece | None:
        """The next block's bars, None at the end. Raises SettingError or HeaderError."""
        found = next(self._blocks, None)
        if found is None:
            return None
        lines_before, decoded, bytes_read = found
        self._bad_lines.add(decoded.bad)
        for bad in decoded.bad:
            metrics.BAD_LINES.labels(bad.reason).inc()
        trades = decoded.trades
        metrics.ROWS.inc(len(trades))
        symbol_id = self.symbols.ids(trades.symbols)[trades.symbol_index]
        place = decoded.line + lines_before
        bars = reduce_trades(symbol_id, trades.event_ts, trades.price, trades.size, place, np.zeros_like(place))
        return Piece(bars, len(trades), len(decoded.bad), bytes_read)


def blocks_of(files: Sequence[TradeSource]) -> Iterator[tuple[int, Decoded, int]]:
    """(lines of the files before, decoded block, bytes read of all files) for every block of every file."""
    bytes_before = lines_before = 0
    for file in files:
        lines = 0
        for decoded, bytes_read in file.blocks():
            lines += decoded.lines
            yield lines_before, decoded, bytes_before + bytes_read
        bytes_before += file.bytes_total
        lines_before += lines


class Importer:
    """Takes bars from a reader to the store."""

    def __init__(self, reader: BarReader, store: BarStore, calendar: Calendar, bars_max: int, log: Logger) -> None:
        self.progress = Progress(reader.bytes_total, time.monotonic())
        self.bars_written = 0
        self._reader = reader
        self._store = store
        self._calendar = calendar
        self._staging = BarStaging(bars_max)
        self._log = log
        self._store_ids: Int64Array = np.empty(0, np.int64)
        self._scales: dict[int, tuple[int, int]] = {}
        self._minutes: list[Int64Array] = []

    async def run(self, stopping: asyncio.Event) -> bool:
        """Import everything and commit; False if it was told to stop before, and then nothing was stored."""
        reported_s = time.monotonic()
        writing: asyncio.Task[None] | None = None
        async with TaskKit("history") as tasks:
            while (piece := await asyncio.to_thread(self._reader.next_piece)) is not None:
                if stopping.is_set():
                    return False
                now_s = time.monotonic()
                self.progress.add(piece.rows, piece.bad_lines, piece.bytes_read, now_s)
                self._staging.add(piece.bars)
                if self._staging.due:
                    if writing is not None:
                        await writing
                    staged = self._staging.take(everything=False)
                    writing = tasks.spawn("write", self._write(staged))
                if now_s - reported_s >= PROGRESS_EVERY_S:
                    reported_s = now_s
                    self._log.info("importing", **self.progress.status(now_s), bars=self.bars_written)
        if not self.progress.rows:
            raise SettingError("FILE", f"holds no trade that can be used ({self.progress.bad_lines} bad lines)")
        await self._write(self._staging.take(everything=True))
        self._log.info("making roll-ups", bars=self.bars_written)
        await self._finish()
        return True

    async def _write(self, staged: Staged) -> None:
        """Store a piece: names to the store's ids, days claimed, bars that came before joined with their rows."""
        if not len(staged.bars):
            return
        await self._learn_ids()
        order = np.lexsort((staged.bars.start_s, self._store_ids[staged.bars.symbol_id]))
        bars = replace(staged.bars, symbol_id=self._store_ids[staged.bars.symbol_id]).take(order)
        again = staged.again[order]
        await self._store.claim(bars.symbol_id, bars.start_s // DAY_S)
        if again.any():
            stored = await self._store.take_back(bars.symbol_id[again], bars.start_s[again])
            bars = merge(bars, stored)
        self._note(bars)
        bars = replace(
            bars,
            state=np.full(len(bars), FINAL, np.int8),
            changed_offset=np.full(len(bars), NO_OFFSET, np.int64),
        )
        trade_date = self._calendar.trade_dates(bars.start_s).astype(np.int64)
        await self._store.write(bars, trade_date, self._calendar.sessions(bars.start_s))
        self.bars_written += len(bars) - int(again.sum())
        metrics.BARS_WRITTEN.inc(len(bars))

    async def _learn_ids(self) -> None:
        names = self._reader.symbols.names()[len(self._store_ids) :]
        if names:
            more = await self._store.symbol_ids(names)
            self._store_ids = np.concatenate([self._store_ids, np.array(more, np.int64)])

    def _note(self, bars: BarColumns) -> None:
        """Remember the minutes that have to be made and the symbols' finest scales."""
        minute = bucket_starts(bars.start_s, "1m", self._calendar)
        self._minutes.append(np.unique(np.stack([bars.symbol_id, minute], axis=1), axis=0))
        symbols, position = np.unique(bars.symbol_id, return_inverse=True)
        price_scale, size_scale = np.zeros(len(symbols), np.int64), np.zeros(len(symbols), np.int64)
        np.maximum.at(price_scale, position, bars.price_scale)
        np.maximum.at(size_scale, position, bars.size_scale)
        for symbol, price, size in zip(symbols.tolist(), price_scale.tolist(), size_scale.tolist(), strict=True):
            before = self._scales.get(symbol, (0, 0))
            self._scales[symbol] = (max(price, before[0]), max(size, before[1]))

    async def _finish(self) -> None:
        minutes = np.unique(np.concatenate(self._minutes), axis=0)
        hours = np.unique(_coarser(minutes, "1h", self._calendar), axis=0)
        # Whole days: also those of which an earlier import had bars and this one has none.
        symbol_id, day = self._store.claimed
        edges = np.concatenate([day * DAY_S, (day + 1) * DAY_S - 1])
        touched = np.stack([np.tile(symbol_id, 2), edges], axis=1)
        trade_days = np.unique(_coarser(touched, "1d", self._calendar), axis=0)
        now_s = int(time.time())
        due = [self._due(*pair, now_s) for pair in (("1m", minutes), ("1h", hours), ("1d", trade_days))]
        symbols = np.array(list(self._scales), np.int64)
        scales = np.array(list(self._scales.values()), np.int64).reshape(-1, 2)
        await self._store.finish(due, (symbols, scales[:, 0], scales[:, 1]))

    def _due(self, interval: str, keys: Int64Array, now_s: int) -> DueBuckets:
        """Imported periods are final; one that still runs (a trade date of today) is not."""
        end_s = bucket_ends(keys[:, 1], interval, self._calendar)
        return DueBuckets(interval, keys[:, 0], keys[:, 1], end_s, end_s <= now_s, end_s + LATENESS_S <= now_s)


def _coarser(keys: Int64Array, interval: str, calendar: Calendar) -> Int64Array:
    """(symbol_id, start_s) pairs of the coarser buckets of these."""
    return np.stack([keys[:, 0], bucket_starts(keys[:, 1], interval, calendar)], axis=1)
