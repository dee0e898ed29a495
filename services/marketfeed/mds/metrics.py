"""Every metric of mds, by name."""

from __future__ import annotations

from marketfeed.runtime.metrics import counter, gauge, histogram

CLIENTS = gauge("mds_clients", "WebSocket clients connected")
SUBSCRIPTIONS = gauge("mds_subscriptions", "symbols subscribed, summed over clients")
REFUSED = counter("mds_refused_total", "handshakes and requests refused", ("reason",))
GOODBYES = counter("mds_goodbyes_total", "connections that the server ended", ("code",))
GRPC_CALLS = counter("mds_grpc_calls_total", "calls of gRPC begun", ("method",))
BAD_MESSAGES = counter("mds_bad_messages_total", "client messages answered with an error", ("code",))
WRITES = counter("mds_writes_total", "writes to client sockets, each of one or more messages")
FRAMES_JOINED = counter("mds_frames_joined_total", "messages joined into the bytes that clients share")
SENT_BYTES = counter("mds_sent_bytes_total", "bytes written to client sockets")
CONFLATED = counter("mds_conflated_total", "updates merged into newer ones because a client was slow")
TICK_S = histogram("mds_tick_seconds", "duration of one fan-out turn")
TICK_LATE_S = histogram("mds_tick_late_seconds", "how late a fan-out turn began")
LAG_S = gauge("mds_lag_seconds", "age of the newest record applied, by its append stamp, while records are waiting")
TRADES = counter("mds_trades_total", "trades applied from the log")
APPLY_S = histogram("mds_apply_seconds", "duration of applying one poll of the log")
SNAPSHOT_S = histogram("mds_snapshot_seconds", "from a client's wish to its snapshot", ("source",))
SNAPSHOTS_FAILED = counter("mds_snapshots_incomplete_total", "snapshots sent without history", ("reason",))
HELD_BARS = gauge("mds_held_bars", "bars held in memory")
LOST_ORPHANS = gauge("mds_lost_orphans", "late-changed bars that were given up because too many waited for the store")
READ_BACK = counter("mds_read_back_total", "bars read back from storage because late trades changed them")
MALFORMED = counter("mds_malformed_records_total", "records of the log that could not be read")
RESUMES = counter("mds_resumes_total", "clients that came back with a position", ("outcome",))
READ_BACK_S = histogram("mds_tape_read_back_seconds", "reading the log again for a client that came back")
TAPE_BYTES = gauge("mds_tape_bytes", "bytes of the tape held for clients that resume")
