-- Orders, their fills and their steps, and the place in the tape that they belong to: one transaction writes them all.
--
-- Prices are integers of 10^-9 of the currency, quantities of 10^-9 of a share; columns ending in _ts are Unix
-- nanoseconds. Numbers of enumerations are those of marketfeed/v1/orders.proto.
CREATE SCHEMA orders;

-- One row per feed, and the first statement of every transaction: whoever does not find the version it expects was
-- overtaken by another writer and writes nothing.
-- position  opaque, as mds gives it: everything before it has acted on the orders; empty before the first tape
-- tape      counts the tapes: prints are named by (tape, partition, offset, idx), as a lost tape's offsets may come again
-- writer    the process that made the last claim
CREATE TABLE orders.tape_position (
    feed       text PRIMARY KEY,
    position   text NOT NULL DEFAULT '',
    tape       integer NOT NULL DEFAULT 1,
    version    bigint NOT NULL DEFAULT 0,
    writer     text NOT NULL DEFAULT '',
    next_order bigint NOT NULL DEFAULT 1,
    next_fill  bigint NOT NULL DEFAULT 1,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- The newest update number of each account.
CREATE TABLE orders.account (
    feed      text NOT NULL,
    account   text NOT NULL,
    update_no bigint NOT NULL,
    PRIMARY KEY (feed, account)
);

-- Every order as it stands.
CREATE TABLE orders.placed (
    feed            text NOT NULL,
    order_no        bigint NOT NULL,
    account         text NOT NULL,
    client_order_id text NOT NULL,
    symbol          text NOT NULL,
    side            smallint NOT NULL CHECK (side IN (1, 2)),
    type            smallint NOT NULL CHECK (type IN (1, 2)),
    time_in_force   smallint NOT NULL CHECK (time_in_force IN (1, 2, 3)),
    quantity        bigint NOT NULL CHECK (quantity > 0),
    limit_price     bigint NOT NULL CHECK (limit_price >= 0),
    state           smallint NOT NULL CHECK (state BETWEEN 1 AND 8),
    filled_quantity bigint NOT NULL,
    filled_notional numeric(40) NOT NULL,
    reason          text NOT NULL,
    accepted_ts     bigint NOT NULL,
    updated_ts      bigint NOT NULL,
    update_no       bigint NOT NULL,
    replaces        bigint NOT NULL,
    replaced_by     bigint NOT NULL,
    queued_ts       bigint NOT NULL,
    priority        bigint NOT NULL,
    expires_ts      bigint NOT NULL,
    suspended_until bigint NOT NULL,
    PRIMARY KEY (feed, order_no),
    -- The idempotency key.
    UNIQUE (feed, account, client_order_id),
    CHECK (filled_quantity BETWEEN 0 AND quantity),
    CHECK ((state = 3) = (filled_quantity = quantity))
);
CREATE INDEX placed_working ON orders.placed (feed, order_no) WHERE state IN (1, 2, 8);
CREATE INDEX placed_by_account ON orders.placed (feed, account, order_no);
CREATE INDEX placed_by_update ON orders.placed (feed, account, update_no);

-- Every fill. Fills of market orders have no print. A print fills an order once at most.
CREATE TABLE orders.fill (
    feed       text NOT NULL,
    fill_no    bigint NOT NULL,
    order_no   bigint NOT NULL,
    quantity   bigint NOT NULL CHECK (quantity > 0),
    price      bigint NOT NULL,
    event_ts   bigint NOT NULL,
    tape       integer,
    partition  integer,
    log_offset bigint,
    idx        integer,
    PRIMARY KEY (feed, fill_no),
    FOREIGN KEY (feed, order_no) REFERENCES orders.placed (feed, order_no),
    UNIQUE (feed, tape, partition, log_offset, idx, order_no),
    CHECK (num_nulls(tape, partition, log_offset, idx) IN (0, 4))
);
CREATE INDEX fill_by_order ON orders.fill (feed, order_no, fill_no);

-- Every step of every order, by the account's update number; from_state is NULL for a new order.
CREATE TABLE orders.transition (
    feed       text NOT NULL,
    account    text NOT NULL,
    update_no  bigint NOT NULL,
    order_no   bigint NOT NULL,
    from_state smallint,
    to_state   smallint NOT NULL,
    reason     text NOT NULL,
    at_ts      bigint NOT NULL,
    fill_no    bigint,
    PRIMARY KEY (feed, account, update_no),
    FOREIGN KEY (feed, order_no) REFERENCES orders.placed (feed, order_no),
    -- The table in domain/order_states.py, as from * 10 + to.
    CONSTRAINT allowed CHECK (coalesce(from_state, 0) * 10 + to_state IN (
        1, 7, 12, 13, 14, 15, 16, 18, 22, 23, 24, 25, 26, 28, 81, 82, 84, 86, 88
    ))
);
CREATE INDEX transition_by_order ON orders.transition (feed, order_no, update_no);
