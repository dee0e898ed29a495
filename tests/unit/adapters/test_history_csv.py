"""Trade files are read whole, whatever their packing and block size; damage is said in one sentence."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from marketfeed.adapters.history_csv import LINE_BYTES_MAX, BadLineFile, TradeFile
from marketfeed.domain.errors import SettingError
from marketfeed.wire.trade_csv import BadLine

HEADER = b"symbol,event_ts,price,size,conditions\n"
LINES = b"".join(b"SYM%d,17416158%05d,%d.5,1,@\n" % (i % 3, i, i + 1) for i in range(100))


def read(path: Path, block_bytes: int) -> tuple[list[int], list[float], list[int]]:
    """Line numbers, prices and bytes read of all blocks."""
    blocks = list(TradeFile(path, block_bytes).blocks())
    lines = [n for decoded, _ in blocks for n in decoded.line.tolist()]
    prices = [p for decoded, _ in blocks for p in decoded.trades.price.tolist()]
    return lines, prices, [bytes_read for _, bytes_read in blocks]


@pytest.mark.parametrize("block_bytes", [13, 1000, 1 << 20])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("last_end", [False, True])
def test_every_line_is_read_once(tmp_path: Path, block_bytes: int, packed: bool, last_end: bool) -> None:
    """Plain or gzip, with or without a last line end, in blocks of any size: all lines with their numbers."""
    text = HEADER + (LINES if last_end else LINES[:-1])
    path = tmp_path / "trades"
    path.write_bytes(gzip.compress(text) if packed else text)
    lines, prices, bytes_read = read(path, block_bytes)
    assert lines == list(range(2, 102))
    assert prices == [i + 1.5 for i in range(100)]
    assert bytes_read == sorted(bytes_read)
    assert bytes_read[-1] == TradeFile(path).bytes_total


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, damaged, not a trade CSV, without line ends: one sentence each."""
    with pytest.raises(SettingError, match="cannot be read: No such file"):
        TradeFile(tmp_path / "none")
    path = tmp_path / "trades.gz"
    path.write_bytes(gzip.compress(HEADER + LINES)[:-40])
    with pytest.raises(SettingError, match="is damaged near byte"):
        read(path, 1000)
    path.write_bytes(b"open,high,low,close\n1,2,3,4\n")
    with pytest.raises(SettingError, match=r"trades\.gz: the first line is 'open,high,low,close'; it must name symbol"):
        read(path, 1000)
    path.write_bytes(b"")
    with pytest.raises(SettingError, match=r"trades\.gz: is empty"):
        read(path, 1000)
    path.write_bytes(HEADER + b"x" * (LINE_BYTES_MAX + 2))
    with pytest.raises(SettingError, match="no trade CSV"):
        read(path, 1 << 20)


def test_bad_lines_are_written_up_to_a_bound_and_all_counted(tmp_path: Path) -> None:
    """The file is made with the first bad line; long and broken text is shortened and escaped."""
    path = tmp_path / "bad.csv"
    bad_lines = BadLineFile(path, lines_max=2)
    bad_lines.add([])
    assert not path.exists()
    bad_lines.add([BadLine(7, "bad_stamp", b"A\xff," + b"x" * 1000), BadLine(8, "field_count", b"1,2")])
    bad_lines.add([BadLine(9, "field_count", b"3,4")])
    bad_lines.close()
    bad_lines.add([BadLine(10, "field_count", b"")])
    assert bad_lines.counts == {"bad_stamp": 1, "field_count": 3}
    written = path.read_text().splitlines()
    assert written == ["line,reason,text", '7,bad_stamp,"A\\xff,' + "x" * 497 + '"', '8,field_count,"1,2"']
    with pytest.raises(SettingError, match="cannot be written"):
        BadLineFile(tmp_path / "no" / "folder", 2).add([BadLine(1, "field_count", b"")])
