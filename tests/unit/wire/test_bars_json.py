"""Bars as JSON by pieces."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from marketfeed.wire.bars_json import BarsJson
from marketfeed.wire.websocket import HistoryBars


def rows(first: int, count: int) -> HistoryBars:
    columns: dict[str, Any] = {name: [first + n for n in range(count)] for name in HistoryBars.__struct_fields__}
    return HistoryBars(**columns | {"vwap": [None if n % 2 else 0.1 * n for n in range(first, first + count)]})


@pytest.mark.parametrize("pieces", [[], [0], [7], [3, 4], [1, 0, 6]])
def test_pieces_are_the_whole(pieces: list[int]) -> None:
    """However the rows are cut, the text is that of one struct."""
    made, first = BarsJson(HistoryBars), 0
    for count in pieces:
        made.add(rows(first, count))
        first += count
    assert msgspec.json.encode(made.raw()) == msgspec.json.encode(rows(0, first))
