"""Cutting: every trade in one record of its partition and epoch, in order, numbered without a hole."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain.log import TradesRecord
from marketfeed.domain.partitions import partition_of
from marketfeed.domain.trades import SymbolTable, TradeColumns
from marketfeed.ingest.cutter import Cutter
from marketfeed.wire.records import encode_body

NAMES = tuple(f"S{i}" for i in range(30))
SETS = (None, ("1",), ("1", "8"))


def batch(rows: list[int], first: int = 0) -> TradeColumns:
    count = len(rows)
    index = np.array(rows, np.uint32)
    stamps = np.arange(first, first + count)
    return TradeColumns(NAMES, index, stamps, stamps * 1.5, stamps * 2.0, SETS, (stamps % 3).astype(np.uint32))


def rows_of(trades: TradeColumns) -> list[tuple[object, ...]]:
    return [
        (trades.symbols[s], t, p, v, trades.condition_sets[c])
        for s, t, p, v, c in zip(
            trades.symbol_index.tolist(),
            trades.event_ts.tolist(),
            trades.price.tolist(),
            trades.size.tolist(),
            trades.condition_index.tolist(),
            strict=True,
        )
    ]


@given(
    st.lists(st.lists(st.integers(0, 29), min_size=1, max_size=60), min_size=1, max_size=5),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from([3, 9]), max_size=30),
    st.integers(1, 9),
)
@settings(max_examples=30, deadline=None)
def test_nothing_is_lost_reordered_or_misplaced(flushes: list[list[int]], epochs: dict[str, int], most: int) -> None:
    """Whatever arrives, by whomever it is published."""
    cutter = Cutter(SymbolTable(NAMES), 4, record_trades_max=most)
    for symbol, epoch in epochs.items():
        cutter.publish([symbol], epoch)
    assert cutter.owned == epochs
    next_seq: dict[tuple[int, int], int] = {}
    got: dict[str, list[tuple[object, ...]]] = {name: [] for name in NAMES}
    sent: dict[str, list[tuple[object, ...]]] = {name: [] for name in NAMES}
    for number, flush in enumerate(flushes):
        trades = batch(flush, number * 100)
        for row in rows_of(trades):
            sent[str(row[0])].append(row)
        records, parked = cutter.cut(trades, 5)
        for partition, record in records:
            assert isinstance(record, TradesRecord)
            assert len(record.trades) <= most
            assert record.first_seq == next_seq.get((partition, record.epoch), 0)
            next_seq[partition, record.epoch] = record.last_seq + 1
            for row in rows_of(record.trades):
                assert partition_of(str(row[0]), 4) == partition
                assert epochs[str(row[0])] == record.epoch
                got[str(row[0])].append(row)
            assert set(record.trades.symbols) == {row[0] for row in rows_of(record.trades)}
        for row in rows_of(parked) if parked is not None else []:
            assert row[0] not in epochs
            got[str(row[0])].append(row)
    assert got == sent


def test_a_symbol_that_is_parked_comes_back_and_its_numbers_go_on() -> None:
    """Parking and publishing again under the same epoch leaves no hole in the sequence."""
    cutter = Cutter(SymbolTable(NAMES), 1)
    cutter.publish(["S1", "S2"], 4)
    cutter.cut(batch([1, 2, 1]), 0)
    cutter.park(["S1"])
    records, parked = cutter.cut(batch([1, 2]), 0)
    assert parked is not None
    assert rows_of(parked)[0][0] == "S1"
    assert [(p, r.first_seq) for p, r in records] == [(0, 3)]
    assert cutter.epochs_by_partition() == {0: {4}}


def test_a_reconciliation_is_cut_under_the_epoch_it_is_given() -> None:
    """Also for symbols that are not published yet, in the numbers of that epoch."""
    cutter = Cutter(SymbolTable(NAMES), 4, record_trades_max=2)
    records = cutter.cut_as(batch([1, 2, 3, 1, 1, 1]), 11, 0)
    assert sum(len(record.trades) for _, record in records) == 6
    assert {record.epoch for _, record in records} == {11}
    cutter.publish(["S1"], 11)
    partition = partition_of("S1", 4)
    before = sum(len(record.trades) for where, record in records if where == partition)
    ((where, record),) = cutter.cut(batch([1]), 0)[0]
    assert (where, record.first_seq) == (partition, before)


def test_a_record_stays_below_what_a_broker_takes() -> None:
    """Conditions may be as long and as many as the decoder lets in; nothing is lost or reordered by cutting."""
    count = 6000
    sets = tuple(tuple(f"{number:08d}{code:08d}" for code in range(16)) for number in range(count))
    index = np.arange(count, dtype=np.uint32)
    zero = np.zeros(count, np.uint32)
    trades = TradeColumns(("S0",), zero, np.arange(count), np.ones(count), np.ones(count), sets, index)
    cutter = Cutter(SymbolTable(("S0",)), 4)
    cutter.publish(["S0"], 3)
    records, parked = cutter.cut(trades, 5)
    assert parked is None
    assert max(len(encode_body(record)[1]) for _, record in records) < 900_000
    ends = np.cumsum([len(record.trades) for _, record in records]).tolist()
    assert [record.first_seq for _, record in records] == [0, *ends[:-1]]
    assert [row for _, record in records for row in rows_of(record.trades)] == rows_of(trades)
    assert len(cutter.cut_as(trades, 9, 5)) == len(records)
