from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SourceState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SOURCE_STATE_UNSPECIFIED: _ClassVar[SourceState]
    SOURCE_STATE_LIVE: _ClassVar[SourceState]
    SOURCE_STATE_STALE: _ClassVar[SourceState]
    SOURCE_STATE_DOWN: _ClassVar[SourceState]

class TradingState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRADING_STATE_UNSPECIFIED: _ClassVar[TradingState]
    TRADING_STATE_TRADING: _ClassVar[TradingState]
    TRADING_STATE_HALTED: _ClassVar[TradingState]
    TRADING_STATE_CLOSED: _ClassVar[TradingState]

class SymbolStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SYMBOL_STATUS_UNSPECIFIED: _ClassVar[SymbolStatus]
    SYMBOL_STATUS_OK: _ClassVar[SymbolStatus]
    SYMBOL_STATUS_PENDING: _ClassVar[SymbolStatus]
    SYMBOL_STATUS_UNKNOWN_SYMBOL: _ClassVar[SymbolStatus]
    SYMBOL_STATUS_LIMIT: _ClassVar[SymbolStatus]
    SYMBOL_STATUS_FORBIDDEN: _ClassVar[SymbolStatus]

class BarInterval(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BAR_INTERVAL_UNSPECIFIED: _ClassVar[BarInterval]
    BAR_INTERVAL_1S: _ClassVar[BarInterval]
    BAR_INTERVAL_1M: _ClassVar[BarInterval]
    BAR_INTERVAL_1H: _ClassVar[BarInterval]
    BAR_INTERVAL_1D: _ClassVar[BarInterval]

class BarEmission(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BAR_EMISSION_UNSPECIFIED: _ClassVar[BarEmission]
    BAR_EMISSION_FAST: _ClassVar[BarEmission]
    BAR_EMISSION_SETTLED: _ClassVar[BarEmission]
SOURCE_STATE_UNSPECIFIED: SourceState
SOURCE_STATE_LIVE: SourceState
SOURCE_STATE_STALE: SourceState
SOURCE_STATE_DOWN: SourceState
TRADING_STATE_UNSPECIFIED: TradingState
TRADING_STATE_TRADING: TradingState
TRADING_STATE_HALTED: TradingState
TRADING_STATE_CLOSED: TradingState
SYMBOL_STATUS_UNSPECIFIED: SymbolStatus
SYMBOL_STATUS_OK: SymbolStatus
SYMBOL_STATUS_PENDING: SymbolStatus
SYMBOL_STATUS_UNKNOWN_SYMBOL: SymbolStatus
SYMBOL_STATUS_LIMIT: SymbolStatus
SYMBOL_STATUS_FORBIDDEN: SymbolStatus
BAR_INTERVAL_UNSPECIFIED: BarInterval
BAR_INTERVAL_1S: BarInterval
BAR_INTERVAL_1M: BarInterval
BAR_INTERVAL_1H: BarInterval
BAR_INTERVAL_1D: BarInterval
BAR_EMISSION_UNSPECIFIED: BarEmission
BAR_EMISSION_FAST: BarEmission
BAR_EMISSION_SETTLED: BarEmission

class Stamps(_message.Message):
    __slots__ = ("event_ts", "received_ts", "logged_ts", "sent_ts")
    EVENT_TS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_TS_FIELD_NUMBER: _ClassVar[int]
    LOGGED_TS_FIELD_NUMBER: _ClassVar[int]
    SENT_TS_FIELD_NUMBER: _ClassVar[int]
    event_ts: int
    received_ts: int
    logged_ts: int
    sent_ts: int
    def __init__(self, event_ts: _Optional[int] = ..., received_ts: _Optional[int] = ..., logged_ts: _Optional[int] = ..., sent_ts: _Optional[int] = ...) -> None: ...

class TradeDay(_message.Message):
    __slots__ = ("date", "open", "high", "low", "volume", "trades")
    DATE_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    TRADES_FIELD_NUMBER: _ClassVar[int]
    date: str
    open: float
    high: float
    low: float
    volume: float
    trades: int
    def __init__(self, date: _Optional[str] = ..., open: _Optional[float] = ..., high: _Optional[float] = ..., low: _Optional[float] = ..., volume: _Optional[float] = ..., trades: _Optional[int] = ...) -> None: ...

class Quote(_message.Message):
    __slots__ = ("symbol", "price", "size", "event_ts", "age_ms", "day", "previous_close", "session", "stamps")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    EVENT_TS_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    DAY_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_CLOSE_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    STAMPS_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    price: float
    size: float
    event_ts: int
    age_ms: int
    day: TradeDay
    previous_close: float
    session: str
    stamps: Stamps
    def __init__(self, symbol: _Optional[str] = ..., price: _Optional[float] = ..., size: _Optional[float] = ..., event_ts: _Optional[int] = ..., age_ms: _Optional[int] = ..., day: _Optional[_Union[TradeDay, _Mapping]] = ..., previous_close: _Optional[float] = ..., session: _Optional[str] = ..., stamps: _Optional[_Union[Stamps, _Mapping]] = ...) -> None: ...

class SymbolState(_message.Message):
    __slots__ = ("symbol", "source", "trading", "since_ts", "reason")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TRADING_FIELD_NUMBER: _ClassVar[int]
    SINCE_TS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    source: SourceState
    trading: TradingState
    since_ts: int
    reason: str
    def __init__(self, symbol: _Optional[str] = ..., source: _Optional[_Union[SourceState, str]] = ..., trading: _Optional[_Union[TradingState, str]] = ..., since_ts: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class GapNotice(_message.Message):
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

class Acknowledged(_message.Message):
    __slots__ = ("symbols", "interval_ms", "position", "recovered")
    class SymbolsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: SymbolStatus
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[SymbolStatus, str]] = ...) -> None: ...
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    RECOVERED_FIELD_NUMBER: _ClassVar[int]
    symbols: _containers.ScalarMap[str, SymbolStatus]
    interval_ms: int
    position: str
    recovered: bool
    def __init__(self, symbols: _Optional[_Mapping[str, SymbolStatus]] = ..., interval_ms: _Optional[int] = ..., position: _Optional[str] = ..., recovered: _Optional[bool] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("server_ts", "watermark_ts", "lag_ms", "position")
    SERVER_TS_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_TS_FIELD_NUMBER: _ClassVar[int]
    LAG_MS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    server_ts: int
    watermark_ts: int
    lag_ms: int
    position: str
    def __init__(self, server_ts: _Optional[int] = ..., watermark_ts: _Optional[int] = ..., lag_ms: _Optional[int] = ..., position: _Optional[str] = ...) -> None: ...

class Conflated(_message.Message):
    __slots__ = ("count", "max_age_ms")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    count: int
    max_age_ms: int
    def __init__(self, count: _Optional[int] = ..., max_age_ms: _Optional[int] = ...) -> None: ...

class Drain(_message.Message):
    __slots__ = ("reason", "reconnect_after_ms", "position")
    REASON_FIELD_NUMBER: _ClassVar[int]
    RECONNECT_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    reason: str
    reconnect_after_ms: int
    position: str
    def __init__(self, reason: _Optional[str] = ..., reconnect_after_ms: _Optional[int] = ..., position: _Optional[str] = ...) -> None: ...

class Tape(_message.Message):
    __slots__ = ("symbols", "symbol_index", "event_ts", "price", "size", "partition", "offset", "index", "condition_sets", "condition_index", "stamps", "position", "oldest_logged_ts")
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_INDEX_FIELD_NUMBER: _ClassVar[int]
    EVENT_TS_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    CONDITION_SETS_FIELD_NUMBER: _ClassVar[int]
    CONDITION_INDEX_FIELD_NUMBER: _ClassVar[int]
    STAMPS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    OLDEST_LOGGED_TS_FIELD_NUMBER: _ClassVar[int]
    symbols: _containers.RepeatedScalarFieldContainer[str]
    symbol_index: _containers.RepeatedScalarFieldContainer[int]
    event_ts: _containers.RepeatedScalarFieldContainer[int]
    price: _containers.RepeatedScalarFieldContainer[float]
    size: _containers.RepeatedScalarFieldContainer[float]
    partition: int
    offset: _containers.RepeatedScalarFieldContainer[int]
    index: _containers.RepeatedScalarFieldContainer[int]
    condition_sets: _containers.RepeatedScalarFieldContainer[str]
    condition_index: _containers.RepeatedScalarFieldContainer[int]
    stamps: Stamps
    position: str
    oldest_logged_ts: int
    def __init__(self, symbols: _Optional[_Iterable[str]] = ..., symbol_index: _Optional[_Iterable[int]] = ..., event_ts: _Optional[_Iterable[int]] = ..., price: _Optional[_Iterable[float]] = ..., size: _Optional[_Iterable[float]] = ..., partition: _Optional[int] = ..., offset: _Optional[_Iterable[int]] = ..., index: _Optional[_Iterable[int]] = ..., condition_sets: _Optional[_Iterable[str]] = ..., condition_index: _Optional[_Iterable[int]] = ..., stamps: _Optional[_Union[Stamps, _Mapping]] = ..., position: _Optional[str] = ..., oldest_logged_ts: _Optional[int] = ...) -> None: ...

class PackedTape(_message.Message):
    __slots__ = ("symbols", "symbol_index", "event_ts", "price", "size", "partition", "offset", "index", "condition_index", "condition_sets", "stamps", "position", "oldest_logged_ts")
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_INDEX_FIELD_NUMBER: _ClassVar[int]
    EVENT_TS_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    CONDITION_INDEX_FIELD_NUMBER: _ClassVar[int]
    CONDITION_SETS_FIELD_NUMBER: _ClassVar[int]
    STAMPS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    OLDEST_LOGGED_TS_FIELD_NUMBER: _ClassVar[int]
    symbols: _containers.RepeatedScalarFieldContainer[str]
    symbol_index: bytes
    event_ts: bytes
    price: bytes
    size: bytes
    partition: int
    offset: bytes
    index: bytes
    condition_index: bytes
    condition_sets: _containers.RepeatedScalarFieldContainer[str]
    stamps: Stamps
    position: str
    oldest_logged_ts: int
    def __init__(self, symbols: _Optional[_Iterable[str]] = ..., symbol_index: _Optional[bytes] = ..., event_ts: _Optional[bytes] = ..., price: _Optional[bytes] = ..., size: _Optional[bytes] = ..., partition: _Optional[int] = ..., offset: _Optional[bytes] = ..., index: _Optional[bytes] = ..., condition_index: _Optional[bytes] = ..., condition_sets: _Optional[_Iterable[str]] = ..., stamps: _Optional[_Union[Stamps, _Mapping]] = ..., position: _Optional[str] = ..., oldest_logged_ts: _Optional[int] = ...) -> None: ...

class PackedTapeResponse(_message.Message):
    __slots__ = ("tape",)
    TAPE_FIELD_NUMBER: _ClassVar[int]
    tape: PackedTape
    def __init__(self, tape: _Optional[_Union[PackedTape, _Mapping]] = ...) -> None: ...

class Bars(_message.Message):
    __slots__ = ("symbol", "interval", "start", "open", "high", "low", "close", "volume", "vwap", "trades", "state", "revision", "incomplete", "filled")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Bars.State]
        STATE_OPEN: _ClassVar[Bars.State]
        STATE_CLOSED: _ClassVar[Bars.State]
        STATE_REVISED: _ClassVar[Bars.State]
        STATE_FINAL: _ClassVar[Bars.State]
    STATE_UNSPECIFIED: Bars.State
    STATE_OPEN: Bars.State
    STATE_CLOSED: Bars.State
    STATE_REVISED: Bars.State
    STATE_FINAL: Bars.State
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    VWAP_FIELD_NUMBER: _ClassVar[int]
    TRADES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    INCOMPLETE_FIELD_NUMBER: _ClassVar[int]
    FILLED_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    interval: BarInterval
    start: _containers.RepeatedScalarFieldContainer[int]
    open: _containers.RepeatedScalarFieldContainer[float]
    high: _containers.RepeatedScalarFieldContainer[float]
    low: _containers.RepeatedScalarFieldContainer[float]
    close: _containers.RepeatedScalarFieldContainer[float]
    volume: _containers.RepeatedScalarFieldContainer[float]
    vwap: _containers.RepeatedScalarFieldContainer[float]
    trades: _containers.RepeatedScalarFieldContainer[int]
    state: _containers.RepeatedScalarFieldContainer[Bars.State]
    revision: _containers.RepeatedScalarFieldContainer[int]
    incomplete: _containers.RepeatedScalarFieldContainer[bool]
    filled: _containers.RepeatedScalarFieldContainer[bool]
    def __init__(self, symbol: _Optional[str] = ..., interval: _Optional[_Union[BarInterval, str]] = ..., start: _Optional[_Iterable[int]] = ..., open: _Optional[_Iterable[float]] = ..., high: _Optional[_Iterable[float]] = ..., low: _Optional[_Iterable[float]] = ..., close: _Optional[_Iterable[float]] = ..., volume: _Optional[_Iterable[float]] = ..., vwap: _Optional[_Iterable[float]] = ..., trades: _Optional[_Iterable[int]] = ..., state: _Optional[_Iterable[_Union[Bars.State, str]]] = ..., revision: _Optional[_Iterable[int]] = ..., incomplete: _Optional[_Iterable[bool]] = ..., filled: _Optional[_Iterable[bool]] = ...) -> None: ...

class GetQuoteRequest(_message.Message):
    __slots__ = ("symbol",)
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    def __init__(self, symbol: _Optional[str] = ...) -> None: ...

class GetQuoteResponse(_message.Message):
    __slots__ = ("quote", "state", "position")
    QUOTE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    quote: Quote
    state: SymbolState
    position: str
    def __init__(self, quote: _Optional[_Union[Quote, _Mapping]] = ..., state: _Optional[_Union[SymbolState, _Mapping]] = ..., position: _Optional[str] = ...) -> None: ...

class GetReferencePriceRequest(_message.Message):
    __slots__ = ("symbol", "max_age_ms")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    max_age_ms: int
    def __init__(self, symbol: _Optional[str] = ..., max_age_ms: _Optional[int] = ...) -> None: ...

class GetReferencePriceResponse(_message.Message):
    __slots__ = ("symbol", "price", "price_nanos", "event_ts", "last_trade_age_ms", "watermark_ts", "watermark_age_ms", "position")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    PRICE_NANOS_FIELD_NUMBER: _ClassVar[int]
    EVENT_TS_FIELD_NUMBER: _ClassVar[int]
    LAST_TRADE_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_TS_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    price: float
    price_nanos: int
    event_ts: int
    last_trade_age_ms: int
    watermark_ts: int
    watermark_age_ms: int
    position: str
    def __init__(self, symbol: _Optional[str] = ..., price: _Optional[float] = ..., price_nanos: _Optional[int] = ..., event_ts: _Optional[int] = ..., last_trade_age_ms: _Optional[int] = ..., watermark_ts: _Optional[int] = ..., watermark_age_ms: _Optional[int] = ..., position: _Optional[str] = ...) -> None: ...

class StreamQuotesRequest(_message.Message):
    __slots__ = ("symbols", "interval_ms")
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    symbols: _containers.RepeatedScalarFieldContainer[str]
    interval_ms: int
    def __init__(self, symbols: _Optional[_Iterable[str]] = ..., interval_ms: _Optional[int] = ...) -> None: ...

class StreamQuotesResponse(_message.Message):
    __slots__ = ("acknowledged", "quotes", "state", "gap", "conflated", "heartbeat", "drain")
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    QUOTES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    CONFLATED_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    acknowledged: Acknowledged
    quotes: QuoteBatch
    state: SymbolState
    gap: GapNotice
    conflated: Conflated
    heartbeat: Heartbeat
    drain: Drain
    def __init__(self, acknowledged: _Optional[_Union[Acknowledged, _Mapping]] = ..., quotes: _Optional[_Union[QuoteBatch, _Mapping]] = ..., state: _Optional[_Union[SymbolState, _Mapping]] = ..., gap: _Optional[_Union[GapNotice, _Mapping]] = ..., conflated: _Optional[_Union[Conflated, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ...) -> None: ...

class QuoteBatch(_message.Message):
    __slots__ = ("quotes", "snapshot")
    QUOTES_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    quotes: _containers.RepeatedCompositeFieldContainer[Quote]
    snapshot: bool
    def __init__(self, quotes: _Optional[_Iterable[_Union[Quote, _Mapping]]] = ..., snapshot: _Optional[bool] = ...) -> None: ...

class StreamTradesRequest(_message.Message):
    __slots__ = ("symbols", "position", "linger_ms")
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    LINGER_MS_FIELD_NUMBER: _ClassVar[int]
    symbols: _containers.RepeatedScalarFieldContainer[str]
    position: str
    linger_ms: int
    def __init__(self, symbols: _Optional[_Iterable[str]] = ..., position: _Optional[str] = ..., linger_ms: _Optional[int] = ...) -> None: ...

class StreamTradesResponse(_message.Message):
    __slots__ = ("acknowledged", "tape", "state", "gap", "heartbeat", "drain")
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    TAPE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    acknowledged: Acknowledged
    tape: Tape
    state: SymbolState
    gap: GapNotice
    heartbeat: Heartbeat
    drain: Drain
    def __init__(self, acknowledged: _Optional[_Union[Acknowledged, _Mapping]] = ..., tape: _Optional[_Union[Tape, _Mapping]] = ..., state: _Optional[_Union[SymbolState, _Mapping]] = ..., gap: _Optional[_Union[GapNotice, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ...) -> None: ...

class GetBarsRequest(_message.Message):
    __slots__ = ("symbol", "interval", "to", "fill", "limit")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    FILL_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    interval: BarInterval
    to: int
    fill: bool
    limit: int
    def __init__(self, symbol: _Optional[str] = ..., interval: _Optional[_Union[BarInterval, str]] = ..., to: _Optional[int] = ..., fill: _Optional[bool] = ..., limit: _Optional[int] = ..., **kwargs) -> None: ...

class GetBarsResponse(_message.Message):
    __slots__ = ("bars", "position", "incomplete", "next_from")
    BARS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    INCOMPLETE_FIELD_NUMBER: _ClassVar[int]
    NEXT_FROM_FIELD_NUMBER: _ClassVar[int]
    bars: Bars
    position: str
    incomplete: bool
    next_from: int
    def __init__(self, bars: _Optional[_Union[Bars, _Mapping]] = ..., position: _Optional[str] = ..., incomplete: _Optional[bool] = ..., next_from: _Optional[int] = ...) -> None: ...

class StreamBarsRequest(_message.Message):
    __slots__ = ("symbols", "interval", "emission", "interval_ms", "position")
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    EMISSION_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    symbols: _containers.RepeatedScalarFieldContainer[str]
    interval: BarInterval
    emission: BarEmission
    interval_ms: int
    position: str
    def __init__(self, symbols: _Optional[_Iterable[str]] = ..., interval: _Optional[_Union[BarInterval, str]] = ..., emission: _Optional[_Union[BarEmission, str]] = ..., interval_ms: _Optional[int] = ..., position: _Optional[str] = ..., **kwargs) -> None: ...

class StreamBarsResponse(_message.Message):
    __slots__ = ("acknowledged", "bars", "state", "gap", "conflated", "heartbeat", "drain")
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    BARS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    CONFLATED_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    acknowledged: Acknowledged
    bars: BarBatch
    state: SymbolState
    gap: GapNotice
    conflated: Conflated
    heartbeat: Heartbeat
    drain: Drain
    def __init__(self, acknowledged: _Optional[_Union[Acknowledged, _Mapping]] = ..., bars: _Optional[_Union[BarBatch, _Mapping]] = ..., state: _Optional[_Union[SymbolState, _Mapping]] = ..., gap: _Optional[_Union[GapNotice, _Mapping]] = ..., conflated: _Optional[_Union[Conflated, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ...) -> None: ...

class BarBatch(_message.Message):
    __slots__ = ("bars", "snapshot")
    BARS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    bars: _containers.RepeatedCompositeFieldContainer[Bars]
    snapshot: bool
    def __init__(self, bars: _Optional[_Iterable[_Union[Bars, _Mapping]]] = ..., snapshot: _Optional[bool] = ...) -> None: ...
