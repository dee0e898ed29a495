"""The faults a real feed has, on request: what they are called, when they are on, and the texts they send. Pure.

A fault is written `kind:name=value:name=value@from+for`, seconds since the generator began: `refuse:status=429@60+10`,
`disconnect@30`, `bad:what=nan:per_s=5@10+20`. Without `@` it begins at once, without `+` it lasts until the end. The
same names are the keys of the JSON that POST /fault takes, with `at_s` (default: now) and `for_s`.

| kind | what happens | parameters |
|---|---|---|
| triple | each frame is sent three times | |
| reversed | stamps run backwards within windows | window_ms |
| hang | the connections of that moment fall silent and stay open: no trade, no ping; new ones are well | |
| mute | some symbols stop while others flow | symbols (A;B) |
| refuse | a plain HTTP answer in place of the handshake | status |
| slow_handshake | the handshake is answered `delay_s` late | delay_s |
| disconnect | all connections are cut; again every `every_s` seconds, if given | every_s |
| outage | all connections are cut and new ones refused with 503 | |
| bad | bad frames and trades among the good ones | what, per_s, bytes |
| lag | trades are sent that much after their stamps | lag_s |
| error | an in-band error message, once | message |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from marketfeed.generator.frames import HEAD, payload_of
from marketfeed.generator.market import Slice
from marketfeed.wire.websocket_frames import encode_text_frame

KINDS = (
    "triple", "reversed", "hang", "mute", "refuse", "slow_handshake", "disconnect", "outage", "bad", "lag", "error",
)  # fmt: skip

# Bad trades go into a frame beside good ones; the others are frames of their own. NaN is no JSON at all.
BAD_TRADES = ("wrong_type", "negative", "absurd", "unknown_symbol", "null_price")
BAD_FRAMES = ("malformed", "unknown_type", "nan", "oversized")


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault, on from `at_s` for `for_s` seconds since the generator began; see the table above."""

    kind: str
    at_s: float = 0.0
    for_s: float = math.inf
    window_ms: int = 500
    symbols: tuple[str, ...] = ()
    status: int = 503
    every_s: float = 0.0
    what: str = "all"
    per_s: float = 2.0
    bytes: int = 2 * 1024 * 1024
    lag_s: float = 3.0
    delay_s: float = 65.0
    message: str = "Something went wrong"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"there is no fault {self.kind!r}; there are {', '.join(KINDS)}")
        if self.what not in ("all", *BAD_TRADES, *BAD_FRAMES):
            raise ValueError(f"there is nothing bad called {self.what!r}: all, {', '.join(BAD_TRADES + BAD_FRAMES)}")
        if not 200 <= self.status <= 599:
            raise ValueError(f"{self.status} is not the status of an HTTP answer")
        if min(self.for_s, self.per_s) <= 0 or min(self.every_s, self.lag_s, self.delay_s) < 0 or self.window_ms < 1:
            raise ValueError("durations and rates must be above 0")
        if not 0 <= self.bytes <= 64 * 1024 * 1024:
            raise ValueError("an oversized frame has 64 MiB at most")

    def on(self, now_s: float) -> bool:
        """Whether it is on at an instant."""
        return self.at_s <= now_s < self.at_s + self.for_s


def parse_fault(text: str) -> Fault:
    """A fault from its written form. Raises ValueError with one sentence."""
    what, _, when = text.partition("@")
    kind, *parameters = what.split(":")
    begins, _, lasts = when.partition("+")
    values: dict[str, Any] = {"kind": kind, "at_s": begins or "0"} | ({"for_s": lasts} if lasts else {})
    for parameter in parameters:
        name, is_there, value = parameter.partition("=")
        if not is_there:
            raise ValueError(f"{parameter!r} in {text!r} must be name=value")
        values[name] = tuple(value.split(";")) if name == "symbols" else value
    return fault_of(values)


