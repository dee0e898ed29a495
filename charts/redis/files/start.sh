# `run` becomes the server, `ping` asks it whether it serves: it does not while it loads its file.
set -eu

run() {
    umask 077
    # In double quotes, as the configuration file reads them.
    password=$(sed 's/["\\]/\\&/g' /etc/redis-auth/password)
    { cat /etc/redis/server.conf; printf 'requirepass "%s"\n' "$password"; } > /run/redis/server.conf
    exec "$SERVER" /run/redis/server.conf
}

ping() {
    REDISCLI_AUTH=$(cat /etc/redis-auth/password)
    export REDISCLI_AUTH
    [ "$("$CLI" -h 127.0.0.1 -p 6379 ping)" = PONG ]
}

"$1"
