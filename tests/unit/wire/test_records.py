"""Log records survive the wire; whatever else is in the log is a MalformedRecord and never a crash."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from marketfeed.domain.errors import MalformedRecord
from marketfeed.domain.log import (
    Alive,
    Body,
    Cancel,
    Claim,
    Correction,
    Gap,
    Preparing,
    Status,
    Takeover,
    TradesRecord,
    Watermark,
)
from marketfeed.domain.trades import TradeColumns
from marketfeed.wire.records import _DECODERS, TRADE_BYTES, decode_body, encode_body
from marketfeed.wire.v1 import log_pb2 as pb

SYMBOLS = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=6, unique=True).map(tuple)
STAMPS = st.integers(1, 2**62)
SEQS = st.integers(0, 2**62)
CONDITIONS = st.one_of(st.none(), st.lists(st.sampled_from(["1", "12", "@", "I"]), max_size=3).map(tuple))


@st.composite
def trades_records(draw: st.DrawFn) -> TradesRecord:
    symbols = draw(SYMBOLS)
    sets = tuple(draw(st.lists(CONDITIONS, min_size=1, max_size=4, unique=True)))
    count = draw(st.integers(1, 20))

    def column(values: st.SearchStrategy[Any], dtype: type[np.generic]) -> np.ndarray[Any, Any]:
        return np.array(draw(st.lists(values, min_size=count, max_size=count)), dtype)

    trades = TradeColumns(
        symbols,
        column(st.integers(0, len(symbols) - 1), np.uint32),
        column(STAMPS, np.int64),
        column(st.floats(allow_nan=False, allow_infinity=False), np.float64),
        column(st.floats(0, allow_nan=False, allow_infinity=False), np.float64),
        sets,
        column(st.integers(0, len(sets) - 1), np.uint32),
    )
    return TradesRecord(draw(SEQS), draw(SEQS), draw(STAMPS), trades)


CONTROLS: st.SearchStrategy[Body] = st.one_of(
    st.builds(Takeover, SEQS, SYMBOLS),
    st.builds(Watermark, st.lists(SEQS, max_size=5).map(tuple), STAMPS),
    st.builds(Gap, SYMBOLS, STAMPS, STAMPS, st.sampled_from(["restart", "dropped"]), SEQS),
    st.builds(Status, SYMBOLS, st.sampled_from(["trading", "halted"]), STAMPS, st.text(max_size=5)),
    st.builds(Correction, SEQS, SEQS, st.text(max_size=5), STAMPS, st.floats(-10, 10), st.floats(0, 10)),
    st.builds(Cancel, SEQS, SEQS, st.text(max_size=5)),
    st.builds(Claim, st.text(max_size=5), st.text(max_size=5), SYMBOLS, STAMPS),
    st.builds(Preparing, SEQS, st.text(max_size=5), st.text(max_size=5)),
    st.builds(
        Alive, st.lists(SEQS, max_size=5).map(tuple), st.text(max_size=5), st.text(max_size=5), STAMPS, st.integers(0)
    ).filter(lambda alive: alive.lateness_ns < 2**63),
)


def test_a_claim_of_an_older_version_names_no_stamp() -> None:
    """A field that is absent reads as 0: not known."""
    older = pb.Claim(shard="0", instance="a", symbols=["X"]).SerializeToString()
    assert decode_body("claim", older) == Claim("0", "a", ("X",), 0)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CONTROLS)
def test_control_records_survive_the_wire(body: Body) -> None:
    """Every value but trades equals itself after encoding and decoding."""
    kind, value = encode_body(body)
    assert decode_body(kind, value) == body


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trades_records())
def test_trades_survive_the_wire_bit_for_bit(record: TradesRecord) -> None:
    """Columns, dictionaries and identity are unchanged."""
    kind, value = encode_body(record)
    assert kind == "trades"
    found = decode_body(kind, value)
    assert isinstance(found, TradesRecord)
    assert (found.epoch, found.first_seq, found.received_ts) == (record.epoch, record.first_seq, record.received_ts)
    assert found.trades.symbols == record.trades.symbols
    assert found.trades.condition_sets == record.trades.condition_sets
    for name in ("symbol_index", "event_ts", "price", "size", "condition_index"):
        assert getattr(found.trades, name).tobytes() == getattr(record.trades, name).tobytes()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trades_records())
def test_the_packed_twin_is_the_ordinary_message(record: TradesRecord) -> None:
    """Any language may read and write trades as `TradeBatch`; the bytes are the same message."""
    _, value = encode_body(record)
    plain = pb.TradeBatch.FromString(value)
    assert list(plain.symbol_index) == record.trades.symbol_index.tolist()
    assert list(plain.event_ts) == record.trades.event_ts.tolist()
    assert list(plain.price) == record.trades.price.tolist()
    found = decode_body("trades", plain.SerializeToString())
    assert isinstance(found, TradesRecord)
    assert found.trades.size.tobytes() == record.trades.size.tobytes()
    assert len(value) >= TRADE_BYTES * len(record.trades)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([*_DECODERS, "", "nonsense"]), st.binary(max_size=80))
def test_garbage_is_malformed_and_nothing_worse(kind: str, value: bytes) -> None:
    """Arbitrary bytes decode or raise MalformedRecord."""
    try:
        decode_body(kind, value, 3, 7)
    except MalformedRecord as error:
        assert (error.partition, error.offset) == (3, 7)  # noqa: PT017 (either outcome is right)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trades_records(), st.data())
def test_a_damaged_trades_record_is_never_half_read(record: TradesRecord, data: st.DataObject) -> None:
    """Flipped or missing bytes give either a consistent record or MalformedRecord."""
    _, value = encode_body(record)
    at = data.draw(st.integers(0, len(value) - 1))
    damaged = data.draw(st.sampled_from([value[:at], value[:at] + bytes([value[at] ^ 0x40]) + value[at + 1 :]]))
    assume(damaged != value)
    try:
        found = decode_body("trades", damaged)
    except MalformedRecord:
        return
    assert isinstance(found, TradesRecord)
    trades = found.trades
    assert len(trades) == len(trades.symbol_index) == len(trades.price) == len(trades.size)
    assert [trades.symbols[i] for i in trades.symbol_index.tolist()]
    assert [trades.condition_sets[i] for i in trades.condition_index.tolist()]
    assert np.isfinite(trades.price).all()


def _packed(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "symbols": ["A"],
        "symbol_index": np.zeros(2, "<u4").tobytes(),
        "event_ts": np.ones(2, "<i8").tobytes(),
        "price": np.ones(2).tobytes(),
        "size": np.ones(2).tobytes(),
        "condition_index": np.zeros(2, "<u4").tobytes(),
        "condition_sets": [pb.ConditionSet(absent=True)],
    }
    return pb.PackedTradeBatch(**{**fields, **changes}).SerializeToString()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"price": np.ones(3).tobytes()}, "bytes of price"),
        ({"event_ts": b"1234567"}, "bytes of event_ts"),
        ({"event_ts": b""}, "bytes of event_ts"),
        ({"event_ts": np.zeros(2, "<i8").tobytes()}, "event_ts is not positive"),
        ({"symbol_index": np.array([0, 1], "<u4").tobytes()}, "symbol_index beyond"),
        ({"condition_index": np.array([4_000_000_000, 0], "<u4").tobytes()}, "condition_index beyond"),
        ({"condition_sets": []}, "condition_index beyond"),
        ({"price": np.array([1, np.nan]).tobytes()}, "price is not finite"),
        ({"price": np.array([-np.inf, 1]).tobytes()}, "price is not finite"),
        ({"size": np.array([1, np.inf]).tobytes()}, "size is negative or not finite"),
        ({"size": np.array([1, -1.0]).tobytes()}, "size is negative or not finite"),
        ({"epoch": 2**63}, "does not fit"),
        ({"first_seq": 2**63 - 1}, "does not fit"),
    ],
)
def test_senseless_trades_are_malformed_with_a_reason(changes: dict[str, Any], reason: str) -> None:
    """Each rule of the decoder names itself."""
    with pytest.raises(MalformedRecord, match=reason):
        decode_body("trades", _packed(**changes), 0, 1)


def test_a_record_without_trades_is_never_written() -> None:
    """Encoding refuses what decoding would refuse."""
    empty = np.empty(0)
    none = TradeColumns((), empty.astype(np.uint32), empty.astype(np.int64), empty, empty, (), empty.astype(np.uint32))
    with pytest.raises(ValueError, match="at least one trade"):
        encode_body(TradesRecord(1, 0, 1, none))
