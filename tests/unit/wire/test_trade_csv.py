"""The trade CSV is read as Python reads it, and what cannot be read is named with its line and reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketfeed.wire.trade_csv import Decoded, HeaderError, TradeCsv, read_stamp

HEADER = b"symbol,event_ts,price,size,conditions\n"
MS = 1_741_615_800_123


def rows(decoded: Decoded) -> list[tuple[object, ...]]:
    """(line, symbol, event_ts, price, size, conditions) of each trade."""
    trades = decoded.trades
    return [
        (
            int(decoded.line[i]),
            trades.symbols[trades.symbol_index[i]],
            int(trades.event_ts[i]),
            float(trades.price[i]),
            float(trades.size[i]),
            trades.condition_sets[trades.condition_index[i]],
        )
        for i in range(len(trades))
    ]


def one(line: str) -> tuple[object, ...] | str:
    """The trade of a line, or the reason why it is none."""
    decoded = TradeCsv(HEADER).decode(line.encode() + b"\n", 2)
    return decoded.bad[0].reason if decoded.bad else rows(decoded)[0][1:]


SYMBOLS = st.sampled_from(["AAPL", "BRK.B", "BINANCE:BTCUSDT", "OANDA:EUR_USD", "Ä", "A" * 40, 'quo"te', "x,y"])
NUMBERS = st.one_of(
    st.floats(1e-9, 1e11).map(repr),
    st.decimals(1, 10**6, places=4).map(str),
    st.integers(1, 10**12).map(str),
    st.sampled_from(["1e3", "1.", ".5", "0.000000001", "123456789.123456789", "+4.2", " 7 "]),
)
NANOS = st.integers(10**17, 7 * 10**18)


@st.composite
def stamp_texts(draw: st.DrawFn) -> tuple[str, int]:
    """A stamp as somebody might write it, and what it means."""
    ns = draw(NANOS)
    form = draw(st.sampled_from(["ns", "us", "ms", "iso", "offset", "seconds"]))
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=ns // 10**9)
    if form == "ns":
        return str(ns), ns
    if form == "us":
        return str(ns // 1000), ns // 1000 * 1000
    if form == "ms":
        return str(ns // 10**6), ns // 10**6 * 10**6
    if form == "iso":
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns % 10**9:09}Z", ns
    if form == "offset":
        local = moment.astimezone(timezone(timedelta(hours=-4)))
        return f"{local:%Y-%m-%dT%H:%M:%S}.{ns % 10**9 // 10**6:03}-04:00", ns // 10**6 * 10**6
    return f"{moment:%Y-%m-%d %H:%M:%S}Z", ns // 10**9 * 10**9


CODES = st.sampled_from(
    [("", ()), ("-", None), ("@", ("@",)), ("12|37|41", ("12", "37", "41")), ("a" * 30, ("a" * 30,))]
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(SYMBOLS, stamp_texts(), NUMBERS, NUMBERS, CODES), min_size=1, max_size=20),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_lines_are_read_as_python_reads_them(
    lines: list[tuple[str, tuple[str, int], str, str, tuple[str, object]]], end: str, last_end: bool
) -> None:
    """Usual and unusual forms mixed: every trade is what float(), int() and datetime make of its text, in order."""
    text = end.join(
        ",".join(f'"{s.replace(chr(34), chr(34) * 2)}"' if set(s) & set('",') else s for s in fields)
        for fields in ((symbol, stamp, price, size, codes) for symbol, (stamp, _), price, size, (codes, _) in lines)
    ) + (end if last_end else "")
    decoded = TradeCsv(HEADER).decode(text.encode(), 2)
    assert decoded.bad == []
    assert decoded.lines == len(lines)
    assert rows(decoded) == [
        (2 + i, symbol, ns, float(price), float(size), codes)
        for i, (symbol, (_, ns), price, size, (_, codes)) in enumerate(lines)
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"AAPL,{MS},1,1", "field_count"),
        (f"AAPL,{MS},1,1,,", "field_count"),
        ("hello", "field_count"),
        (f",{MS},1,1,", "bad_symbol"),
        (f"AA PL,{MS},1,1,", "bad_symbol"),
        (f"{'A' * 65},{MS},1,1,", "bad_symbol"),
        ("AAPL,1741615800,1,1,", "bad_stamp"),
        ("AAPL,,1,1,", "bad_stamp"),
        ("AAPL,0000000000000,1,1,", "bad_stamp"),
        ("AAPL,9999999999999999999,1,1,", "bad_stamp"),
        ("AAPL,2025-03-10T14:30:00,1,1,", "bad_stamp"),
        ("AAPL,2025-13-10T14:30:00Z,1,1,", "bad_stamp"),
        ("AAPL,2025-03-10T25:30:00Z,1,1,", "bad_stamp"),
        ("AAPL,2025-03-10T14:30:00.Z,1,1,", "bad_stamp"),
        ("AAPL,2025-03-10T14:30:00.1234567891Z,1,1,", "bad_stamp"),
        ("AAPL,2025-W01-1T14:30:00Z,1,1,", None),  # a week date is ISO 8601, too
        (f"AAPL,{MS},abc,1,", "price_not_a_number"),
        (f"AAPL,{MS},nan,1,", "price_not_a_number"),
        (f"AAPL,{MS},1_000,1,", "price_not_a_number"),
        (f"AAPL,{MS},0,1,", "price_not_positive"),
        (f"AAPL,{MS},-3.5,1,", "price_not_positive"),
        (f"AAPL,{MS},1e13,1,", "price_absurd"),
        (f"AAPL,{MS},1,inf,", "size_not_a_number"),
        (f"AAPL,{MS},1,,", "size_not_a_number"),
        (f"AAPL,{MS},1,-1,", "size_negative"),
        (f"AAPL,{MS},1,1e16,", "size_absurd"),
        (f'"AAPL,{MS},1,1,', "bad_quotes"),
    ],
)
def test_a_bad_line_is_named_and_the_rest_is_used(line: str, reason: str | None) -> None:
    """The line before and the line after are read; the bad one comes with its number, reason and text."""
    good = f"AAPL,{MS},1.5,2,\n"
    decoded = TradeCsv(HEADER).decode(f"{good}\n{line}\n{good}".encode(), 2)
    assert [row[0] for row in rows(decoded)] == ([2, 4, 5] if reason is None else [2, 5])
    assert [(bad.line, bad.reason, bad.text.decode()) for bad in decoded.bad] == (
        [] if reason is None else [(4, reason, line)]
    )
    assert set(decoded.trades.symbols) == {"AAPL"}


def test_bytes_that_are_not_utf8_are_a_bad_line() -> None:
    """A symbol of broken bytes is refused and never becomes a symbol."""
    decoded = TradeCsv(HEADER).decode(b"A\xff,1741615800123,1,1,\nB,1741615800123,1,1,\n", 2)
    assert [(b.line, b.reason) for b in decoded.bad] == [(2, "not_utf8")]
    assert decoded.trades.symbols == ("B",)


def test_a_price_update_has_size_0() -> None:
    """A size of 0 is read; what it means is the reducer's matter."""
    assert one(f"AAPL,{MS},187.43,0,") == ("AAPL", MS * 10**6, 187.43, 0.0, ())


