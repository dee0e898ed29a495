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
from marketfeed.domain.bars import FINAL, BarColumns, combine, merge, reduce_trades
from marketfeed.domain.errors import SettingError
from marketfeed.domain.rollup import bucket_ends, bucket_starts
from marketfeed.domain.rollups_due import DueBuckets
from marketfeed.domain.sessions import DAY_S, Calendar
from marketfeed.domain.trades import NANOS, Int64Array, SymbolTable
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
# The intervals made of the file alone, and what each is rolled up to; trade dates reach over UTC days.
MADE_HERE = {"1s": "1m", "1m": "1h", "1h": None}


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
        """The next block's bars, None at the end. Raises SettingError."""
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
    """Takes bars from a reader to the store.

    What a piece adds to the seconds is rolled up and staged for the minutes, and so on to the hours: as merging is
    associative, it does not matter when a bar is joined with what was written of it before.
    """

    def __init__(self, reader: BarReader, store: BarStore, calendar: Calendar, bars_max: int, log: Logger) -> None:
        self.progress = Progress(reader.bytes_total, time.monotonic())
        self.bars_written = 0
        self._reader = reader
        self._store = store
        self._calendar = calendar
        self._staging = {interval: BarStaging(bars_max) for interval in MADE_HERE}
        self._log = log
        self._store_ids: Int64Array = np.empty(0, np.int64)
        self._scales: dict[int, tuple[int, int]] = {}

    async def run(self, stopping: asyncio.Event) -> bool:
        """Import everything and commit; False if it was told to stop before, and then nothing was stored."""
        self.progress.phase = "reading"
        reported_s = time.monotonic()
        seconds = self._staging["1s"]
        writing: asyncio.Task[None] | None = None
        async with TaskKit("history") as tasks:
            while (piece := await asyncio.to_thread(self._reader.next_piece)) is not None:
                if stopping.is_set():
                    return False
                now_s = time.monotonic()
                self.progress.add(piece.rows, piece.bad_lines, piece.bytes_read, now_s)
                seconds.add(piece.bars)
                if seconds.due:
                    if writing is not None:
                        await writing
                    writing = tasks.spawn("write", self._write(everything=False))
                if now_s - reported_s >= PROGRESS_EVERY_S:
                    reported_s = now_s
                    self._log.info("importing", **self.progress.status(now_s), bars=self.bars_written)
        if not self.progress.rows:
            raise SettingError("FILE", f"holds no trade that can be used ({self.progress.bad_lines} bad lines)")
        self.progress.phase = "storing"
        await self._write(everything=True)
        await self._finish()
        self.progress.phase = "done"
        return True

    async def _write(self, *, everything: bool) -> None:
        """Store what is due of the seconds, then of the minutes, then of the hours."""
        for interval, coarser in MADE_HERE.items():
            staging = self._staging[interval]
            if not everything and not staging.due:
                return
            staged = staging.take(everything=everything)
            if not len(staged.bars):
                continue
            if coarser is not None:
                start_s = bucket_starts(staged.bars.start_s, coarser, self._calendar)
                self._staging[coarser].add(combine(replace(staged.bars, start_s=start_s)))
            await self._store_piece(interval, staged)

    async def _store_piece(self, interval: str, staged: Staged) -> None:
        """Names to the store's ids, days claimed, bars that came before joined with their rows."""
        await self._learn_ids()
        symbol_id = self._store_ids[staged.bars.symbol_id]
        order = np.lexsort((staged.bars.start_s, symbol_id))
        bars, again = replace(staged.bars, symbol_id=symbol_id).take(order), staged.again[order]
        if interval == "1s":
            await self._store.claim(bars.symbol_id, bars.start_s // DAY_S)
            self._note_scales(bars)
            self.bars_written += len(bars) - int(again.sum())
        if again.any():
            bars = merge(bars, await self._store.take_back(interval, bars.symbol_id[again], bars.start_s[again]))
        bars = replace(
            bars,
            state=np.full(len(bars), FINAL, np.int8),
            changed_offset=np.full(len(bars), NO_OFFSET, np.int64),
        )
        # A bar belongs to the session in which its first trade happened; an hour may touch two.
        first_s = bars.open_ts // NANOS
        trade_date = self._calendar.trade_dates(first_s).astype(np.int64)
        await self._store.write(interval, bars, trade_date, self._calendar.sessions(first_s))
        metrics.BARS_WRITTEN.inc(len(bars))

    async def _learn_ids(self) -> None:
        names = self._reader.symbols.names()[len(self._store_ids) :]
        if names:
            more = await self._store.symbol_ids(names)
            self._store_ids = np.concatenate([self._store_ids, np.array(more, np.int64)])

    def _note_scales(self, bars: BarColumns) -> None:
        """Remember the symbols' finest scales."""
        symbols, position = np.unique(bars.symbol_id, return_inverse=True)
        price_scale, size_scale = np.zeros(len(symbols), np.int64), np.zeros(len(symbols), np.int64)
        np.maximum.at(price_scale, position, bars.price_scale)
        np.maximum.at(size_scale, position, bars.size_scale)
        for symbol, price, size in zip(symbols.tolist(), price_scale.tolist(), size_scale.tolist(), strict=True):
            before = self._scales.get(symbol, (0, 0))
            self._scales[symbol] = (max(price, before[0]), max(size, before[1]))

    async def _finish(self) -> None:
        """Whole trade dates: also those of which an earlier import had bars and this one has none."""
        symbol_id, day = self._store.claimed
        edges = np.concatenate([day * DAY_S, (day + 1) * DAY_S - 1])
        keys = np.stack([np.tile(symbol_id, 2), bucket_starts(edges, "1d", self._calendar)], axis=1)
        keys = np.unique(keys, axis=0)
        end_s, now_s = bucket_ends(keys[:, 1], "1d", self._calendar), int(time.time())
        # What is imported is final; a trade date that still runs is not.
        due = DueBuckets("1d", keys[:, 0], keys[:, 1], end_s, end_s <= now_s, end_s + LATENESS_S <= now_s)
        symbols = np.array(list(self._scales), np.int64)
        scales = np.array(list(self._scales.values()), np.int64).reshape(-1, 2)
        await self._store.finish(due, (symbols, scales[:, 0], scales[:, 1]))
