"""What the log holds, rebuilt."""

import numpy as np

from marketfeed.domain.log import Gap, Logged, Takeover, TradesRecord
from marketfeed.domain.trades import NANOS, SymbolTable, TradeColumns
from marketfeed.verify.tape import Rebuilt

START_S = 1_767_366_000


def trades_record(offset: int, epoch: int, first_seq: int, sizes: list[float]) -> Logged:
    count = len(sizes)
    trades = TradeColumns(
        ("A",), np.zeros(count, np.uint32), np.full(count, START_S * NANOS, np.int64), np.full(count, 10.5),
        np.array(sizes), (("1",),), np.zeros(count, np.uint32),
    )  # fmt: skip
    return Logged(0, offset, START_S * NANOS, TradesRecord(epoch, first_seq, 0, trades))


def test_the_readers_rule_decides_and_updates_are_counted() -> None:
    """Repeats and foreign epochs count nothing; rows are trades and price updates."""
    symbols = SymbolTable(["A"])
    rebuilt = Rebuilt(symbols, {0: 6, 1: 0})
    records = [
        Logged(0, 0, 0, Takeover(7, ("A",))),
        trades_record(1, 7, 0, [1.0, 0.0]),
        trades_record(2, 7, 0, [1.0, 0.0]),
        trades_record(3, 6, 0, [5.0]),
        Logged(0, 4, 0, Gap(("A",), START_S * NANOS, (START_S + 1) * NANOS, "restart")),
        trades_record(5, 7, 2, [2.0]),
        trades_record(6, 7, 3, [99.0]),
    ]
    rebuilt.read(records[:3])
    assert not rebuilt.complete
    rebuilt.read(records[3:])
    assert rebuilt.complete
    bars = rebuilt.bars()
    assert (bars.trades.tolist(), bars.volume.tolist(), rebuilt.rows(bars).tolist()) == ([2], [3], [3])
    assert bars.incomplete.tolist() == [True]
    assert len(rebuilt.gaps) == 1
    assert rebuilt.counts() == {
        "counted": 3, "ignored_foreign": 1, "ignored_repeat": 2, "ignored_learning": 0, "malformed": 0,
    }  # fmt: skip


def test_an_unreadable_record_is_passed_over() -> None:
    """It must not keep the end from being reached."""
    rebuilt = Rebuilt(SymbolTable(), {0: 1})
    rebuilt.pass_malformed(0, 0)
    assert rebuilt.complete
    assert rebuilt.counts()["malformed"] == 1
    assert len(rebuilt.rows(rebuilt.bars())) == 0