def fault_of(values: Mapping[str, Any]) -> Fault:
    """A fault from named values, numbers may be texts. Raises ValueError with one sentence."""
    try:
        return msgspec.convert(values, Fault, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


@dataclass(slots=True)
class _Planned:
    fault: Fault
    next_s: float


class FaultPlan:
    """The faults of a run; time is seconds since the generator began."""

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        self._planned: list[_Planned] = []
        self._bad_due_s = 0.0
        self._bad_sent = 0
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        """One more fault."""
        self._planned.append(_Planned(fault, fault.at_s))

    def forget_ended(self, now_s: float) -> None:
        """Drop what is over, so that a long run may ask for any number of faults."""
        self._planned = [p for p in self._planned if now_s < p.fault.at_s + p.fault.for_s]

    def faults(self) -> tuple[Fault, ...]:
        """All faults that are on or to come."""
        return tuple(planned.fault for planned in self._planned)

    def active(self, kind: str, now_s: float) -> Fault | None:
        """The fault of a kind that is on, the one added last if there are several."""
        for planned in reversed(self._planned):
            if planned.fault.kind == kind and planned.fault.on(now_s):
                return planned.fault
        return None

    def begun(self, now_s: float) -> list[Fault]:
        """The faults that began since the last call; `disconnect` with `every_s` begins again and again."""
        begun = []
        for planned in self._planned:
            fault = planned.fault
            if planned.next_s <= now_s:
                if fault.on(now_s) or planned.next_s == fault.at_s:
                    begun.append(fault)
                again = fault.kind == "disconnect" and fault.every_s > 0
                planned.next_s = max(planned.next_s, now_s) + fault.every_s if again else math.inf
        return begun

    def bad_due(self, now_s: float) -> tuple[Fault, str] | None:
        """The bad thing to send now, if it is time for one; asking takes it."""
        fault = self.active("bad", now_s)
        if fault is None or now_s < self._bad_due_s:
            return None
        self._bad_due_s = now_s + 1.0 / fault.per_s
        self._bad_sent += 1
        kinds = BAD_TRADES + BAD_FRAMES
        return fault, kinds[self._bad_sent % len(kinds)] if fault.what == "all" else fault.what


def mirrored(made: Slice, window_ms: int) -> Slice:
    """The slice with stamps that fall while time goes on, window by window; none is later than it was."""
    begin = made.stamp_ms - made.stamp_ms % window_ms
    return replace(made, stamp_ms=np.asarray(2 * begin - 1 - made.stamp_ms))


def tripled(data: bytes, frame_starts: list[int]) -> bytes:
    """Each frame three times in a row."""
    return b"".join(data[begin:end] * 3 for begin, end in pairwise(frame_starts))


def with_bad_trade(data: bytes, frame_starts: list[int], trade: bytes) -> bytes:
    """The frames, with a trade more at the beginning of the first one."""
    first, rest = data[: frame_starts[1]], data[frame_starts[1] :]
    return encode_text_frame(HEAD + trade + b"," + payload_of(first).removeprefix(HEAD)) + rest


def bad_trade(what: str, symbol: str, now_ms: int, number: int) -> bytes:
    """A trade that must be refused; `number` makes it unlike those before it."""
    price: object = 100.25
    if what == "wrong_type":
        price = "one hundred"
    elif what == "negative":
        price = -187.5
    elif what == "absurd":
        price = 1e300
    elif what == "null_price":
        price = None
    name = f"NOBODY{number % 1000}" if what == "unknown_symbol" else symbol
    return msgspec.json.encode({"c": ["1"], "p": price, "s": name, "t": now_ms, "v": number % 10_000 + 1})


def bad_frame(what: str, symbol: str, now_ms: int, number: int, size_bytes: int) -> bytes:
    """A frame that must be refused as a whole."""
    if what == "malformed":
        payload = b'{"data":[{"c":["1"],"p":1' + str(number).encode()
    elif what == "unknown_type":
        payload = msgspec.json.encode({"type": "weather", "data": [{"sky": "blue", "number": number}]})
    elif what == "nan":
        payload = b'{"data":[{"c":["1"],"p":NaN,"s":"%s","t":%d,"v":1}],"type":"trade"}' % (symbol.encode(), now_ms)
    else:
        payload = msgspec.json.encode({"type": "trade", "data": [], "padding": "x" * size_bytes})
    return encode_text_frame(payload)
