"""Kafka, and the only importer of its client: topics of a feed, the log's writer and its readers.

admin     LogAdmin: creates, checks, describes and deletes the topics
producer  LogProducer: keeps every record until it is acknowledged; after a failure another one re-sends them in order
consumer  LogConsumer: reads assigned partitions from given offsets; a trimmed or replaced log is an error

The client reconnects by itself; what it logs goes to the logger `marketfeed.kafka`. Nothing else here retries for its
caller, except that LogAdmin waits, within its timeout, until the brokers agree on what was created, deleted or moved.
"""

from marketfeed.adapters.kafka.admin import LogAdmin, bars_topic, control_topic, trades_topic
from marketfeed.adapters.kafka.consumer import LogConsumer
from marketfeed.adapters.kafka.producer import LogProducer, Sent

__all__ = ["LogAdmin", "LogConsumer", "LogProducer", "Sent", "bars_topic", "control_topic", "trades_topic"]
