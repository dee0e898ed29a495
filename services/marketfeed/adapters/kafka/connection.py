"""What every client of Kafka here has in common: how it reconnects, and where its log lines go."""

from __future__ import annotations

import logging
from typing import Any

client_log = logging.getLogger("marketfeed.kafka")

CONNECTION: dict[str, Any] = {
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1_000,  # a broker that returns is found within a second
    "socket.connection.setup.timeout.ms": 5_000,
    "topic.metadata.refresh.interval.ms": 30_000,
    "socket.nagle.disable": True,
    "log.connection.close": False,
}
