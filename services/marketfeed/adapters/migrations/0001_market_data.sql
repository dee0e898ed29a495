-- Market data derived from the log: bars, what the readers' rule knows, and how far the log was applied.
--
-- Times: `start` is timestamptz (label of the bar, [start, start + interval)); columns ending in _ts are Unix
-- nanoseconds (bigint), exact where timestamptz would round to microseconds. Offsets are offsets of <feed>.trades in
-- the symbol's partition. Everything a feed owns hangs on `symbol` or carries `feed`.

CREATE TABLE symbol (
    symbol_id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    feed        text NOT NULL,
    symbol      text NOT NULL,
    -- The finest decimals seen so far: prices are whole multiples of 10^-price_scale, sizes of 10^-size_scale.
    price_scale smallint NOT NULL DEFAULT 0,
    size_scale  smallint NOT NULL DEFAULT 0,
    UNIQUE (feed, symbol)
);

-- Which conditions count: a bar names the rule set it was made by.
CREATE TABLE rule_set (
    rules smallint PRIMARY KEY,
    name  text NOT NULL UNIQUE
);
INSERT INTO rule_set VALUES (1, 'all-trades-v1');

-- One row per symbol and second with a trade in it. Partitioned by UTC day; days are made ahead and dropped by age.
-- state    0 OPEN, 1 CLOSED, 2 REVISED, 3 FINAL, as of the checkpoint of the row's last write (FINAL follows later)
-- session  0 closed, 1 pre, 2 regular, 3 post
-- source   0 live (through the log), 1 import (from a file)
CREATE TABLE bar_1s (
    symbol_id      integer NOT NULL,
    start          timestamptz NOT NULL,
    trade_date     date NOT NULL,
    session        smallint NOT NULL,
    open           double precision NOT NULL,
    high           double precision NOT NULL,
    low            double precision NOT NULL,
    close          double precision NOT NULL,
    volume         numeric NOT NULL,
    notional       numeric NOT NULL,
    price_scale    smallint NOT NULL,
    size_scale     smallint NOT NULL,
    trades         bigint NOT NULL,
    revision       integer NOT NULL,
    state          smallint NOT NULL,
    incomplete     boolean NOT NULL,
    rules          smallint NOT NULL,
    source         smallint NOT NULL,
    -- Order keys (event_ts, offset, index in the record) of the trades that gave open and close.
    open_ts        bigint NOT NULL,
    open_offset    bigint NOT NULL,
    open_index     bigint NOT NULL,
    close_ts       bigint NOT NULL,
    close_offset   bigint NOT NULL,
    close_index    bigint NOT NULL,
    -- The range of the log that the bar's trades come from, and the offset as of which the row last changed.
    first_offset   bigint NOT NULL,
    last_offset    bigint NOT NULL,
    changed_offset bigint NOT NULL,
    PRIMARY KEY (symbol_id, start)
) PARTITION BY RANGE (start);

CREATE TABLE bar_1m (LIKE bar_1s, PRIMARY KEY (symbol_id, start)) WITH (fillfactor = 70);
CREATE TABLE bar_1h (LIKE bar_1s, PRIMARY KEY (symbol_id, start)) WITH (fillfactor = 50);
-- One row per trading day of the feed's calendar; `start` is where that day begins.
CREATE TABLE bar_1d (LIKE bar_1s, PRIMARY KEY (symbol_id, start)) WITH (fillfactor = 50);
CREATE INDEX bar_1d_trade_date ON bar_1d (trade_date, symbol_id);

-- Raw trades, only for feeds that ask for it. (partition, log_offset, idx) names a trade: idx is its place in the
-- record, counted from 0. `conditions` points into condition_set.
CREATE TABLE condition_set (
    condition_set_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    codes            text[],   -- NULL: the feed sent null
    key              text NOT NULL UNIQUE
);
CREATE TABLE trade (
    day              date NOT NULL,
    feed_id          integer NOT NULL,
    partition        smallint NOT NULL,
    log_offset       bigint NOT NULL,
    idx              integer NOT NULL,
    symbol_id        integer NOT NULL,
    event_ts         bigint NOT NULL,
    price            double precision NOT NULL,
    size             double precision NOT NULL,
    condition_set_id integer NOT NULL,
    PRIMARY KEY (day, feed_id, partition, log_offset, idx)
) PARTITION BY RANGE (day);
CREATE TABLE feed (
    feed_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    feed    text NOT NULL UNIQUE
);

