"""Trades as columns keep their order and their dictionaries small."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.domain.log import TradesRecord
from marketfeed.domain.trades import Conditions, SymbolTable, TradeColumns, concat, no_trades

Row = tuple[str, int, float, float, Conditions]

rows = st.lists(
    st.tuples(
        st.sampled_from(["A", "B", "C", "D"]),
        st.integers(0, 10**18),
        st.floats(0.01, 1e6),
        st.floats(0, 1e6),
        st.sampled_from([None, (), ("1",), ("1", "12")]),
    ),
    max_size=20,
)


def columns(batch: list[Row]) -> TradeColumns:
    symbols = tuple(dict.fromkeys(row[0] for row in batch))
    sets = tuple(dict.fromkeys(row[4] for row in batch))
    return TradeColumns(
        symbols,
        np.array([symbols.index(row[0]) for row in batch], np.uint32),
        np.array([row[1] for row in batch], np.int64),
        np.array([row[2] for row in batch], np.float64),
        np.array([row[3] for row in batch], np.float64),
        sets,
        np.array([sets.index(row[4]) for row in batch], np.uint32),
    )


def as_rows(trades: TradeColumns) -> list[Row]:
    return [
        (trades.symbols[s], int(t), float(p), float(v), trades.condition_sets[c])
        for s, t, p, v, c in zip(
            trades.symbol_index, trades.event_ts, trades.price, trades.size, trades.condition_index, strict=True
        )
    ]


@given(st.lists(rows, max_size=4))
@settings(max_examples=25)
def test_concat_is_concatenation(batches: list[list[Row]]) -> None:
    """Joining batches keeps every row in order and each dictionary entry once."""
    joined = concat([columns(batch) for batch in batches])
    assert as_rows(joined) == [row for batch in batches for row in batch]
    assert len(set(joined.symbols)) == len(joined.symbols)


@given(rows, st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_take_keeps_the_chosen_rows_and_no_unused_entry(batch: list[Row], random: object) -> None:
    """A mask gives its rows, and a dictionary holds nothing that they do not use."""
    mask = np.array([i % 3 != 0 for i in range(len(batch))], np.bool_)
    taken = columns(batch).take(mask)
    assert as_rows(taken) == [row for row, keep in zip(batch, mask, strict=True) if keep]
    assert set(taken.symbols) == {row[0] for row in as_rows(taken)}


def test_symbol_ids_are_dense_and_stable() -> None:
    """A symbol keeps the id of its first sight."""
    table = SymbolTable(["B"])
    assert table.ids(["A", "B", "A"]).tolist() == [1, 0, 1]
    assert table.names() == ("B", "A")
    assert (table.find("A"), table.find("Z"), table.name(0)) == (1, None, "B")


def test_a_record_knows_its_last_sequence_number() -> None:
    """Sequence numbers are consecutive within a record."""
    record = TradesRecord(7, 100, 0, columns([("A", 1, 1.0, 1.0, None)] * 3))
    assert record.last_seq == 102
    assert len(no_trades()) == 0
