"""A position in the log: the topic's id and, per partition, the first offset that has not been applied.

As text it is what sinks compare and what clients carry as an opaque token. Another topic id means another log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_TEXT = re.compile(r"(?P<topic>[^@]*)@(?P<offsets>(\d+=\d+(,\d+=\d+)*)?)", re.ASCII)
_TEXT_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Position:
    """`offsets`: next offset by partition."""

    topic_id: str
    offsets: Mapping[int, int]

    def text(self) -> str:
        """The same position has the same text.

        >>> Position("abc", {1: 7, 0: 5}).text()
        'abc@0=5,1=7'
        """
        return f"{self.topic_id}@{','.join(f'{p}={o}' for p, o in sorted(self.offsets.items()))}"

    @staticmethod
    def parse(text: str) -> Position:
        """The position of a text. Raises ValueError for anything that `text` does not make."""
        found = _TEXT.fullmatch(text) if len(text) <= _TEXT_MAX else None
        if found is None:
            raise ValueError("not a position")
        pairs = [pair.split("=") for pair in found["offsets"].split(",") if pair]
        offsets = {int(partition): int(offset) for partition, offset in pairs}
        if len(offsets) < len(pairs):
            raise ValueError("a position names a partition twice")
        return Position(found["topic"], offsets)

    def covers(self, other: Position) -> bool:
        """Whether everything before `other` lies before this, in the same log."""
        return self.topic_id == other.topic_id and all(
            self.offsets.get(partition, 0) >= offset for partition, offset in other.offsets.items()
        )
