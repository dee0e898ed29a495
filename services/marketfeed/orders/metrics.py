"""Every metric of the order service, by name."""

from __future__ import annotations

from marketfeed.runtime.metrics import counter, gauge, histogram

CALLS = counter("orders_grpc_calls_total", "calls of gRPC begun", ("method",))
DENIED = counter("orders_denied_total", "calls refused for want of a token or a right", ("reason",))
REFUSED = counter("orders_refused_total", "commands refused", ("reason",))
STEPS = counter("orders_steps_total", "steps of orders stored, by the state they lead to", ("state",))
FILLS = counter("orders_fills_total", "fills stored", ("kind",))
WORKING = gauge("orders_working", "working orders")
SUSPENDED = gauge("orders_suspended", "working orders that wait for fresh tape")
PRINTS = counter("orders_prints_total", "trades of the tape that were taken in")
PRINTS_LOOKED_AT = counter("orders_prints_looked_at_total", "those that could touch an order")
TURN_COMMANDS = histogram(
    "orders_turn_commands", "commands of one commit", buckets=(0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
)
COMMIT_S = histogram("orders_commit_seconds", "duration of one commit")
APPLY_S = histogram("orders_apply_seconds", "duration of what a turn does in memory")
TAPE_AGE_S = gauge("orders_tape_age_seconds", "age of what is known of the tape, -1 before the first of it")
TAPES_LOST = counter("orders_tapes_lost_total", "streams that could not go on where the last one ended")
SESSIONS = counter("orders_sessions_total", "stays as the writer begun")
OVERTAKEN = counter("orders_overtaken_total", "stays ended by another writer")
WRITER = gauge("orders_writer", "whether this process is the writer")
STREAMS = gauge("orders_streams", "StreamOrders calls")
STREAMS_TOO_SLOW = counter("orders_streams_too_slow_total", "streams ended because their client took too little")
