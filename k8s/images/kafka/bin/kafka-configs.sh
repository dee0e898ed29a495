#!/bin/sh
# --describe and --alter of topics and brokers.
exec "$(dirname "$(readlink -f "$0")")/kafka-run-class.sh" kafka.admin.ConfigCommand "$@"
