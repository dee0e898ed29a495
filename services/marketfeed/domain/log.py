"""What the log holds: the records of `<feed>.trades` and `<feed>.control` as values.

The wire form is in `wire/records.py`, the rule that says which trades count in `domain/ownership.py`. An epoch is the
offset that Kafka gave to a `Claim`: unique, growing, handed out by the log itself. Times are Unix nanoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from marketfeed.domain.trades import TradeColumns


@dataclass(frozen=True, slots=True, eq=False)
class TradesRecord:
    """Trades of one epoch; trade i is (partition, epoch, first_seq + i). `received_ts`: arrival of the newest frame."""

    epoch: int
    first_seq: int
    received_ts: int
    trades: TradeColumns

    @property
    def last_seq(self) -> int:
        """Sequence number of the last trade."""
        return self.first_seq + len(self.trades) - 1


@dataclass(frozen=True, slots=True)
class Takeover:
    """From here on `epoch` owns `symbols`, each whose present owner's epoch is lower. Repeated every 60 s."""

    epoch: int
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Watermark:
    """Event time of the symbols that `epochs` own has reached `event_ts`."""

    epochs: tuple[int, ...]
    event_ts: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Trades of `symbols` stamped from `from_ts` to `to_ts` (both included) may be missing.

    reason: connection_lost | restart | handover (another shard had to let go first) | dropped | log_replaced |
    log_trimmed | no_owner; `dropped` counts what is known to have been dropped, 0 when unknown.
    """

    symbols: tuple[str, ...]
    from_ts: int
    to_ts: int
    reason: str
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """Trading status of `symbols` from `event_ts` on: trading | halted | closed."""

    symbols: tuple[str, ...]
    status: str
    event_ts: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Correction:
    """The trade (partition, epoch, seq) of `symbol` was really this one."""

    epoch: int
    seq: int
    symbol: str
    event_ts: int
    price: float
    size: float


@dataclass(frozen=True, slots=True)
class Cancel:
    """The trade (partition, epoch, seq) of `symbol` never was."""

    epoch: int
    seq: int
    symbol: str


@dataclass(frozen=True, slots=True)
class Claim:
    """An instance of a shard asks to speak for `symbols`; this record's offset becomes its epoch for them.

    Nothing that it holds of them, or will still receive, is stamped below `held_from_ts`; 0 when that is not known.
    A gap begins there if nobody was live for a symbol and this instance dies: it may have published what counts.
    """

    shard: str
    instance: str
    symbols: tuple[str, ...]
    held_from_ts: int = 0


@dataclass(frozen=True, slots=True)
class Preparing:
    """The candidate holding `epoch` is reconciling; appended every second until it is live."""

    epoch: int
    shard: str
    instance: str


@dataclass(frozen=True, slots=True)
class Alive:
    """A live owner's sign of life, every second, with its watermark and its greatest lateness of the last 15 min."""

    epochs: tuple[int, ...]
    shard: str
    instance: str
    watermark: int
    lateness_ns: int


TradesBody = TradesRecord | Takeover | Watermark | Gap | Status | Correction | Cancel
ControlBody = Claim | Preparing | Alive
Body = TradesBody | ControlBody


@dataclass(frozen=True, slots=True, eq=False)
class Logged:
    """A record at its place in a topic: partition, offset, LogAppendTime (Unix ns) and what it says."""

    partition: int
    offset: int
    append_ts: int
    body: Body
    headers: dict[str, str] = field(default_factory=dict)
