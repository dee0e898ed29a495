from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BarState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BAR_STATE_OPEN: _ClassVar[BarState]
    BAR_STATE_CLOSED: _ClassVar[BarState]
    BAR_STATE_REVISED: _ClassVar[BarState]
    BAR_STATE_FINAL: _ClassVar[BarState]
BAR_STATE_OPEN: BarState
BAR_STATE_CLOSED: BarState
BAR_STATE_REVISED: BarState
BAR_STATE_FINAL: BarState

class BarUpdate(_message.Message):
    __slots__ = ("symbol", "interval_s", "start_s", "open", "high", "low", "close", "volume", "notional", "trades", "revision", "state", "incomplete", "rules", "session", "trade_date", "first_offset", "last_offset", "changed_offset")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_S_FIELD_NUMBER: _ClassVar[int]
    START_S_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    NOTIONAL_FIELD_NUMBER: _ClassVar[int]
    TRADES_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    INCOMPLETE_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    TRADE_DATE_FIELD_NUMBER: _ClassVar[int]
    FIRST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LAST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    CHANGED_OFFSET_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    interval_s: int
    start_s: int
    open: float
    high: float
    low: float
    close: float
    volume: str
    notional: str
    trades: int
    revision: int
    state: BarState
    incomplete: bool
    rules: str
    session: str
    trade_date: str
    first_offset: int
    last_offset: int
    changed_offset: int
    def __init__(self, symbol: _Optional[str] = ..., interval_s: _Optional[int] = ..., start_s: _Optional[int] = ..., open: _Optional[float] = ..., high: _Optional[float] = ..., low: _Optional[float] = ..., close: _Optional[float] = ..., volume: _Optional[str] = ..., notional: _Optional[str] = ..., trades: _Optional[int] = ..., revision: _Optional[int] = ..., state: _Optional[_Union[BarState, str]] = ..., incomplete: _Optional[bool] = ..., rules: _Optional[str] = ..., session: _Optional[str] = ..., trade_date: _Optional[str] = ..., first_offset: _Optional[int] = ..., last_offset: _Optional[int] = ..., changed_offset: _Optional[int] = ...) -> None: ...
