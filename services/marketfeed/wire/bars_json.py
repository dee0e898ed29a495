"""JSON of long columns of bars, made a piece at a time.

A hundred thousand rows take a tenth of a second to turn into JSON. Whoever also has clients to serve adds a few
thousand rows, gives way, and goes on; the text is the same as that of one struct with all rows. Pure: it is the caller
who gives way.
"""

from __future__ import annotations

import msgspec

from marketfeed.wire.websocket import Bars


class BarsJson:
    """The JSON object of `kind` (Bars or a subclass: each field a list) whose rows are added piece by piece."""

    def __init__(self, kind: type[Bars]) -> None:
        self._pieces: dict[str, list[bytes]] = {name: [] for name in kind.__struct_encode_fields__}
        self._kind = kind

    def add(self, rows: Bars) -> None:
        """Rows that follow those added before."""
        if not rows.start:
            return
        for name, field in zip(self._pieces, self._kind.__struct_fields__, strict=True):
            self._pieces[name].append(_list(getattr(rows, field)))

    def raw(self) -> msgspec.Raw:
        """All rows, for a field of a message."""
        columns = (b'"%s":[%s]' % (name.encode(), b",".join(pieces)) for name, pieces in self._pieces.items())
        return msgspec.Raw(b"{%s}" % b",".join(columns))


def _list(column: list[float]) -> bytes:
    """A list's JSON without its brackets."""
    return msgspec.json.encode(column)[1:-1]
