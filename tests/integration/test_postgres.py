"""The store on a real PostgreSQL: exact numbers, one position per transaction, roll-ups, partitions, errors."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import chain

import asyncpg
import numpy as np
import pytest

from marketfeed.adapters.postgres import Advance, GapRow, Progress, QuarantineRow, TradeRows, connection, days, state
from marketfeed.adapters.postgres.bars import StoredBars
from marketfeed.adapters.postgres.rollups import Buckets
from marketfeed.adapters.postgres.start import read_start
from marketfeed.adapters.postgres.store import PostgresStore
from marketfeed.adapters.postgres.writer import StoreWriter
from marketfeed.domain.bars import COLUMNS, BarColumns, reduce_trades
from marketfeed.domain.errors import SettingError, StalePosition, Unavailable
from marketfeed.domain.ownership import EpochState, OwnerRow, state_at
from marketfeed.domain.partitions import partition_of
from marketfeed.domain.position import Position
from marketfeed.domain.quotes import PreviousDay
from marketfeed.domain.rollup import INTERVALS, bucket_ends, bucket_starts, roll_up
from marketfeed.domain.sessions import Calendar, calendar
from marketfeed.domain.tape import TapeGap
from marketfeed.domain.trades import NANOS
from marketfeed.local.stack import Addresses

pytestmark = pytest.mark.integration

T0_S = 1_790_000_040
TOPIC = "log-one"


@pytest.fixture
async def writing(stack: Addresses, feed: str) -> AsyncIterator[StoreWriter]:
    """A writer of a new feed with two partitions."""
    await PostgresStore(stack.postgres).migrate()
    opened = StoreWriter(stack.postgres, feed)
    await opened.open()
    await opened.begin_log(TOPIC, 2, T0_S * NANOS)
    yield opened
    await opened.close()


@pytest.fixture
async def reading(stack: Addresses) -> AsyncIterator[PostgresStore]:
    """A store to read from."""
    opened = PostgresStore(stack.postgres)
    await opened.migrate()
    await opened.open()
    yield opened
    await opened.close()


def random_bars(ids: list[int], seconds: int, seed: int = 1, places: int = 4) -> BarColumns:
    """Bars of random trades with prices and sizes of up to `places` decimals, sizes of all magnitudes."""
    rng = np.random.default_rng(seed)
    count = 20 * seconds
    price = np.round(rng.uniform(0.0001, 500, count), int(places))
    size = np.round(10 ** rng.uniform(-4, 9, count), 5) * (rng.random(count) > 0.1)
    ts = T0_S * NANOS + np.sort(rng.integers(0, seconds * NANOS, count))
    return reduce_trades(rng.choice(np.array(ids), count), ts, price, size, np.arange(count) + 5, np.arange(count) % 3)


def stored(of: BarColumns, by: Calendar) -> StoredBars:
    return StoredBars(of, by.trade_dates(of.start_s).astype(np.int64), by.sessions(of.start_s))


def same(one: BarColumns, other: BarColumns) -> None:
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


async def test_bars_come_back_to_the_last_bit(writing: StoreWriter, reading: PostgresStore, feed: str) -> None:
    """Floats, offsets and exact sums of any scale survive, and a second write replaces the row."""
    ids = await writing.symbol_ids(["A", "B", "C"])
    assert await writing.symbol_ids(["C", "A"]) == [ids[2], ids[0]]
    begun = await reading.read_state(feed)
    assert {(row.rolled_from_s, row.published_from_s) for row in begun.rows.values()} == {(2**40, 2**40)}
    by = calendar("24x7")
    some = random_bars(ids, 30)
    huge = replace(some, volume=some.volume * 10**15 + 7, notional=some.notional * 10**12 + 1)
    await writing.ensure_days("bar_1s", np.unique(some.start_s // 86_400).tolist())
    for number, written in enumerate((some, huge)):
        async with writing.transaction(TOPIC, [Advance(0, number, number + 1, 9)]) as transaction:
            await transaction.write_bars(stored(written, by))
            await transaction.raise_scales(written.symbol_id, written.price_scale, written.size_scale)
        back = await reading.read_all_bars(feed, 1, T0_S, T0_S + 60)
        same(back.bars, written)
        np.testing.assert_array_equal(back.trade_date, stored(written, by).trade_date)
    position, one = await reading.read_bars(feed, "B", 1, T0_S + 5, T0_S + 20)
    mine = (huge.symbol_id == ids[1]) & (huge.start_s >= T0_S + 5) & (huge.start_s < T0_S + 20)
    same(one.bars, huge.take(mine))
    assert position == Position(TOPIC, {0: 2, 1: 0})
    symbols = await reading.symbols(feed)
    assert [(row.symbol, row.symbol_id) for row in symbols] == list(zip("ABC", ids, strict=True))
    assert symbols[0].price_scale == int(some.price_scale[some.symbol_id == ids[0]].max())
    unknown = await reading.read_bars(feed, "NONE", 1, T0_S, T0_S + 60)
    assert len(unknown[1]) == 0
    window = await reading.read_window(np.array(ids[:2]), np.array([T0_S + 20, 0]), np.array([2**40, 7]))
    newest = [some.start_s[some.symbol_id == symbol_id] for symbol_id in ids[:2]]
    assert window.bars.start_s.tolist() == [*newest[0][newest[0] >= T0_S + 20], *newest[1][-7:]]
    closes = await reading.read_closes(feed, T0_S, T0_S + 60)
    np.testing.assert_array_equal(closes["close_ts"], huge.close_ts)


async def test_a_stale_writer_writes_nothing(
    writing: StoreWriter, reading: PostgresStore, stack: Addresses, feed: str
) -> None:
    """Two writers with one expectation: one commits, the other is refused with both positions and leaves no trace."""
    rival = StoreWriter(stack.postgres, feed)
    await rival.open()
    (symbol_id,) = await rival.symbol_ids(["A"])
    await rival.ensure_days("bar_1s", [T0_S // 86_400])
    entered = asyncio.Event()

    async def attempt(who: StoreWriter, price: float) -> str:
        one = reduce_trades(*(np.array([v]) for v in (symbol_id, T0_S * NANOS, price, 1.0, 3, 0)))
        try:
            async with who.transaction(TOPIC, [Advance(0, 0, 5, 1), Advance(1, 0, 7, 1)]) as transaction:
                entered.set()
                await transaction.write_bars(stored(one, calendar("24x7")))
                await asyncio.sleep(0.2)
        except StalePosition as stale:
            return f"{stale.expected} {stale.found}"
        return "done"

    async def second() -> str:
        await entered.wait()
        return await attempt(rival, 2.0)

    first, refused = await asyncio.gather(attempt(writing, 1.0), second())
    assert (first, refused) == ("done", f"{TOPIC}@0=0,1=0 {TOPIC}@0=5,1=7")
    found = await reading.read_all_bars(feed, 1, T0_S, T0_S + 1)
    assert found.bars.close.tolist() == [1.0]
    assert (await writing.symbol_ids(["A"])) == [symbol_id]
    with pytest.raises(StalePosition):
        async with rival.transaction("log-two", [Advance(0, 5, 6, 1)]):
            pass
    await rival.close()


async def test_bars_and_position_are_of_one_instant(writing: StoreWriter, reading: PostgresStore, feed: str) -> None:
    """While a writer commits, a reader never sees a bar of another position than the one it is told."""
    (symbol_id,) = await writing.symbol_ids(["A"])
    await writing.ensure_days("bar_1s", [T0_S // 86_400])

    async def write() -> None:
        for step in range(60):
            one = reduce_trades(*(np.array([v]) for v in (symbol_id, T0_S * NANOS, float(step + 1), 1.0, step, 0)))
            async with writing.transaction(TOPIC, [Advance(0, step, step + 1, 1)]) as transaction:
                await transaction.write_bars(stored(one, calendar("24x7")))

    async def read() -> int:
        seen = 0
        while seen < 60:
            position, found = await reading.read_bars(feed, "A", 1, T0_S, T0_S + 1)
            assert position is not None
            seen = position.offsets[0]
            assert found.bars.close.tolist() == ([float(seen)] if seen else [])
        return seen

    _, seen = await asyncio.gather(write(), read())
    assert seen == 60


async def test_the_readers_rule_can_be_told_at_every_position(
    writing: StoreWriter, reading: PostgresStore, feed: str
) -> None:
    """Owners and epochs are append-only: the checkpoint's state, and that of any position before it."""
    ids = dict(zip("AB", await writing.symbol_ids(["A", "B"]), strict=True))
    for step in range(1, 6):
        async with writing.transaction(TOPIC, [Advance(0, 10 * step - 10, 10 * step, 100 * step)]) as transaction:
            if step in {1, 4}:
                await transaction.add_owners(0, [OwnerRow("A", step, 10 * step - 5, 7 * step)], ids)
            await transaction.add_epochs([(0, 10 * step, EpochState(1 if step < 4 else 4, 3 * step, 1000 * step))])
            await transaction.note_progress([Progress(0, 10 * step - 10, T0_S, 5, T0_S)])
    found = await reading.read_state(feed)
    assert found.position == Position(TOPIC, {0: 50, 1: 0})
    assert found.rows[0] == state.CheckpointRow(0, 50, 40, T0_S, 5, T0_S, 500)
    assert found.partitions[0].owners == {"A": OwnerRow("A", 4, 35, 28)}
    assert found.partitions[0].epochs == {1: EpochState(1, 9, 3000), 4: EpochState(4, 15, 5000)}
    for start, owner, epochs in ((34, 1, {1: 9}), (29, 1, {1: 6}), (45, 4, {1: 9, 4: 12})):
        rows = await reading.read_owners(feed, {0: start})
        at = state_at(start, rows[0][0], rows[1][0])
        assert at is not None
        assert at.owners["A"].epoch == owner
        assert {number: row.last_seq for number, row in at.epochs.items()} == epochs
    await reading.forget_states(feed, {0: 42}, quarantine_days=1)
    rows = await reading.read_owners(feed, {0: 50})
    assert state_at(50, rows[0][0], rows[1][0]) == found.partitions[0]
    assert (await reading.read_owners(feed, {0: 12}))[0] == {}


