"""All metrics of `history`."""

from marketfeed.runtime.metrics import counter

ROWS = counter("history_rows_total", "Trades read from files")
BAD_LINES = counter("history_bad_lines_total", "Lines that could not be used", ["reason"])
BARS_WRITTEN = counter("history_bars_written_total", "Bars written to PostgreSQL by an import")
TRADES_SENT = counter("history_trades_sent_total", "Trades acknowledged by Kafka in a replay")
