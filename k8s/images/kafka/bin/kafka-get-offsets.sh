#!/bin/sh
# Ends of a topic's partitions.
exec "$(dirname "$(readlink -f "$0")")/kafka-run-class.sh" org.apache.kafka.tools.GetOffsetShell "$@"
