"""What the readers' rule knew when the log was applied up to a position: checkpoint, owners, epochs.

`owner` and `epoch_state` are append-only, so the state at any stored position can be told as long as the log is kept:
the newest rows at or below it. Newest rows are found by walking the primary key group by group, not by scanning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marketfeed.domain.ownership import EpochRow, EpochState, OwnerRow, PartitionState
from marketfeed.domain.position import Position


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """One partition's progress; see the table's comment."""

    partition: int
    next_offset: int
    rolled_offset: int
    rolled_from_s: int
    published_offset: int
    published_from_s: int
    append_ts: int


@dataclass(frozen=True, slots=True)
class StoredState:
    """Everything a reader needs to go on at the checkpoint. Empty `rows`: the feed was never recorded."""

    topic_id: str
    rows: Mapping[int, CheckpointRow]
    partitions: Mapping[int, PartitionState]

    @property
    def position(self) -> Position:
        """The checkpoint."""
        return Position(self.topic_id, {p: row.next_offset for p, row in self.rows.items()})


# Epochs of a partition are few, their rows many: step from one (partition, epoch) to the next through the index.
_EPOCHS = """
WITH RECURSIVE step AS (
    (SELECT partition, epoch FROM epoch_state WHERE feed = $1 ORDER BY partition, epoch LIMIT 1)
    UNION ALL
    SELECT n.partition, n.epoch FROM step CROSS JOIN LATERAL (
        SELECT e.partition, e.epoch FROM epoch_state e
        WHERE e.feed = $1 AND (e.partition, e.epoch) > (step.partition, step.epoch)
        ORDER BY e.partition, e.epoch LIMIT 1
    ) n
)
SELECT s.partition, s.epoch, l.as_of_offset, l.last_seq, l.watermark_ts
FROM step s
JOIN unnest($2::int[], $3::int8[]) AS at (partition, next_offset) USING (partition)
CROSS JOIN LATERAL (
    SELECT as_of_offset, last_seq, watermark_ts FROM epoch_state e
    WHERE e.feed = $1 AND e.partition = s.partition AND e.epoch = s.epoch AND e.as_of_offset <= at.next_offset
    ORDER BY as_of_offset DESC LIMIT 1
) l
"""
_OWNERS = """
SELECT DISTINCT ON (o.partition, o.symbol_id)
       o.partition, s.symbol, o.epoch, o.from_offset, o.watermark_ts
FROM owner o
JOIN symbol s USING (symbol_id)
JOIN unnest($2::int[], $3::int8[]) AS at (partition, next_offset) ON at.partition = o.partition
WHERE o.feed = $1 AND o.from_offset < at.next_offset
ORDER BY o.partition, o.symbol_id, o.from_offset DESC
"""


async def read_checkpoint(connection: Any, feed: str) -> tuple[str, dict[int, CheckpointRow]]:
    """(topic id, rows by partition); ("", {}) for a feed that was never recorded."""
    rows = await connection.fetch(
        f"SELECT topic_id, {', '.join(CheckpointRow.__slots__)} FROM checkpoint WHERE feed = $1 ORDER BY partition",
        feed,
    )
    found = {r["partition"]: CheckpointRow(*(r[name] for name in CheckpointRow.__slots__)) for r in rows}
    return (rows[0]["topic_id"] if rows else ""), found


async def read_state(connection: Any, feed: str) -> StoredState:
    """The state at the checkpoint, in the caller's transaction."""
    topic_id, rows = await read_checkpoint(connection, feed)
    at = {partition: row.next_offset for partition, row in rows.items()}
    owners, epochs = await read_rows(connection, feed, at)
    partitions = {
        partition: PartitionState(
            next_offset,
            {row.symbol: row for row in owners.get(partition, ())},
            {row.state.epoch: row.state for row in epochs.get(partition, ())},
        )
        for partition, next_offset in at.items()
    }
    return StoredState(topic_id, rows, partitions)


async def read_rows(
    connection: Any, feed: str, at: Mapping[int, int]
) -> tuple[dict[int, list[OwnerRow]], dict[int, list[EpochRow]]]:
    """The newest owner and epoch rows at or below an offset per partition, for `ownership.state_at`."""
    arguments = (feed, list(at), list(at.values()))
    owners: dict[int, list[OwnerRow]] = {}
    for r in await connection.fetch(_OWNERS, *arguments):
        row = OwnerRow(r["symbol"], r["epoch"], r["from_offset"], r["watermark_ts"])
        owners.setdefault(r["partition"], []).append(row)
    epochs: dict[int, list[EpochRow]] = {}
    for r in await connection.fetch(_EPOCHS, *arguments):
        state = EpochState(r["epoch"], r["last_seq"], r["watermark_ts"])
        epochs.setdefault(r["partition"], []).append(EpochRow(state, r["as_of_offset"]))
    return owners, epochs