-- The partitions by day of bar_1s and trade. Retention looks at both the day and the day of creation, so that an
-- import of an old file is kept as long as a live day.
CREATE TABLE day_partition (
    parent     text NOT NULL,
    day        date NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (parent, day)
);

-- How far a feed's log is in these tables: the first offset not applied yet. Written in the transaction that applies.
-- rolled_offset: changes of bar_1s from this offset on, of bars that start at rolled_from_s (Unix seconds) or later, may
--   still be missing in the roll-ups.
-- published_offset, published_from_s: the same for <feed>.bars.
CREATE TABLE checkpoint (
    feed             text NOT NULL,
    partition        integer NOT NULL,
    topic_id         text NOT NULL,
    next_offset      bigint NOT NULL,
    rolled_offset    bigint NOT NULL,
    rolled_from_s    bigint NOT NULL,
    published_offset bigint NOT NULL,
    published_from_s bigint NOT NULL,
    append_ts        bigint NOT NULL,   -- LogAppendTime of the newest record applied
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (feed, partition)
);

-- Append-only, as the log is: who owned a symbol from which offset on, and where each (partition, epoch)
-- stood when the log was applied up to `as_of_offset`.
CREATE TABLE owner (
    feed         text NOT NULL,
    partition    integer NOT NULL,
    symbol_id    integer NOT NULL,
    epoch        bigint NOT NULL,
    from_offset  bigint NOT NULL,
    -- What the symbol's watermark had reached then: it never falls, so this is the floor under the new owner's.
    watermark_ts bigint NOT NULL,
    PRIMARY KEY (feed, partition, symbol_id, from_offset)
);
CREATE TABLE epoch_state (
    feed         text NOT NULL,
    partition    integer NOT NULL,
    epoch        bigint NOT NULL,
    as_of_offset bigint NOT NULL,
    last_seq     bigint NOT NULL,
    watermark_ts bigint NOT NULL,
    PRIMARY KEY (feed, partition, epoch, as_of_offset)
);
-- Times in which trades of some symbols may be missing.
CREATE TABLE gap (
    feed       text NOT NULL,
    partition  integer NOT NULL,
    log_offset bigint NOT NULL,
    reason     text NOT NULL,
    from_ts    bigint NOT NULL,
    to_ts      bigint NOT NULL,
    dropped    bigint NOT NULL,
    symbol_ids integer[] NOT NULL,
    PRIMARY KEY (feed, partition, log_offset, reason)
);

CREATE INDEX gap_to_ts ON gap (feed, to_ts);

-- What could not be used, with the reason; bounded by age.
CREATE TABLE quarantine (
    feed       text NOT NULL,
    partition  integer NOT NULL,
    log_offset bigint NOT NULL,
    idx        integer NOT NULL,
    reason     text NOT NULL,
    detail     text NOT NULL,
    noted_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (feed, partition, log_offset, idx, reason)
);

-- For people: names instead of numbers, and the volume-weighted average price.
CREATE VIEW bars AS
SELECT s.feed, s.symbol, b.interval, b.start, b.trade_date,
       (ARRAY['closed', 'pre', 'regular', 'post'])[b.session + 1] AS session,
       b.open, b.high, b.low, b.close, b.volume,
       CASE WHEN b.volume > 0 THEN (b.notional / b.volume)::double precision END AS vwap,
       b.trades, b.revision, (ARRAY['OPEN', 'CLOSED', 'REVISED', 'FINAL'])[b.state + 1] AS state, b.incomplete,
       r.name AS rules, (ARRAY['live', 'import'])[b.source + 1] AS source, b.first_offset, b.last_offset
FROM (
    SELECT '1s' AS interval, bar_1s.* FROM bar_1s
    UNION ALL SELECT '1m', bar_1m.* FROM bar_1m
    UNION ALL SELECT '1h', bar_1h.* FROM bar_1h
    UNION ALL SELECT '1d', bar_1d.* FROM bar_1d
) b
JOIN symbol s USING (symbol_id)
JOIN rule_set r USING (rules);
