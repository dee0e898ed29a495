# The life of a PostgreSQL server: `prepare` makes the data folder at the first start and sets the role's password at
# every one, `run` becomes the server, `live` and `ready` ask it.
set -eu

# Statements from stdin, one a line, without a server. The first error ends it.
alone() {
    "$BIN/postgres" --single -D "$1" -c config_file=/etc/postgresql/postgresql.conf -c exit_on_error=on \
        -c log_min_messages=fatal postgres > /dev/null
}

prepare() {
    umask 077
    if [ -s "$PGDATA/PG_VERSION" ]; then
        check_version
    else
        make_data
    fi
    chmod 700 "$PGDATA"
    # In single quotes, as SQL reads them.
    password=$(sed "s/'/''/g" /etc/postgresql-auth/password)
    printf "ALTER ROLE \"%s\" LOGIN PASSWORD '%s'\n" "$ROLE" "$password" | alone "$PGDATA"
}

check_version() {
    found=$(cat "$PGDATA/PG_VERSION")
    server=$("$BIN/postgres" -V | sed 's/.* \([0-9]*\)\..*/\1/')
    if [ "$found" != "$server" ]; then
        echo "the data in $PGDATA is PostgreSQL $found's and this image holds $server: dump and restore, or pg_upgrade" >&2
        exit 1
    fi
}

# In a folder beside, which gets the name when it is complete: an interrupted first start leaves no half.
make_data() {
    fresh=$PGDATA.new
    rm -rf "$fresh"
    mkdir -p "${PGDATA%/*}"
    "$BIN/initdb" -D "$fresh" -U postgres -E UTF8 --locale-provider=builtin --builtin-locale=C.UTF-8 --locale=C \
        --auth=reject --no-instructions
    printf 'CREATE ROLE "%s"\nCREATE DATABASE "%s" OWNER "%s"\n' "$ROLE" "$DATABASE" "$ROLE" | alone "$fresh"
    mv "$fresh" "$PGDATA"
}

run() {
    exec "$BIN/postgres" -D "$PGDATA" -c config_file=/etc/postgresql/postgresql.conf
}

# 0 accepts connections, 1 answers but starts or ends: both live.
live() {
    code=0
    "$BIN/pg_isready" -q -h 127.0.0.1 -t 2 || code=$?
    [ "$code" -le 1 ]
}

ready() {
    "$BIN/pg_isready" -q -h 127.0.0.1 -t 2
}

"$1"
