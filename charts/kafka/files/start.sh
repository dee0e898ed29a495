# The life of a Kafka node: `prepare` writes its configuration and formats its disk once, `run` becomes the broker,
# `live` and `ready` ask it, in Kafka's protocol, what a probe wants to know.
set -eu

data=/var/lib/kafka/data
properties=/run/kafka/server.properties

# $JAVA_OPTIONS is a list of words.
java_with_jars() {
    exec "$JAVA" $JAVA_OPTIONS -cp "$LIBS/*" -Dlog4j2.configurationFile=/etc/kafka/log4j2.yaml -Djava.awt.headless=true "$@"
}

prepare() {
    node=${HOSTNAME##*-}
    {
        cat /etc/kafka/server.properties
        echo "node.id=$node"
        echo "advertised.listeners=PLAINTEXT://$HOSTNAME.$DOMAIN:9092"
    } > "$properties"
    if [ -s "$data/meta.properties" ]; then
        echo "node $node: the disk is formatted, cluster $(sed -n 's/^cluster.id=//p' "$data/meta.properties")"
    else
        JAVA_OPTIONS="-Xmx128m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
        java_with_jars kafka.tools.StorageTool format --ignore-formatted --cluster-id "$CLUSTER_ID" \
            --config "$properties"
    fi
}

run() {
    java_with_jars kafka.Kafka "$properties"
}

# Send a request (its length first, as printf's escapes), and print the first $2 bytes of the answer in hexadecimal.
ask() {
    exec 3<> /dev/tcp/127.0.0.1/9092 || exit 1
    printf "$1" >&3
    timeout 4 head -c "$2" <&3 | od -An -v -tx1 | tr -d ' \n'
}

# ApiVersions 0: answered by the broker alone, so a lost quorum restarts nobody. After length and correlation id comes
# the error.
live() {
    answer=$(ask '\0\0\0\016\0\022\0\0\0\0\0\1\0\4live' 10)
    [ "${answer:8:12}" = 000000010000 ] || fail "a broker that answers ApiVersions" "$answer"
}

# DescribeQuorum 0: the broker passes it to the leader of the metadata quorum, so it is answered only if this node
# knows a leader that leads. Looked at: the error of the request, the error of the partition, the sign of the leader's id.
ready() {
    topic=__cluster_metadata
    answer=$(ask "\\0\\0\\0\\054\\0\\067\\0\\0\\0\\0\\0\\2\\0\\5ready\\0\\2\\023$topic\\2\\0\\0\\0\\0\\0\\0\\0" 42)
    [ "${answer:8:14}" = 00000002000000 ] || fail "an answer from the metadata quorum" "$answer"
    [ "${answer:72:4}" = 0000 ] || fail "a metadata quorum without an error" "$answer"
    [ "${answer:76:1}" = 0 ] || fail "a metadata quorum with a leader" "$answer"
}

fail() {
    echo "expected $1, got ${2:-no answer}" >&2
    exit 1
}

"$1"
