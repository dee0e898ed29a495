#!/bin/sh
# Which requests every broker answers.
exec "$(dirname "$(readlink -f "$0")")/kafka-run-class.sh" org.apache.kafka.tools.BrokerApiVersionsCommand "$@"
