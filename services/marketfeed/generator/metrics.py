"""The generator's metrics."""

from marketfeed.runtime.metrics import counter, gauge

TRADES = counter("generator_trades_total", "Trades and updates handed to sockets, each once however often it is sent.")
BYTES = counter("generator_bytes_total", "Bytes of frames handed to sockets.")
SKIPPED = counter("generator_slices_skipped_total", "Slices of 5 ms passed over: too far behind the schedule.")
CONNECTIONS = gauge("generator_connections", "Clients connected at present.")
SLOW_CLOSED = counter("generator_slow_closed_total", "Connections closed because their client did not read.")
REFUSED = counter("generator_refused_total", "Handshakes and subscriptions refused.", ("reason",))
FAULTS = counter("generator_faults_total", "Faults that began.", ("kind",))
BEHIND = gauge("generator_behind_seconds", "How far sending is behind the schedule, lag on purpose excluded.")
