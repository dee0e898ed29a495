"""The readers' rule: what counts, what is told, and that it is a pure function of the log."""

from collections.abc import Sequence
from itertools import count

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketfeed.domain.log import Body, Cancel, Correction, Gap, Logged, Status, Takeover, TradesRecord, Watermark
from marketfeed.domain.ownership import (
    LATE_NS,
    LEARN_NS,
    EpochRow,
    OwnerRow,
    PartitionReader,
    PartitionState,
    state_at,
)
from marketfeed.domain.tape import TapeEvent, TapeGap, TapeOwner, TapeStatus, TapeTrades, TapeWatermark
from marketfeed.domain.trades import NANOS, SymbolTable, TradeColumns

T0 = 1_700_000_000 * NANOS


def trades(epoch: int, first_seq: int, *named: tuple[str, int], codes: tuple[str, ...] | None = None) -> TradesRecord:
    """A record of trades (symbol, stamp); the price is the stamp, which tells trades apart."""
    symbols = tuple(dict.fromkeys(symbol for symbol, _ in named))
    stamps = np.array([stamp for _, stamp in named], np.int64)
    index = np.array([symbols.index(symbol) for symbol, _ in named], np.uint32)
    columns = TradeColumns(symbols, index, stamps, stamps * 1.0, np.ones(len(named)), (codes,), np.zeros_like(index))
    return TradesRecord(epoch, first_seq, T0 + first_seq, columns)


def log(*bodies: Body, start: int = 0, every_ns: int = 0) -> list[Logged]:
    return [Logged(0, start + i, T0 + i * every_ns, body) for i, body in enumerate(bodies)]


def stamps(events: Sequence[TapeEvent]) -> list[int]:
    return [stamp for event in events if isinstance(event, TapeTrades) for stamp in event.event_ts.tolist()]


def new_reader(state: PartitionState | None = None) -> PartitionReader:
    return PartitionReader(0, SymbolTable(), state)


def test_only_the_owners_epoch_counts() -> None:
    """Equal counts; lower and higher do not, per symbol of one record."""
    reader = new_reader()
    events = reader.read(
        log(
            Takeover(5, ("A", "B")),
            trades(5, 0, ("A", 1), ("B", 2)),
            Takeover(9, ("B",)),
            trades(5, 2, ("A", 3), ("B", 4), ("A", 5)),
            trades(9, 0, ("A", 6), ("B", 7)),
        )
    )
    assert stamps(events) == [1, 2, 3, 5, 7]
    assert (reader.counted, reader.ignored_foreign) == (5, 2)
    assert (reader.owner_of("A"), reader.owner_of("B"), reader.owner_of("C")) == (5, 9, None)


def test_a_lower_takeover_changes_nothing() -> None:
    """A zombie's repeated take-over does not win symbols back."""
    reader = new_reader()
    events = reader.read(log(Takeover(9, ("A",)), Takeover(5, ("A",)), trades(5, 0, ("A", 1)), trades(9, 0, ("A", 2))))
    assert stamps(events) == [2]
    assert [e.epoch for e in events if isinstance(e, TapeOwner)] == [9]


def test_repeats_count_once_and_overlaps_only_above() -> None:
    """Re-sent records are ignored; the part of a record that was seen is, too."""
    reader = new_reader()
    first, second = trades(5, 0, ("A", 1), ("A", 2)), trades(5, 2, ("A", 3))
    overlap = trades(5, 2, ("A", 3), ("A", 4))
    events = reader.read(log(Takeover(5, ("A",)), first, second, first, second, overlap))
    assert stamps(events) == [1, 2, 3, 4]
    assert (reader.ignored_repeat, reader.skipped_seqs) == (4, 0)


def test_sequence_numbers_are_per_epoch_and_seen_even_when_foreign() -> None:
    """A zombie's record that was ignored once is still a repeat later; missing numbers of an owner are counted."""
    reader = new_reader()
    zombie = trades(5, 0, ("A", 1))
    reader.read(log(Takeover(9, ("A",)), zombie, zombie, trades(9, 3, ("A", 2))))
    assert (reader.ignored_foreign, reader.ignored_repeat, reader.skipped_seqs) == (1, 1, 3)


def test_neighbouring_records_are_joined_with_their_places() -> None:
    """Offsets, positions and conditions of joined records are those of each trade; an event between parts them."""
    reader = new_reader()
    events = reader.read(
        log(
            Takeover(5, ("A", "B")),
            trades(5, 0, ("A", 1), ("B", 2), codes=("1",)),
            trades(5, 2, ("C", 9), ("A", 3), codes=None),
            Takeover(5, ("A", "B")),  # a repeat is no event
            trades(5, 4, ("B", 4), codes=("1",)),
            Watermark((5,), 4),
            trades(5, 5, ("A", 5)),
        )
    )
    joined, later = (e for e in events if isinstance(e, TapeTrades))
    assert joined.offset.tolist() == [1, 1, 2, 4]
    assert joined.index.tolist() == [0, 1, 1, 0]
    assert [joined.condition_sets[i] for i in joined.condition_index.tolist()] == [("1",), ("1",), None, ("1",)]
    assert (joined.first_offset, joined.last_offset, later.first_offset) == (1, 4, 6)
    assert (joined.received_ts, len(joined), len(later)) == (T0 + 4, 4, 1)


