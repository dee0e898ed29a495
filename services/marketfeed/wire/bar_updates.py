"""Bars as records of <feed>.bars: `BarColumns` -> one `BarUpdate` each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from marketfeed.domain.bars import RULES, BarColumns
from marketfeed.domain.decimals import to_decimal
from marketfeed.domain.sessions import SESSIONS, Calendar
from marketfeed.wire.v1 import bars_pb2 as pb

# Fields that have the name of their column.
_SAME = (
    *("start_s", "open", "high", "low", "close", "trades", "incomplete", "state"),
    *("first_offset", "last_offset", "changed_offset"),
)


def encode_updates(
    bars: BarColumns, names: Sequence[str], interval_s: int, calendar: Calendar
) -> Iterator[tuple[int, str, bytes]]:
    """(symbol_id, symbol, value) of each bar; `names` by symbol_id."""
    sessions = calendar.sessions(bars.start_s).tolist()
    dates = calendar.trade_dates(bars.start_s).astype(str).tolist()
    columns = {name: getattr(bars, name).tolist() for name in _SAME}
    for row, symbol_id in enumerate(bars.symbol_id.tolist()):
        price_scale, size_scale = int(bars.price_scale[row]), int(bars.size_scale[row])
        update = pb.BarUpdate(
            symbol=names[symbol_id],
            interval_s=interval_s,
            volume=f"{to_decimal(bars.volume[row], size_scale):f}",
            notional=f"{to_decimal(bars.notional[row], price_scale + size_scale):f}",
            revision=int(bars.late[row]),
            rules=RULES,
            session=SESSIONS[sessions[row]],
            trade_date=dates[row],
            **{name: column[row] for name, column in columns.items()},
        )
        yield symbol_id, update.symbol, update.SerializeToString()


def decode_update(value: bytes) -> pb.BarUpdate:
    """A record's message. Raises google.protobuf.message.DecodeError."""
    return pb.BarUpdate.FromString(value)
