"""The recorder's metrics; `sink` is store or cache."""

from marketfeed.runtime.metrics import counter, gauge, histogram

TRADES = counter("recorder_trades_total", "Trades counted and committed.", ("sink",))
BARS = counter("recorder_bars_total", "Rows of one-second bars, or cells of seconds, written.", ("sink",))
FLUSHES = counter("recorder_flushes_total", "Commits.", ("sink",))
FLUSH_SECONDS = histogram("recorder_flush_seconds", "Time of a commit, from first statement to last.", ("sink",))
REFUSALS = counter(
    "recorder_refusals_total", "Commits refused because another writer had moved the position.", ("sink",)
)
FAILURES = counter("recorder_failures_total", "Commits lost because a server was away.", ("sink",))
LAG_SECONDS = gauge("recorder_lag_seconds", "Age of the newest record applied while there are more; else 0.", ("sink",))
BEHIND_RECORDS = gauge("recorder_behind_records", "Records of the log not applied yet.", ("sink",))
IGNORED = counter(
    "recorder_ignored_trades_total", "Trades that do not count, by the readers' rule.", ("sink", "reason")
)
LATE_FINAL = counter(
    "recorder_late_after_final_total", "Trades of bars that were FINAL: quarantined, in no bar.", ("sink",)
)
MALFORMED = counter("recorder_malformed_records_total", "Records that could not be decoded.", ("sink",))
ROLLED = counter("recorder_rollups_total", "Roll-up bars made.", ("interval",))
PUBLISHED = counter("recorder_published_bars_total", "Bars sent to <feed>.bars and acknowledged.")
