"""All metrics of ingest."""

from __future__ import annotations

from marketfeed.runtime.metrics import counter, gauge, histogram

RECEIVED = counter("ingest_trades_received_total", "Trades in frames of the feed, before any rule")
PUBLISHED = counter("ingest_trades_published_total", "Trades that Kafka has acknowledged")
REPEATED_FRAMES = counter("ingest_frames_repeated_total", "Frames byte-identical to one within two seconds, dropped")
REPEATED_TRADES = counter("ingest_trades_repeated_total", "Trades set off against the log or the last connection")
QUARANTINED = counter("ingest_quarantined_total", "Trades or frames refused, by reason", ["reason"])
DROPPED = counter("ingest_trades_dropped_total", "Trades for which memory and spool had no room; each is in a Gap")
GAPS = counter("ingest_gaps_total", "Gaps written to the log, by reason", ["reason"])
FEED_ERRORS = counter("ingest_feed_errors_total", "In-band errors of the feed")
RECONNECTS = counter("ingest_reconnects_total", "Tries to connect to the feed after the first")
REFUSED = counter("ingest_handshakes_refused_total", "Handshakes answered with something else than 101")
WATCHDOG_CUTS = counter("ingest_watchdog_cuts_total", "Connections cut because nothing came")
FAILOVERS = counter("ingest_producer_failovers_total", "Producers replaced after an error they could not mend")
CONNECTED = gauge("ingest_connected", "1 while the feed's connection stands")
LIVE_SYMBOLS = gauge("ingest_symbols_live", "Symbols that this process speaks for")
WANTED_SYMBOLS = gauge("ingest_symbols_wanted", "Symbols that the plan gives to this process")
SILENT_SYMBOLS = gauge("ingest_symbols_silent", "Followed symbols of which nothing came for the configured time")
SILENCE_S = gauge("ingest_longest_silence_seconds", "Age of the word there is of the most silent symbol")
EVENT_AGE_S = gauge("ingest_last_event_age_seconds", "Our clock less the watermark")
UNACKED_TRADES = gauge("ingest_unacknowledged_trades", "Trades in memory that Kafka has not acknowledged")
UNACKED_RECORDS = gauge("ingest_unacknowledged_records", "Records in memory that Kafka has not acknowledged")
UNACKED_BYTES = gauge("ingest_unacknowledged_bytes", "Their bytes")
BUFFERED_TRADES = gauge("ingest_buffered_trades", "Trades held for symbols that this process does not speak for yet")
SPOOL_BYTES = gauge("ingest_spool_bytes", "Bytes in the spool on disk, a previous run's included")
SPOOL_RECORDS = gauge("ingest_spool_records", "Records in the spool that were not sent yet")
SPOOL_ERRORS = gauge("ingest_spool_errors", "Writes that the disk refused, and damaged records")
FLUSH_S = histogram("ingest_flush_seconds", "Time to judge, cut and hand over what came since the last flush")
