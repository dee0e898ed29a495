"""What an ingest is to do about its claims: the words in which `claims.py` tells it, and who was there before."""

from __future__ import annotations

from dataclasses import dataclass

from marketfeed.domain.log import Claim


@dataclass(frozen=True, slots=True)
class SendClaim:
    """Append this to `<feed>.control`."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The symbols that another process' `epoch` was the last to be live for, and what its last `Alive` said (ns).

    `shard` is that process': another one than ours if the plan has moved the symbols. Not `live`: nobody ever said to
    be live for them, but a candidate may have published before it died; the watermark is where what it held begins.
    """

    epoch: int
    symbols: tuple[str, ...]
    watermark: int
    lateness_ns: int
    shard: str
    live: bool = True


@dataclass(frozen=True, slots=True)
class TakeOver:
    """Stop publishing `symbols` under older epochs and buffer them; append `Takeover(epoch, …)` to their partitions.

    With `reconcile`: read back up to the markers, publish the difference, then call `went_live`. Without: it is our
    own order, call `went_live` at once and go on under the new epoch. `predecessors` spoke for these symbols before
    (those that nobody held are left out): where a gap begins, and what the watermark must not fall below. Without
    `known` nobody has ever claimed any of them, so there is nothing to read back.
    """

    epoch: int
    symbols: tuple[str, ...]
    reconcile: bool
    predecessors: tuple[Predecessor, ...] = ()
    known: bool = False


@dataclass(frozen=True, slots=True)
class Withdraw:
    """A higher claim came before `epoch` was live: give up its take-over of `symbols`, keep buffering them."""

    epoch: int
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeepBuffer:
    """`challenger` claims `symbols`: go on publishing, and keep what is published and the 60 s before as a buffer."""

    challenger: int
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Yield:
    """Stop publishing `symbols`: their new owner `to_epoch` is live, or (None) nobody is to publish them."""

    symbols: tuple[str, ...]
    to_epoch: int | None


@dataclass(frozen=True, slots=True)
class SendPreparing:
    """Append `Preparing(epoch)` to `<feed>.control`."""

    epoch: int


@dataclass(frozen=True, slots=True)
class SendAlive:
    """Append `Alive(epochs)` with the acknowledged watermark and the lateness to `<feed>.control`."""

    epochs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RepeatTakeover:
    """Append `Takeover(epoch, …)` once more to the partitions of `symbols`."""

    epoch: int
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SendWatermark:
    """Append `Watermark(epochs)` to every partition of our symbols, after all trades accepted so far."""

    epochs: tuple[int, ...]


Action = (
    SendClaim | TakeOver | Withdraw | KeepBuffer | Yield | SendPreparing | SendAlive | RepeatTakeover | SendWatermark
)
