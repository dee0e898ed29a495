-- A feed's log may be replaced under the same name, and offsets then begin at 0 again: whatever is named by an offset
-- has to say of which log.
CREATE TABLE log (
    log_id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    feed     text NOT NULL,
    topic_id text NOT NULL,
    UNIQUE (feed, topic_id)
);

-- Raw trades stored so far belong to the log that their feed has now: its number is the feed's.
INSERT INTO log (log_id, feed, topic_id) OVERRIDING SYSTEM VALUE
SELECT f.feed_id, f.feed, coalesce((SELECT min(c.topic_id) FROM checkpoint c WHERE c.feed = f.feed), '') FROM feed f;
SELECT setval(pg_get_serial_sequence('log', 'log_id'), coalesce((SELECT max(log_id) FROM log), 0) + 1, false);
ALTER TABLE trade RENAME COLUMN feed_id TO log_id;
DROP TABLE feed;

ALTER TABLE gap ADD COLUMN log_id integer NOT NULL DEFAULT 0;
ALTER TABLE gap DROP CONSTRAINT gap_pkey, ADD PRIMARY KEY (feed, log_id, partition, log_offset, reason);
ALTER TABLE gap ALTER COLUMN log_id DROP DEFAULT;

ALTER TABLE quarantine ADD COLUMN log_id integer NOT NULL DEFAULT 0;
ALTER TABLE quarantine DROP CONSTRAINT quarantine_pkey,
    ADD PRIMARY KEY (feed, log_id, partition, log_offset, idx, reason);
ALTER TABLE quarantine ALTER COLUMN log_id DROP DEFAULT;
