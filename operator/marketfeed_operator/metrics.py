"""The operator's own metrics. Names begin with `marketfeed_operator_`, units come last."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_PREFIX = "marketfeed_operator_"
_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

RECONCILES = Counter(_PREFIX + "reconciles_total", "Reconciles that ended, by result", ["result"])
RECONCILE_S = Histogram(_PREFIX + "reconcile_seconds", "Time of one reconcile", buckets=_BUCKETS_S)
RECONCILE_ERRORS = Counter(_PREFIX + "reconcile_errors_total", "Reconciles that failed, by reason", ["reason"])
TRIGGERS = Counter(_PREFIX + "triggers_total", "What asked for a reconcile", ["source"])
EVENTS_IGNORED = Counter(_PREFIX + "watch_events_ignored_total", "Watch events that changed nothing of ours", ["kind"])
APPLIES = Counter(_PREFIX + "applies_total", "Server-side applies of children and status, by kind", ["kind"])
DELETES = Counter(_PREFIX + "deletes_total", "Children deleted, by kind", ["kind"])
DRIFT = Counter(_PREFIX + "drift_repaired_total", "Children that were missing or changed by others, by kind", ["kind"])
STATUS_WRITES = Counter(_PREFIX + "status_writes_total", "Writes of a MarketFeed's status")
QUEUE_DEPTH = Gauge(_PREFIX + "queue_depth", "MarketFeeds that wait for a reconcile, back-off included")
QUEUE_OLDEST_S = Gauge(_PREFIX + "queue_oldest_seconds", "How long the most overdue MarketFeed has waited for a worker")
QUEUE_DROPPED = Counter(_PREFIX + "queue_dropped_total", "Requests to reconcile that found the queue full")
REQUESTS = Counter(_PREFIX + "api_requests_total", "Requests to the API server, by verb and status", ["verb", "status"])
LEADER = Gauge(_PREFIX + "leader", "1 while this replica holds the Lease and works")
LEASE_TRANSITIONS = Counter(_PREFIX + "lease_transitions_total", "Times this replica became or ceased to be the leader")
WATCH_AGE_S = Gauge(_PREFIX + "watch_age_seconds", "Time since a watch said anything, bookmarks included", ["kind"])
WATCH_RESTARTS = Counter(
    _PREFIX + "watch_restarts_total", "Times all watches were started anew: after an error, or as one had to list again"
)
NAMESPACES_UNREADABLE = Gauge(
    _PREFIX + "namespaces_unreadable", "Namespaces to be served that this replica leads and may not list or watch"
)
POLLS = Counter(_PREFIX + "polls_total", "Questions to pods' /status, by result", ["result"])
EVENTS = Counter(_PREFIX + "events_total", "Kubernetes Events, by what became of them", ["result"])
SYMBOLS_MOVED = Counter(_PREFIX + "symbols_moved_total", "Symbols that a new plan gave to another shard")
FEEDS = Gauge(_PREFIX + "feeds", "MarketFeeds whose condition of that type is True", ["condition"])
FEED_INFO = Gauge(
    _PREFIX + "feed_info",
    "1 for each MarketFeed seen lately, with its source and whether it is ready and degraded",
    ["feed_namespace", "feed", "source", "ready", "degraded"],
)