async def test_another_log_voids_owners_and_marks_a_gap(
    writing: StoreWriter, reading: PostgresStore, feed: str
) -> None:
    """A replaced log starts at offset 0 with nobody owning anything, and the time in between is a known gap."""
    ids = await writing.symbol_ids(["A"])
    await writing.ensure_days("bar_1s", [T0_S // 86_400])
    one = random_bars(ids, 3)
    async with writing.transaction(TOPIC, [Advance(0, 0, 8, T0_S * NANOS)]) as transaction:
        await transaction.write_bars(stored(one, calendar("24x7")))
        await transaction.add_owners(0, [OwnerRow("A", 1, 2, 3)], {"A": ids[0]})
        await transaction.add_epochs([(0, 8, EpochState(1, 2, 3))])
    assert not await writing.begin_log(TOPIC, 2, T0_S * NANOS)
    assert await writing.begin_log("log-two", 2, (T0_S + 1) * NANOS)
    found = await reading.read_state(feed)
    assert found.position == Position("log-two", {0: 0, 1: 0})
    assert not found.partitions[0].owners
    assert {(row.rolled_offset, row.rolled_from_s) for row in found.rows.values()} == {(0, T0_S - 900)}
    assert {(row.published_offset, row.published_from_s) for row in found.rows.values()} == {(0, T0_S - 900)}
    (gap,) = await reading.read_gaps(feed, T0_S * NANOS, T0_S * NANOS)
    assert (gap.reason, gap.symbol_id.tolist(), gap.to_ts) == ("log_replaced", ids, (T0_S + 1) * NANOS)
    back = (await reading.read_all_bars(feed, 1, T0_S, T0_S + 3)).bars
    assert back.incomplete.tolist() == [second <= T0_S + 1 for second in back.start_s.tolist()]


@pytest.mark.parametrize("name", ["24x7", "us-equity"])
async def test_roll_ups_equal_the_domains(writing: StoreWriter, reading: PostgresStore, feed: str, name: str) -> None:
    """SQL's minutes, hours and trading days are the reducer's in every column; a gap without bars makes incomplete."""
    by = calendar(name)
    ids = await writing.symbol_ids(["A", "B"])
    seconds = random_bars(ids, 6 * 3600, places=2)
    seconds = replace(seconds, late=seconds.start_s % 41 // 40, incomplete=seconds.start_s % 977 == 0)
    await writing.ensure_days("bar_1s", np.unique(seconds.start_s // 86_400).tolist())
    reached_s = T0_S + 4 * 3600
    gap = TapeGap(0, 99, np.array([ids[0]]), (T0_S + 90) * NANOS, (T0_S + 91) * NANOS, "restart", 0)
    async with writing.transaction(TOPIC, [Advance(0, 0, 1, 1)]) as transaction:
        await transaction.write_bars(stored(seconds, by))
        await transaction.add_gaps([GapRow(0, 99, "restart", gap.from_ts, gap.to_ts, 0, (ids[0],))])
        for interval in ("1m", "1h", "1d"):
            keys = np.unique(np.stack([seconds.symbol_id, bucket_starts(seconds.start_s, interval, by)], 1), axis=0)
            end_s = bucket_ends(keys[:, 1], interval, by)
            closed, final = reached_s >= end_s + 1, reached_s >= end_s + 900
            await transaction.roll_up(INTERVALS[interval], Buckets(keys[:, 0], keys[:, 1], end_s, closed, final))
    for interval in ("1m", "1h", "1d"):
        wanted = roll_up(seconds, interval, by, dict.fromkeys(ids, reached_s * NANOS), [gap])
        found = await reading.read_all_bars(feed, INTERVALS[interval], T0_S - 3 * 86_400, T0_S + 3 * 86_400)
        for column in set(COLUMNS) - {"changed_offset"}:
            np.testing.assert_array_equal(
                getattr(found.bars, column), getattr(wanted, column), err_msg=f"{interval} {column}"
            )
        np.testing.assert_array_equal(found.trade_date, by.trade_dates(wanted.start_s).astype(np.int64))
    day = by.trade_date(T0_S * NANOS)
    before = await reading.previous_close(feed, ["A", "B", "NONE"], day + timedelta(days=2))
    assert set(before) == {"A", "B"}
    assert await reading.previous_close(feed, ["A"], day) == {}


async def test_a_start_tells_both_days_though_roll_ups_lag(
    writing: StoreWriter, reading: PostgresStore, feed: str
) -> None:
    """Seconds that no roll-up has yet, an hour ago included, count for the day so far and for yesterday's close."""
    (symbol_id,) = await writing.symbol_ids(["A"])
    partition, midnight_s, by = partition_of("A", 2), T0_S // 86_400 * 86_400, calendar("24x7")
    at_s = np.array([-7200, -3, 5, 3605])
    price = np.array([1.0, 2.0, 9.0, 4.0])
    seconds = reduce_trades(
        np.full(4, symbol_id), (midnight_s + at_s) * NANOS, price, np.ones(4), np.arange(4), np.zeros(4, np.int64)
    )
    await writing.ensure_days("bar_1s", np.unique(seconds.start_s // 86_400).tolist())
    async with writing.transaction(TOPIC, [Advance(partition, 0, 9, 1)]) as transaction:
        await transaction.write_bars(stored(seconds, by))
        await transaction.add_owners(partition, [OwnerRow("A", 1, 0, 0)], {"A": symbol_id})
        await transaction.add_epochs([(partition, 9, EpochState(1, 3, (midnight_s + 3606) * NANOS))])
        for interval in ("1m", "1h", "1d"):
            start_s = bucket_starts(seconds.start_s[:1], interval, by)
            ends = bucket_ends(start_s, interval, by), np.ones(1, np.bool_), np.ones(1, np.bool_)
            await transaction.roll_up(INTERVALS[interval], Buckets(np.array([symbol_id]), start_s, *ends))
        await transaction.note_progress([Progress(partition, 1, midnight_s - 60, 9, 2**40)])
    start = await read_start(reading, feed, 5)
    assert start.previous == {symbol_id: PreviousDay(midnight_s // 86_400 - 1, 2.0, (midnight_s - 3) * NANOS, 1, 0)}
    assert (start.days.high.tolist(), start.days.close.tolist(), start.days.trades.tolist()) == ([9.0], [4.0], [2])


async def test_states_settle_by_range(writing: StoreWriter, reading: PostgresStore, feed: str) -> None:
    """Closed, revised and final follow from the ranges given and touch nothing else."""
    ids = await writing.symbol_ids(["A", "B"])
    seconds = random_bars(ids, 20)
    seconds = replace(seconds, late=seconds.start_s % 2)
    await writing.ensure_days("bar_1s", [T0_S // 86_400])
    async with writing.transaction(TOPIC, [Advance(0, 0, 1, 1)]) as transaction:
        await transaction.write_bars(stored(seconds, calendar("24x7")))
        spans = (np.array([ids[0]]), np.array([T0_S + 2]), np.array([T0_S + 10]), np.array([T0_S + 5]))
        await transaction.settle(1, *spans)
        lagging = (spans[0], spans[1], spans[2], spans[1])
        await transaction.settle(1, *lagging)  # lowers nothing
        await transaction.mark_incomplete([(ids[1], T0_S + 3, T0_S + 6, 77)])
    back = (await reading.read_all_bars(feed, 1, T0_S, T0_S + 20)).bars
    place = back.start_s - T0_S
    wanted = np.where((place < 2) | (place >= 10), 0, np.where(place < 5, 3, np.where(back.late > 0, 2, 1)))
    np.testing.assert_array_equal(back.state, np.where(back.symbol_id == ids[0], wanted, 0))
    marked = (back.symbol_id == ids[1]) & (place >= 3) & (place < 6)
    np.testing.assert_array_equal(back.incomplete, marked)
    assert (back.changed_offset[marked] == 77).all()


async def test_raw_trades_and_quarantine_are_kept(writing: StoreWriter, stack: Addresses, feed: str) -> None:
    """Trades arrive by COPY with their conditions; a quarantine row that is known is left alone."""
    ids = await writing.symbol_ids(["A"])
    sets = await writing.condition_ids([("1", "12"), None, ()])
    assert sets == await writing.condition_ids([("1", "12"), None, ()])
    assert len({*sets, *await writing.condition_ids([("1,12",), ("null",)])}) == 5
    await writing.ensure_days("trade", [T0_S // 86_400])
    rows = [QuarantineRow(0, 5, 1, "late_after_final", "A price=1.0")] * 2
    columns = [np.full(3, v) for v in (1, 40, 0, ids[0], T0_S * NANOS)]
    trades = TradeRows(
        columns[0], columns[1], np.arange(3), columns[3], columns[4], np.ones(3), np.ones(3), np.array(sets)
    )
    async with writing.transaction(TOPIC, [Advance(0, 0, 1, 1)]) as transaction:
        await transaction.add_trades(trades)
        await transaction.add_quarantine(rows)
    raw = await asyncpg.connect(stack.postgres)
    try:
        found = await raw.fetch(
            "SELECT t.idx, t.price, c.codes FROM trade t JOIN log l USING (log_id)"
            " JOIN condition_set c USING (condition_set_id) WHERE l.feed = $1 ORDER BY idx",
            feed,
        )
        assert [(r["idx"], r["price"], r["codes"]) for r in found] == [
            (0, 1.0, ["1", "12"]),
            (1, 1.0, None),
            (2, 1.0, []),
        ]
        assert await raw.fetchval("SELECT count(*) FROM quarantine WHERE feed = $1", feed) == 1
        assert await raw.fetchval("SELECT count(*) FROM bars WHERE feed = $1", feed) == 0
    finally:
        await raw.close()


@pytest.fixture
async def fresh_database(stack: Addresses) -> AsyncIterator[str]:
    """An empty database of its own; dropped afterwards."""
    name = f"t{secrets.token_hex(4)}"
    admin = await asyncpg.connect(stack.postgres)
    await admin.execute(f"CREATE DATABASE {name}")
    yield stack.postgres.rsplit("/", 1)[0] + f"/{name}"
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


async def test_days_come_and_go(fresh_database: str) -> None:
    """Migrations run once however many begin; a day goes when it and its making are both beyond the retention."""
    database = PostgresStore(fresh_database)
    await database.open()
    assert not await database.is_migrated()
    applied = await asyncio.gather(*(PostgresStore(fresh_database).migrate() for _ in range(3)))
    assert sorted(chain.from_iterable(applied)) == [name for name, _ in connection.migrations()]
    assert await database.is_migrated()
    today = datetime.now(UTC).date()
    wanted = [today - timedelta(days=40), today - timedelta(days=35), today, today + timedelta(days=1)]
    assert await database.keep_days(wanted, 30, 30) == {"made": 8, "dropped": 0}
    raw = await asyncpg.connect(fresh_database)
    await raw.execute("UPDATE day_partition SET created_at = now() - interval '31 days' WHERE day = $1", wanted[0])
    assert await database.keep_days([], 30, 30) == {"made": 0, "dropped": 2}
    assert await days.existing_days(raw, "bar_1s") == set(wanted[1:])
    assert await raw.fetchval("SELECT to_regclass($1)", days.partition_name("bar_1s", wanted[0])) is None
    await raw.close()
    await database.close()
    assert date(1970, 1, 1) == days.EPOCH_DAY
    assert database.place.endswith(fresh_database.rsplit("/", 1)[1])


async def test_errors_say_what_to_do(stack: Addresses, feed: str) -> None:
    """A server that is away is Unavailable, a wrong database or password a wrong setting, and no secret is shown."""
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1/"):
        await PostgresStore("postgresql://u:secret@127.0.0.1:1/x").migrate()
    wrong = stack.postgres.rsplit("/", 1)[0] + "/nobody_has_this"
    with pytest.raises(SettingError, match="--postgres") as told:
        await StoreWriter(wrong, feed).open()
    assert stack.postgres.split("@")[0].rsplit(":", 1)[-1] not in str(told.value)
    opened = StoreWriter(stack.postgres, feed)
    await opened.open()
    opened.connection.terminate()
    with pytest.raises(Unavailable):
        await opened.symbol_ids(["A"])
    await opened.close()