def test_watermarks_speak_for_their_epochs_symbols_and_never_fall() -> None:
    """A symbol keeps what it reached when another epoch with a lower watermark takes over."""
    reader = new_reader()
    events = reader.read(
        log(
            Takeover(5, ("A", "B")),
            Watermark((5,), 100),
            Watermark((5,), 90),
            Takeover(9, ("B",)),
            Watermark((9,), 50),
            Watermark((5, 9), 120),
        )
    )
    raised = [(e.offset, e.symbol_id.tolist(), e.event_ts) for e in events if isinstance(e, TapeWatermark)]
    assert raised == [(1, [0, 1], 100), (5, [0, 1], 120)]
    assert (reader.watermark("A"), reader.watermark("B"), reader.watermark("Z")) == (120, 120, 0)


def test_gaps_statuses_and_amendments_are_told_or_counted() -> None:
    """Gap and Status reach the tape, Correction and Cancel only a counter."""
    reader = new_reader()
    events = reader.read(
        log(
            Gap(("A",), 1, 2, "restart", 3),
            Status(("A", "B"), "halted", 4, "news"),
            Correction(5, 0, "A", 1, 1.0, 1.0),
            Cancel(5, 0, "A"),
        )
    )
    gap, status = events
    assert isinstance(gap, TapeGap)
    assert (gap.from_ts, gap.to_ts, gap.reason, gap.dropped, gap.symbol_id.tolist()) == (1, 2, "restart", 3, [0])
    assert isinstance(status, TapeStatus)
    assert (status.status, status.symbol_id.tolist()) == ("halted", [0, 1])
    assert reader.ignored_amendments == 2


def test_a_reader_that_starts_in_the_middle_learns_before_it_counts() -> None:
    """60 s of log teach owners and numbers; then one gap tells what was not counted."""
    reader = new_reader()
    early, late = T0 + 5, T0 + 70 * NANOS
    records = [
        Logged(0, 40, T0, trades(5, 7, ("A", early))),
        Logged(0, 41, T0 + 30 * NANOS, Takeover(5, ("A",))),
        Logged(0, 42, T0 + 31 * NANOS, Watermark((5,), early)),
        Logged(0, 43, T0 + 59 * NANOS, trades(5, 8, ("A", early + 9), ("A", early + 3))),
    ]
    assert reader.read(records) == []
    assert reader.learning
    repeat, fresh = trades(5, 8, ("A", early + 9), ("A", early + 3)), trades(5, 10, ("A", late))
    gap, counted = reader.read([Logged(0, 44, T0 + LEARN_NS, repeat), Logged(0, 45, T0 + LEARN_NS, fresh)])
    assert isinstance(gap, TapeGap)
    assert (gap.from_ts, gap.to_ts, gap.reason) == (early - LATE_NS, early + 9, "no_owner")
    assert stamps([counted]) == [late]
    assert reader.ignored_learning == 3


def test_a_trimmed_log_is_a_gap_from_the_last_watermark() -> None:
    """After `restart` owners are learned anew and all known symbols are in the gap."""
    reader = new_reader()
    reader.read(log(Takeover(5, ("A", "B")), Watermark((5,), T0)))
    reader.restart(900)
    after = [
        Logged(0, 900, T0 + NANOS, trades(7, 0, ("A", T0 + 9))),
        Logged(0, 901, T0 + 9 * NANOS, Takeover(7, ("A",))),
    ]
    assert reader.read(after) == []
    events = reader.read([Logged(0, 902, T0 + 100 * NANOS, trades(7, 1, ("A", T0 + 99)))])
    assert isinstance(events[0], TapeGap)
    assert (events[0].from_ts, events[0].reason, events[0].symbol_id.tolist()) == (T0 - LATE_NS, "log_trimmed", [0, 1])
    assert stamps(events) == [T0 + 99]


def test_a_log_trimmed_again_while_learning_widens_the_gap() -> None:
    """What was not counted before the second loss is in the one gap that follows."""
    reader = new_reader()
    reader.read([Logged(0, 40, T0, trades(5, 7, ("A", T0 - 5), ("B", T0 + 5)))])
    reader.restart(90)
    reader.read([Logged(0, 90, T0, trades(5, 20, ("C", T0 + 1)))])
    [gap] = reader.read([Logged(0, 91, T0 + LEARN_NS, Takeover(5, ("A",)))])[:1]
    assert isinstance(gap, TapeGap)
    assert (gap.from_ts, gap.to_ts, gap.symbol_id.tolist()) == (T0 - 5 - LATE_NS, T0 + 5, [0, 1, 2])


