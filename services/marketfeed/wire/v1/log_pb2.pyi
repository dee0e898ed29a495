from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ConditionSet(_message.Message):
    __slots__ = ("codes", "absent")
    CODES_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    codes: _containers.RepeatedScalarFieldContainer[str]
    absent: bool
    def __init__(self, codes: _Optional[_Iterable[str]] = ..., absent: _Optional[bool] = ...) -> None: ...

class TradeBatch(_message.Message):
    __slots__ = ("symbols", "symbol_index", "event_ts", "price", "size", "condition_index", "condition_sets", "epoch", "first_seq", "received_ts")
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_INDEX_FIELD_NUMBER: _ClassVar[int]
    EVENT_TS_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    CONDITION_INDEX_FIELD_NUMBER: _ClassVar[int]
    CONDITION_SETS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_TS_FIELD_NUMBER: _ClassVar[int]
    symbols: _containers.RepeatedScalarFieldContainer[str]
    symbol_index: _containers.RepeatedScalarFieldContainer[int]
    event_ts: _containers.RepeatedScalarFieldContainer[int]
    price: _containers.RepeatedScalarFieldContainer[float]
    size: _containers.RepeatedScalarFieldContainer[float]
    condition_index: _containers.RepeatedScalarFieldContainer[int]
    condition_sets: _containers.RepeatedCompositeFieldContainer[ConditionSet]
    epoch: int
    first_seq: int
    received_ts: int
    def __init__(self, symbols: _Optional[_Iterable[str]] = ..., symbol_index: _Optional[_Iterable[int]] = ..., event_ts: _Optional[_Iterable[int]] = ..., price: _Optional[_Iterable[float]] = ..., size: _Optional[_Iterable[float]] = ..., condition_index: _Optional[_Iterable[int]] = ..., condition_sets: _Optional[_Iterable[_Union[ConditionSet, _Mapping]]] = ..., epoch: _Optional[int] = ..., first_seq: _Optional[int] = ..., received_ts: _Optional[int] = ...) -> None: ...

class PackedTradeBatch(_message.Message):
    __slots__ = ("symbols", "symbol_index", "event_ts", "price", "size", "condition_index", "condition_sets", "epoch", "first_seq", "received_ts")
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_INDEX_FIELD_NUMBER: _ClassVar[int]
    EVENT_TS_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    CONDITION_INDEX_FIELD_NUMBER: _ClassVar[int]
    CONDITION_SETS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_TS_FIELD_NUMBER: _ClassVar[int]
    symbols: _containers.RepeatedScalarFieldContainer[str]
    symbol_index: bytes
    event_ts: bytes
    price: bytes
    size: bytes
    condition_index: bytes
    condition_sets: _containers.RepeatedCompositeFieldContainer[ConditionSet]
    epoch: int
    first_seq: int
    received_ts: int
    def __init__(self, symbols: _Optional[_Iterable[str]] = ..., symbol_index: _Optional[bytes] = ..., event_ts: _Optional[bytes] = ..., price: _Optional[bytes] = ..., size: _Optional[bytes] = ..., condition_index: _Optional[bytes] = ..., condition_sets: _Optional[_Iterable[_Union[ConditionSet, _Mapping]]] = ..., epoch: _Optional[int] = ..., first_seq: _Optional[int] = ..., received_ts: _Optional[int] = ...) -> None: ...

class Takeover(_message.Message):
    __slots__ = ("epoch", "symbols")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    symbols: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, epoch: _Optional[int] = ..., symbols: _Optional[_Iterable[str]] = ...) -> None: ...

class Watermark(_message.Message):
    __slots__ = ("epochs", "event_ts")
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    EVENT_TS_FIELD_NUMBER: _ClassVar[int]
    epochs: _containers.RepeatedScalarFieldContainer[int]
    event_ts: int
    def __init__(self, epochs: _Optional[_Iterable[int]] = ..., event_ts: _Optional[int] = ...) -> None: ...

class Gap(_message.Message):
    __slots__ = ("symbols", "from_ts", "to_ts", "reason", "dropped")
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    FROM_TS_FIELD_NUMBER: _ClassVar[int]
    TO_TS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    symbols: _containers.RepeatedScalarFieldContainer[str]
    from_ts: int
    to_ts: int
    reason: str
    dropped: int
    def __init__(self, symbols: _Optional[_Iterable[str]] = ..., from_ts: _Optional[int] = ..., to_ts: _Optional[int] = ..., reason: _Optional[str] = ..., dropped: _Optional[int] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("symbols", "status", "event_ts", "reason")
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    EVENT_TS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    symbols: _containers.RepeatedScalarFieldContainer[str]
    status: str
    event_ts: int
    reason: str
    def __init__(self, symbols: _Optional[_Iterable[str]] = ..., status: _Optional[str] = ..., event_ts: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Correction(_message.Message):
    __slots__ = ("epoch", "seq", "symbol", "event_ts", "price", "size")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    EVENT_TS_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    seq: int
    symbol: str
    event_ts: int
    price: float
    size: float
    def __init__(self, epoch: _Optional[int] = ..., seq: _Optional[int] = ..., symbol: _Optional[str] = ..., event_ts: _Optional[int] = ..., price: _Optional[float] = ..., size: _Optional[float] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("epoch", "seq", "symbol")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    seq: int
    symbol: str
    def __init__(self, epoch: _Optional[int] = ..., seq: _Optional[int] = ..., symbol: _Optional[str] = ...) -> None: ...

class Claim(_message.Message):
    __slots__ = ("shard", "instance", "symbols", "held_from_ts")
    SHARD_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    HELD_FROM_TS_FIELD_NUMBER: _ClassVar[int]
    shard: str
    instance: str
    symbols: _containers.RepeatedScalarFieldContainer[str]
    held_from_ts: int
    def __init__(self, shard: _Optional[str] = ..., instance: _Optional[str] = ..., symbols: _Optional[_Iterable[str]] = ..., held_from_ts: _Optional[int] = ...) -> None: ...

class Preparing(_message.Message):
    __slots__ = ("epoch", "shard", "instance")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    shard: str
    instance: str
    def __init__(self, epoch: _Optional[int] = ..., shard: _Optional[str] = ..., instance: _Optional[str] = ...) -> None: ...

class Alive(_message.Message):
    __slots__ = ("epochs", "shard", "instance", "watermark", "lateness_ns")
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    LATENESS_NS_FIELD_NUMBER: _ClassVar[int]
    epochs: _containers.RepeatedScalarFieldContainer[int]
    shard: str
    instance: str
    watermark: int
    lateness_ns: int
    def __init__(self, epochs: _Optional[_Iterable[int]] = ..., shard: _Optional[str] = ..., instance: _Optional[str] = ..., watermark: _Optional[int] = ..., lateness_ns: _Optional[int] = ...) -> None: ...