def test_columns_may_stand_in_any_order_and_conditions_may_be_missing() -> None:
    """The header says where things are; a byte order mark and capitals do no harm."""
    decoded = TradeCsv("\ufeffPrice,Size,Symbol,Event_TS\r\n".encode()).decode(f"1.5,2,X,{MS}\n".encode(), 7)
    assert rows(decoded) == [(7, "X", MS * 10**6, 1.5, 2.0, ())]


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"AAPL,1,2,3\n",
        b"symbol,event_ts,price\n",
        HEADER[:-1] + b",exchange\n",
        b"symbol,symbol,event_ts,price,size",
    ],
)
def test_another_header_is_refused(header: bytes) -> None:
    """The message shows the line and what it must be."""
    with pytest.raises(HeaderError, match="it must name symbol, event_ts, price, size"):
        TradeCsv(header)


def test_symbols_keep_their_index_from_block_to_block() -> None:
    """Dictionaries of later blocks extend those of earlier ones."""
    decoder = TradeCsv(HEADER)
    first = decoder.decode(f"A,{MS},1,1,\nB,{MS},1,1,\n".encode(), 2)
    second = decoder.decode(f"C,{MS},1,1,x\nA,{MS},1,1,\n".encode(), 4)
    assert first.trades.symbols == ("A", "B")
    assert second.trades.symbols == ("A", "B", "C")
    assert second.trades.symbol_index.tolist() == [2, 0]
    assert len(decoder.decode(b"", 6).trades) == 0


def test_stamps_are_told_by_their_digits() -> None:
    """Milliseconds, microseconds and nanoseconds mean the same instant."""
    texts = ["1741615800123", "1741615800123000", "1741615800123000000", "2025-03-10T14:10:00.123Z"]
    assert {read_stamp(text) for text in texts} == {MS * 10**6}
    assert np.unique([one(f"A,{text},1,1,")[1] for text in texts]).tolist() == [MS * 10**6]