def test_an_empty_log_from_offset_0_teaches_nothing_and_has_no_gap() -> None:
    """The first record of an untrimmed log counts at once."""
    reader = new_reader()
    assert not reader.learning
    assert stamps(reader.read(log(Takeover(1, ("A",)), trades(1, 0, ("A", 1))))) == [1]


def test_records_read_before_are_passed_over_and_malformed_ones_stepped_over() -> None:
    """A consumer may hand out a record twice; one that cannot be read does not stop the reader."""
    reader = new_reader()
    records = log(Takeover(1, ("A",)), trades(1, 0, ("A", 1)))
    reader.read(records)
    assert reader.read(records) == []
    reader.pass_malformed(2)
    assert (reader.next_offset, reader.malformed) == (3, 1)


def test_rows_give_the_newest_state_at_or_below_an_offset() -> None:
    """Append-only rows of any order yield the state as of the newest stored position not above the start."""
    reader = new_reader()
    owners: list[OwnerRow] = []
    epochs: list[EpochRow] = []
    states = []
    bodies = [Takeover(1, ("A",)), trades(1, 0, ("A", 1)), Takeover(4, ("A",)), Watermark((4,), 9), Watermark((4,), 12)]
    for record in log(*bodies):
        reader.read([record])
        changes = reader.take_changes()
        owners += changes.owners
        epochs += [EpochRow(epoch, changes.next_offset) for epoch in changes.epochs]
        states.append(reader.state)
    assert state_at(0, owners, epochs) is None
    for state in states:
        assert state_at(state.next_offset, reversed(owners), reversed(epochs)) == state
    assert state_at(100, owners, epochs) == states[-1]


BODIES = st.one_of(
    st.builds(Takeover, st.integers(1, 4), st.lists(st.sampled_from("ABC"), min_size=1, unique=True).map(tuple)),
    st.builds(Watermark, st.lists(st.integers(1, 4), min_size=1, unique=True).map(tuple), st.integers(1, 99)),
    st.builds(
        lambda epoch, seq, names: trades(epoch, seq, *((name, 10 + i) for i, name in enumerate(names))),
        st.integers(1, 4),
        st.integers(0, 6),
        st.text("ABC", min_size=1, max_size=4),
    ),
    st.builds(lambda: Gap(("A", "C"), 1, 2, "restart")),
)


def told(events: Sequence[TapeEvent]) -> list[tuple[object, ...]]:
    """Events as plain values, trades one by one, so that joining does not show."""
    lines: list[tuple[object, ...]] = []
    for event in events:
        if isinstance(event, TapeTrades):
            columns = (event.symbol_id, event.event_ts, event.price, event.offset, event.index)
            lines += zip(*(column.tolist() for column in columns), strict=True)
        elif isinstance(event, TapeWatermark):
            lines.append(("watermark", event.offset, tuple(event.symbol_id.tolist()), event.event_ts))
        else:
            lines.append((type(event).__name__, event.offset, tuple(event.symbol_id.tolist())))
    return lines


def naive(records: Sequence[Logged]) -> list[tuple[str, int, int]]:
    """The rule in its plainest form: (symbol, offset, index) of the trades that count."""
    owner: dict[str, int] = {}
    highest: dict[int, int] = {}
    counted = []
    for record in records:
        body = record.body
        if isinstance(body, Takeover):
            for symbol in body.symbols:
                owner[symbol] = max(owner.get(symbol, -1), body.epoch)
        elif isinstance(body, TradesRecord):
            seen = highest.get(body.epoch, -1)
            for i, at in enumerate(body.trades.symbol_index.tolist()):
                symbol = body.trades.symbols[at]
                if body.first_seq + i > seen and owner.get(symbol) == body.epoch:
                    counted.append((symbol, record.offset, i))
            highest[body.epoch] = max(seen, body.last_seq)
    return counted


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(BODIES, max_size=25))
def test_the_vectorised_rule_equals_the_plain_one(bodies: list[Body]) -> None:
    """Whatever the log holds, the same trades count."""
    symbols = SymbolTable("ABC")
    records = log(*bodies)
    events = PartitionReader(0, symbols).read(records)
    found = [
        (symbols.name(symbol), offset, index)
        for event in events
        if isinstance(event, TapeTrades)
        for symbol, offset, index in zip(
            event.symbol_id.tolist(), event.offset.tolist(), event.index.tolist(), strict=True
        )
    ]
    assert found == naive(records)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(BODIES, max_size=25), st.data())
def test_cuts_and_restarts_change_nothing(bodies: list[Body], data: st.DataObject) -> None:
    """Reading in any pieces, and going on from a stored state at any of them, tells the same."""
    symbols = SymbolTable("ABC")
    records = log(*bodies)
    whole = told(PartitionReader(0, symbols).read(records))
    reader = PartitionReader(0, symbols, PartitionState())
    events: list[TapeEvent] = []
    at = 0
    for _ in count():
        if at >= len(records):
            break
        size = data.draw(st.integers(1, 6))
        events += reader.read(records[at : at + size])
        at += size
        if data.draw(st.booleans()):
            reader = PartitionReader(0, symbols, reader.state)
    assert told(events) == whole
