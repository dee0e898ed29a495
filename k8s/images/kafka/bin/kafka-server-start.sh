#!/bin/sh
# kafka-server-start.sh server.properties [--override name=value]...
set -eu
home=$(dirname "$(dirname "$(readlink -f "$0")")")
if [ $# -eq 0 ]; then
    echo "usage: $0 server.properties [--override name=value]..." >&2
    exit 1
fi
: "${KAFKA_HEAP_OPTS:=-Xmx1G -Xms1G}"
: "${KAFKA_LOG4J_OPTS:=-Dlog4j2.configurationFile=$home/config/log4j2.yaml}"
export KAFKA_HEAP_OPTS KAFKA_LOG4J_OPTS
exec "$home/bin/kafka-run-class.sh" kafka.Kafka "$@"
