#!/bin/sh
# cluster-id | unregister.
exec "$(dirname "$(readlink -f "$0")")/kafka-run-class.sh" org.apache.kafka.tools.ClusterTool "$@"
