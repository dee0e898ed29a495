"""Files become partial bars with places that keep their order."""

from __future__ import annotations

from pathlib import Path

from marketfeed.adapters.history_csv import BadLineFile, TradeFile
from marketfeed.domain.bars import combine, stack
from marketfeed.history.pipeline import BarReader

HEADER = "symbol,event_ts,price,size,conditions\n"
T0 = 1_741_615_800_000


def test_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    """Trades of the same stamp keep the order of lines and files; bytes, rows and bad lines are counted."""
    paths = [tmp_path / "one.csv", tmp_path / "two.csv"]
    paths[0].write_text(HEADER + f"A,{T0},1,1,\n" + f"B,{T0},5,1,\nnonsense\n" + f"A,{T0},2,1,\n")
    paths[1].write_text(HEADER + f"A,{T0},3,0,\n" * 3)
    bad_lines = BadLineFile(tmp_path / "bad.csv", 10)
    reader = BarReader([TradeFile(path, block_bytes=20) for path in paths], bad_lines)
    pieces = []
    while (piece := reader.next_piece()) is not None:
        pieces.append(piece)
    bad_lines.close()
    bars = combine(stack([piece.bars for piece in pieces]))
    assert reader.symbols.names() == ("A", "B")
    assert (sum(p.rows for p in pieces), sum(p.bad_lines for p in pieces)) == (6, 1)
    assert pieces[-1].bytes_read == reader.bytes_total == sum(path.stat().st_size for path in paths)
    assert (bars.open.tolist(), bars.close.tolist(), bars.trades.tolist()) == ([1.0, 5.0], [3.0, 5.0], [2, 1])
    assert bars.close_offset.tolist() == [8, 3]
