"""A stretch of the tape cut by symbol: all trades, each once, in the log's order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from marketfeed.domain.tape import TapeTrades, TapeWatermark
from marketfeed.domain.tape_cut import TapeCut

CODES = (None, (), ("12", "37"))


def trades(partition: int, first_offset: int, rows: list[tuple[int, int]], sets: bool) -> TapeTrades:
    """One record a trade; rows are (symbol number, place in CODES). Symbols of a partition are its own."""
    count = len(rows)
    return TapeTrades(
        partition=partition,
        first_offset=first_offset,
        last_offset=first_offset + count - 1,
        symbol_id=np.array([2 * number + partition for number, _ in rows], np.int64),
        event_ts=np.arange(count, dtype=np.int64) * 7 % 5,
        price=np.arange(count) + 0.5,
        size=np.ones(count),
        offset=np.arange(first_offset, first_offset + count, dtype=np.int64),
        index=np.zeros(count, np.int64),
        condition_sets=CODES if sets else (None,),
        condition_index=np.array([code if sets else 0 for _, code in rows], np.uint32),
        received_ts=first_offset + 1,
        append_ts=first_offset + 2,
    )


Stretch = list[tuple[int, list[tuple[int, int]], bool]]
stretches: st.SearchStrategy[Stretch] = st.lists(
    st.tuples(st.integers(0, 1), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=8), st.booleans()),
    max_size=6,
)


@given(stretches)
def test_every_trade_is_in_its_symbol_s_part_once_and_in_order(
    stretch: list[tuple[int, list[tuple[int, int]], bool]],
) -> None:
    """Columns, codes and stamps are those of a plain loop over the events."""
    offsets, events = [0, 0], []
    for partition, rows, sets in stretch:
        events.append(trades(partition, offsets[partition], rows, sets))
        offsets[partition] += len(rows)
    expected: dict[int, list[tuple[object, ...]]] = {}
    stamps: dict[int, tuple[int, int, int]] = {}
    for event in events:
        for row, symbol_id in enumerate(event.symbol_id.tolist()):
            codes = event.condition_sets[int(event.condition_index[row])]
            expected.setdefault(symbol_id, []).append(
                (int(event.event_ts[row]), float(event.price[row]), int(event.offset[row]), codes)
            )
            stamps[symbol_id] = (event.partition, event.received_ts, event.append_ts)
    cut = TapeCut([*events, TapeWatermark(0, 9, np.zeros(1, np.int64), 3)])
    assert len(cut) == sum(len(rows) for rows in expected.values())
    assert cut.symbol_ids == expected.keys()
    for symbol_id, rows in expected.items():
        part = cut.of(symbol_id)
        codes = part.conditions or [None] * len(part)
        got = list(zip(part.event_ts, part.price, part.offset, codes, strict=True))
        assert got == rows
        assert (part.conditions is None) == all(row[3] is None for row in rows)
        assert (part.partition, part.received_ts, part.append_ts) == stamps[symbol_id]
