#!/bin/sh
# Runs a class of Kafka. Understands the variables of Kafka's own script that a chart sets: KAFKA_HEAP_OPTS,
# KAFKA_JVM_PERFORMANCE_OPTS, KAFKA_LOG4J_OPTS, KAFKA_JMX_OPTS, KAFKA_OPTS, CLASSPATH, JAVA_HOME.
set -eu
home=$(dirname "$(dirname "$(readlink -f "$0")")")
if [ $# -eq 0 ]; then
    echo "usage: $0 CLASS [ARGUMENT...]" >&2
    exit 1
fi
if [ "$1" = -daemon ]; then
    echo "$0: a container runs one process in the foreground; leave out -daemon" >&2
    exit 1
fi
: "${KAFKA_HEAP_OPTS:=-Xmx256M}"
: "${KAFKA_JVM_PERFORMANCE_OPTS:=-XX:+UseSerialGC -XX:-UsePerfData -Djava.awt.headless=true}"
: "${KAFKA_LOG4J_OPTS:=-Dlog4j2.configurationFile=$home/config/tools-log4j2.yaml}"
# Options are lists of words: they are split on purpose.
# shellcheck disable=SC2086
exec "${JAVA_HOME:-/opt/java/openjdk}/bin/java" $KAFKA_HEAP_OPTS $KAFKA_JVM_PERFORMANCE_OPTS \
    --enable-native-access=ALL-UNNAMED --sun-misc-unsafe-memory-access=allow \
    ${KAFKA_JMX_OPTS:-} $KAFKA_LOG4J_OPTS ${KAFKA_OPTS:-} \
    -cp "${CLASSPATH:+$CLASSPATH:}$home/libs/*" "$@"
