#!/bin/sh
# format | info | random-uuid: the folders of a node.
exec "$(dirname "$(readlink -f "$0")")/kafka-run-class.sh" kafka.tools.StorageTool "$@"
